use super::*;
use crate::compare::result::{Disk, Exits};

fn settings() -> Settings {
    Settings {
        workloads: vec![Workload::Reread, Workload::Swap],
        modes: vec![Mode::Tmem],
        guest_mem: 128 << 20,
        host_mem: 64 << 20,
        cpus: 1,
        seed: 7,
        instructions_per_ns: Some(4.0),
        disk_latency: Duration::from_micros(100),
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

fn arguments(mode: Mode) -> Vec<String> {
    command(&settings(), mode, &parts(), Path::new("/tmp/marks"))
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
        kernel_command_line(&settings(), Mode::None),
        "console=ttyS0 quiet vtmem.data=/dev/vda vtmem.swap=/dev/vdb vtmem.work=reread,swap vtmem.seed=7 \
         vtmem.mem=134217728"
    );
}

#[test]
fn odd_paths_are_refused() {
    assert!(disk_argument(Path::new("/a,readonly"), Mode::None, false).is_err());
}

#[test]
fn virtual_time_is_divided() {
    let outcome = Outcome {
        nanoseconds: 6_000_000_000,
        ..Outcome::default()
    };
    let finished = Finished {
        workload: Workload::Swap,
        outcome,
        peak: 5,
    };
    let during = Difference {
        exits: Exits::default(),
        disk: Disk::default(),
        tmem: None,
        host_peak_bytes: Some(9),
    };
    let run = settings().run(Mode::None, &finished, during.clone());
    assert_eq!((run.seconds, run.host_peak_bytes), (1.5, 9));
    let wall = Settings {
        instructions_per_ns: None,
        ..settings()
    };
    let no_cgroup = Difference {
        host_peak_bytes: None,
        ..during
    };
    let run = wall.run(Mode::None, &finished, no_cgroup);
    assert_eq!((run.seconds, run.host_peak_bytes), (6.0, 5));
}

#[test]
fn a_process_has_a_peak() {
    assert!(peak_memory(std::process::id()) > 1 << 20);
    assert_eq!(peak_memory(u32::MAX), 0);
}
