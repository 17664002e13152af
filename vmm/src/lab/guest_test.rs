use super::*;
use crate::boot::BootSource;
use crate::cli::run::RunArgs;
use crate::confine::Confinement;
use clap::Parser;
use std::time::Duration;
use tmem_device::device::{Admission, DeviceConfig};
use tmem_device::tier::disk::DiskConfig;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    run: RunArgs,
}

#[test]
fn the_inner_command_line_means_the_same_machine() {
    let disk = |text: &str| text.parse().expect("disk options");
    let tmem = TmemConfig {
        size: 12345678,
        minimum: Some(4096),
        poll: Some(Duration::from_micros(70)),
        spill: Some(SpillConfig {
            disk: DiskConfig::new("/tmp/z", 16 << 20),
            dirty: Some(123456),
            ephemeral: true,
        }),
        device: DeviceConfig {
            admission: Admission::Always,
            event_fault: EventFault::Hold(6144),
        },
        record: Some("r".into()),
        access_platform: true,
    };
    let config = MachineConfig {
        boot: BootSource {
            kernel: "k".into(),
            initrd: Some("i".into()),
            cmdline: "console=ttyS0 a=\"b c\"".to_owned(),
        },
        memory: 384 << 20,
        cpus: 3,
        disks: vec![
            disk("path=/tmp/x,cache=writethrough,readonly"),
            disk("path=/tmp/y,cache=none"),
        ],
        tmem: Some(tmem.clone()),
        acpi: false,
        marks: Some("m".into()),
        confinement: Confinement::Log,
        controlled: false,
    };
    let argv = arguments(&config, &Control::default());
    let run = Command::parse_from(&argv[1..]).run;
    assert_eq!(run.cmdline, config.boot.cmdline);
    assert_eq!((run.mem, run.cpus), (config.memory, config.cpus));
    assert_eq!(run.confinement, config.confinement);
    assert_eq!(run.tmem_fault, Some(tmem.device.event_fault));
    let mut told = run.tmem.expect("a --tmem");
    told.device.event_fault = tmem.device.event_fault;
    assert_eq!(run.tmem_record, Some(RECORD.into()));
    told.record = tmem.record.clone();
    told.access_platform = run.tmem_access_platform;
    let spill = told.spill.as_mut().expect("a spill=");
    // What is asked for outside is checked there.
    assert!(spill.disk.overwrite && spill.disk.path.ends_with("vdc"));
    spill.disk = DiskConfig::new("/tmp/z", spill.disk.size);
    assert_eq!(told, tmem);
    let lab = lab_config(&config, Clock::Real);
    assert_eq!(
        (lab.disks.len(), lab.outputs),
        (3, vec![MARKS.to_owned(), RECORD.to_owned()])
    );
    assert!(run.no_acpi && run.initrd.is_some() && run.marks.is_some());
    let disks: Vec<_> = run
        .disks
        .iter()
        .map(|disk| (disk.path.to_str(), disk.cache, disk.readonly))
        .collect();
    assert_eq!(
        disks,
        [
            (Some("/dev/vda"), Cache::Writethrough, true),
            (Some("/dev/vdb"), Cache::None, false)
        ]
    );
}

#[test]
fn the_labs_memory_holds_the_guest_and_its_pool() {
    let config = MachineConfig {
        boot: BootSource {
            kernel: "/nonexistent".into(),
            initrd: None,
            cmdline: String::new(),
        },
        memory: 1 << 30,
        cpus: 1,
        disks: vec![],
        tmem: Some(TmemConfig {
            size: 2 << 30,
            ..TmemConfig::default()
        }),
        acpi: true,
        marks: None,
        confinement: Confinement::On,
        controlled: false,
    };
    let lab = lab_config(&config, Clock::Virtual);
    assert_eq!(lab.memory, BASE_MEMORY + (3 << 30));
    assert!(lab.outputs.is_empty());
}
