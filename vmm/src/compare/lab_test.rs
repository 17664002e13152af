use super::*;
use crate::compare::mode::Mode;
use crate::compare::policy::Policy;
use vtmem_workloads::workload::Workload;

fn settings() -> Settings {
    Settings {
        workloads: vec![Workload::Reread, Workload::Swap],
        variants: Mode::ALL.map(Variant::from).to_vec(),
        guest_mem: 128 << 20,
        host_mem: 64 << 20,
        seed: 7,
        record: None,
    }
}

const TIMING: Timing = Timing {
    clock: Clock::Virtual,
    instructions_per_ns: 4.0,
    disk_latency: Duration::from_micros(100),
};

#[test]
fn disks_are_as_much_slower_as_the_processor() {
    assert_eq!(TIMING.latency(), Duration::from_micros(400));
    let real = Timing {
        clock: Clock::Real,
        ..TIMING
    };
    assert_eq!((real.latency(), real.factor()), (TIMING.disk_latency, None));
}

#[test]
fn a_lab_has_both_disks_and_the_guest() {
    let data = tempfile::NamedTempFile::new().unwrap();
    data.as_file().set_len(10 << 20).unwrap();
    let mut parts = Parts {
        lab: LabImage {
            kernel: "k".into(),
            initrd: "i".into(),
            clock: "c".into(),
        },
        guest: GuestImage {
            kernel: "vmlinux".into(),
            initrd: "guest.cpio".into(),
        },
        data_disk: data.path().to_owned(),
    };
    let config = config(&settings(), &TIMING, &parts).unwrap();
    let sizes: Vec<_> = config.null_disks.iter().map(|disk| disk.size).collect();
    assert_eq!(sizes, [10 << 20, 256 << 20]);
    assert_eq!(config.files[0].1, KERNEL);
    parts.data_disk = "/no/such/disk".into();
    let error = super::config(&settings(), &TIMING, &parts).unwrap_err();
    assert!(error.starts_with("/no/such/disk: "), "{error}");
}

#[test]
fn the_inner_command_is_one_variant() {
    let plain = arguments(&settings(), Mode::Writeback.into()).join(" ");
    assert_eq!(
        plain,
        "vtmem compare --events --mode writeback --accel kvm --workload reread,swap --guest-mem 134217728 \
         --host-mem 67108864 --seed 7 --kernel /in/kernel --initrd /in/initrd --data-disk /dev/nullb0 \
         --swap-disk /dev/nullb1 --json /out/result.json"
    );
    let without = arguments(&settings(), Variant::without(Policy::NoWindows)).join(" ");
    assert_eq!(
        without,
        plain.replace("--mode writeback", "--only-policy no-windows")
    );
}

#[test]
fn labs_fit_into_memory() {
    let meminfo = "MemTotal: 9999999 kB\nMemAvailable:    5242880 kB\n";
    assert_eq!(fitting(meminfo, 2048), 2);
    assert_eq!(fitting(meminfo, 6000), 0);
    assert_eq!(fitting("", 1), 1);
}
