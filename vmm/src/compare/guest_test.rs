use super::*;
use crate::compare::policy::Policy;
use vtmem_workloads::workload::Workload;

fn settings() -> Settings {
    Settings {
        workloads: vec![Workload::Reread, Workload::Swap],
        variants: vec![Mode::Tmem.into()],
        guest_mem: 128 << 20,
        host_mem: 64 << 20,
        seed: 7,
        record: None,
    }
}

fn parts() -> Parts {
    Parts {
        kernel: "vmlinux".into(),
        initrd: "guest.cpio".into(),
        data_disk: "/dev/nullb0".into(),
        swap_disk: "/dev/nullb1".into(),
    }
}

fn arguments(variant: impl Into<Variant>) -> Vec<String> {
    command(
        &settings(),
        variant.into(),
        &parts(),
        Path::new("/tmp/marks"),
    )
    .unwrap()
    .get_args()
    .map(|argument| argument.to_str().unwrap().to_owned())
    .collect()
}

#[test]
fn modes_differ_only_in_cache_and_tmem() {
    let tmem = arguments(Mode::Tmem);
    assert!(
        tmem.contains(&"path=/dev/nullb0,cache=none,readonly".to_owned()),
        "{tmem:?}"
    );
    assert!(tmem.contains(&"path=/dev/nullb1,cache=none".to_owned()));
    assert!(tmem.contains(&format!("size={}", 64 << 20)));
    let writeback = arguments(Mode::Writeback);
    assert!(
        writeback.contains(&"path=/dev/nullb1,cache=writeback".to_owned()),
        "{writeback:?}"
    );
    assert!(!writeback.contains(&"--tmem".to_owned()));
    assert_eq!(
        kernel_command_line(&settings(), Mode::None.into()),
        "console=ttyS0 quiet vtmem.data=/dev/vda vtmem.swap=/dev/vdb vtmem.work=reread,swap vtmem.seed=7 \
         vtmem.mem=134217728"
    );
}

#[test]
fn what_is_off_is_a_parameter_of_the_driver() {
    let line = |variant| kernel_command_line(&settings(), variant);
    let tmem = line(Mode::Tmem.into());
    assert!(tmem.ends_with(" vtmem.tmem=1"), "{tmem}");
    let without = line(Variant::without(Policy::NoBatches));
    assert_eq!(without, format!("{tmem} vtmem.tmem_args=\"batch=1\""));
    assert!(arguments(Variant::without(Policy::NoBatches)).contains(&"--tmem".to_owned()));
}

#[test]
fn commas_in_paths_are_doubled() {
    let argument = disk_argument(Path::new("/a,readonly"), Mode::None, false);
    assert_eq!(argument, "path=/a,,readonly,cache=none");
    let parsed: crate::disk::DiskOptions = argument.to_str().unwrap().parse().unwrap();
    assert_eq!(parsed.path, Path::new("/a,readonly"));
}

#[test]
fn a_process_has_a_peak() {
    assert!(peak_memory(std::process::id()) > 1 << 20);
    assert_eq!(peak_memory(u32::MAX), 0);
}
