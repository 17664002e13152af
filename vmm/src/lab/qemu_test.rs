use std::fs::File;

use super::*;
use crate::lab::LabDisk;

fn descriptor() -> OwnedFd {
    File::open("/dev/null").expect("/dev/null").into()
}

fn plumbing() -> Plumbing {
    Plumbing {
        stdio: Line::Out(descriptor()),
        console: Line::Out(descriptor()),
        stderr: Line::Out(descriptor()),
        signals: Line::Both(descriptor()),
        stdin: None,
        channel: None,
        initrd: descriptor(),
        preload: None,
        memory_disks: vec![],
    }
}

fn text(config: &LabConfig, plumbing: &Plumbing) -> String {
    let args = arguments(config, Path::new("/k"), plumbing);
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    words.join(" ")
}

#[test]
fn virtual_time_means_one_cpu_and_nothing_random() {
    let mut config = LabConfig::new(Clock::Virtual);
    config.cpus = 4;
    let virtual_time = text(&config, &plumbing());
    assert!(virtual_time.contains("-accel tcg,thread=single -icount shift=0,sleep=off"));
    assert!(virtual_time.contains("-smp 1 "));
    assert!(virtual_time.contains("-seed 1 "));
    config.clock = Clock::Real;
    let real_time = text(&config, &plumbing());
    assert!(real_time.contains("-smp 4 "));
    assert!(!real_time.contains("icount") && !real_time.contains("-seed"));
}

#[test]
fn serial_lines_are_in_the_order_that_init_knows() {
    let plumbing = plumbing();
    let args = text(&LabConfig::new(Clock::Real), &plumbing);
    let ends = [
        ("stdio", &plumbing.stdio),
        ("console", &plumbing.console),
        ("stderr", &plumbing.stderr),
        ("signals", &plumbing.signals),
    ];
    let mut rest = &args[..];
    for (name, end) in ends {
        let fd = end.descriptor().as_raw_fd();
        let kind = match end {
            Line::Out(_) => format!("file,id={name},path=/proc/self/fd/{fd}"),
            Line::Both(_) => format!("socket,id={name},fd={fd}"),
        };
        let part = format!("-chardev {kind} -serial chardev:{name}");
        let place = rest.find(&part);
        rest = &rest[place.unwrap_or_else(|| panic!("{part} not in {args}"))..];
    }
    assert!(!args.contains("virtserialport"));
}

#[test]
fn disks_come_in_order_and_no_path_is_an_option() {
    let mut config = LabConfig::new(Clock::Real);
    let disk = |path: &str, readonly| LabDisk {
        path: path.into(),
        readonly,
    };
    config.disks = vec![disk("/a,readonly=off", true), disk("/b", false)];
    let args = text(&config, &plumbing());
    let places: Vec<_> = [
        "file=/a,,readonly=off,if=none,id=d0,format=raw,file.locking=off,readonly=on",
        "virtio-blk-pci,drive=d0",
        "file=/b,if=none,id=d1,format=raw,file.locking=off,readonly=off",
        "virtio-blk-pci,drive=d1",
    ]
    .map(|part| {
        args.find(part)
            .unwrap_or_else(|| panic!("{part} not in {args}"))
    })
    .into();
    assert!(places.is_sorted(), "{args}");
}

#[test]
fn there_is_room_for_the_files_in_memory() {
    let mut plumbing = plumbing();
    for (bytes, readonly) in [(4 << 20, true), (MEMORY_DISK_UNIT, false)] {
        plumbing.memory_disks.push(MemoryDisk {
            file: descriptor(),
            bytes,
            readonly,
        });
    }
    let args = text(&LabConfig::new(Clock::Real), &plumbing);
    assert!(args.contains("-m 1200M,slots=2,maxmem=1206M"), "{args}");
    let fd = plumbing.memory_disks[0].file.as_raw_fd();
    let path = format!("id=m0,share=on,mem-path=/proc/self/fd/{fd},size=4194304,readonly=on");
    assert!(args.contains(&path), "{args}");
    assert!(args.contains("nvdimm,id=n1,memdev=m1,unarmed=off"));
}

#[test]
fn the_channel_has_the_port_that_inside_knows() {
    let mut plumbing = plumbing();
    plumbing.channel = Some(Line::Both(descriptor()));
    let args = text(&LabConfig::new(Clock::Real), &plumbing);
    assert!(args.contains("virtio-serial-pci,max_ports=3 "), "{args}");
    assert!(args.contains("virtserialport,nr=2,name=channel,chardev=channel"));
    assert!(CHANNEL.ends_with("p2"));
    assert!(!args.contains("nr=1"));
}
