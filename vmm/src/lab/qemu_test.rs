use super::*;
use crate::lab::{LabDisk, NullDisk};
use std::time::Duration;

fn text(config: &LabConfig) -> String {
    let image = LabImage {
        kernel: "/k".into(),
        initrd: "/base".into(),
    };
    let files = Files {
        image: &image,
        initrd: Path::new("/i"),
        output: Path::new("/o"),
        console: Path::new("/c,1"),
    };
    let args = arguments(config, &files, [7, 8, 9]);
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    words.join(" ")
}

#[test]
fn virtual_time_means_one_cpu_and_one_thread() {
    let mut config = LabConfig::new(Clock::Virtual);
    config.cpus = 4;
    let virtual_time = text(&config);
    assert!(virtual_time.contains("-accel tcg,thread=single -icount shift=0,sleep=off"));
    assert!(virtual_time.contains("-smp 1 "));
    config.clock = Clock::Real;
    let real_time = text(&config);
    assert!(real_time.contains("-smp 4 "));
    assert!(!real_time.contains("icount"));
}

#[test]
fn disks_come_in_order_and_no_path_is_an_option() {
    let mut config = LabConfig::new(Clock::Real);
    config.disks = vec![LabDisk {
        path: "/a,readonly=off".into(),
        readonly: true,
    }];
    config.null_disks = vec![NullDisk {
        name: "nullb0".to_owned(),
        size: 1 << 20,
        latency: Duration::from_micros(1),
        block_size: 512,
        image: Some("/image".into()),
    }];
    let args = text(&config);
    let places: Vec<_> = [
        "file=/a,,readonly=off,if=none,id=d0,format=raw,file.locking=off,readonly=on",
        "file=/image,if=none,id=d1,format=raw,file.locking=off,readonly=on",
        "file=/o,if=none,id=d2,format=raw,file.locking=off,readonly=off",
        "virtio-blk-pci,drive=d0",
        "virtio-blk-pci,drive=d2",
    ]
    .map(|part| {
        args.find(part)
            .unwrap_or_else(|| panic!("{part} not in {args}"))
    })
    .into();
    assert!(places.is_sorted(), "{args}");
    assert!(args.contains("path=/c,,1"));
    assert!(args.contains("-chardev socket,id=stdio,fd=7"));
}
