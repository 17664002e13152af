//! A guest swaps more than its pool holds: the pool spills to a file of this host, every page comes back from there, and the
//! guest's own swap disk has little to do.

use serde_json::Value;

use crate::Case;
use crate::host::{Guest, guest_image, vtmem};

pub const CASES: &[Case] = &[
    Case {
        name: "spill::swap_beyond_the_pool_comes_back",
        needs_guests: true,
        alone: false,
        run: beyond_the_pool,
    },
    Case {
        name: "spill::a_file_that_holds_something_else_is_refused",
        needs_guests: true,
        alone: false,
        run: foreign_file,
    },
];

const MIB: u64 = 1 << 20;

/// Of the guest, whose working set is one and a half times as large.
const MEMORY: u64 = 96 * MIB;

fn beyond_the_pool() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (kernel, initrd) = guest_image(&[]);
    let mut script = format!(
        "vtmem-work run --workloads swap --mem {MEMORY} || exit 1\n\
         [ $(cat /sys/kernel/debug/virtio_tmem/broken) = 0 ] || exit 2\n\
         ! dmesg | grep -E 'BUG|WARNING|Oops|Call Trace|I/O error' || exit 3\n"
    )
    .into_bytes();
    script.resize(4096, b'\n');
    std::fs::write(path("script"), script).expect("write the script");
    // How much is accepted depends on how fast the spill disk is against the guest: the disks are the lab's own and time is
    // virtual, so that it does not depend on what else this machine does.
    let files = [
        (kernel, "kernel"),
        (initrd, "initrd"),
        (path("script"), "script"),
    ]
    .map(|(outside, inside)| format!("{outside}:/in/{inside}"));
    let mut args = vec!["lab", "--clock", "virtual"];
    for file in &files {
        args.extend(["--file", file]);
    }
    let marks = format!("/marks:{}", path("marks"));
    args.extend(["--output", &marks]);
    for disk in [
        "name=nullb0,size=256M,latency=100us",
        "name=nullb1,size=256M,latency=100us",
    ] {
        args.extend(["--null-disk", disk]);
    }
    args.extend(
        "-- vtmem run --kernel /in/kernel --initrd /in/initrd --mem 96M --cpus 1 --marks /marks"
            .split(' '),
    );
    args.extend(["--disk", "path=/dev/nullb0,cache=none"]);
    args.extend(["--disk", "path=/in/script,readonly"]);
    // Less than a third of what is swapped out.
    args.extend([
        "--tmem",
        "size=16M,spill=/dev/nullb1,spill-size=256M,spill-overwrite",
    ]);
    args.extend([
        "--cmdline",
        "console=ttyS0 quiet vtmem.tmem=1 vtmem.swap=/dev/vda vtmem.exec=\"sh /dev/vdb\"",
    ]);
    let run = vtmem(&args);
    let console = &run.stdout;
    assert!(
        run.status == Some(0) && console.lines().any(|line| line.trim() == "vtmem-exit: 0"),
        "{:?}\n{console}\n{}",
        run.status,
        run.stderr
    );
    let result = console
        .lines()
        .find_map(|line| line.trim().strip_prefix("vtmem-result: "))
        .unwrap_or_else(|| panic!("no result in:\n{console}"));
    let result: Value = serde_json::from_str(result).expect("a JSON result");
    assert_eq!(result["bytes_corrupt"], 0, "{result}");
    let verified = result["bytes_verified"].as_u64().expect("a count");
    assert!(verified >= MEMORY * 3 / 2, "{result}");

    let marks = std::fs::read_to_string(path("marks")).expect("read the marks");
    let last = marks.lines().last().expect("a mark");
    let last: Value = serde_json::from_str(last).expect("a JSON line");
    let count = |name: &str| {
        let value = last["tmem"][name].as_u64();
        value.unwrap_or_else(|| panic!("no {name} in {last}"))
    };
    println!("{}", last["tmem"]);
    // 16 MiB have room for 4,096 pages without their metadata.
    assert!(count("written_pages") > 8192, "{last}");
    assert!(count("reloaded_pages") > 4096, "{last}");
    assert_eq!(count("unreadable_pages"), 0);
    // The rest went to the swap disk: what came faster than the spill disk takes it.
    let accepted = count("puts") - count("puts_refused");
    assert!(accepted > 30_000, "{accepted} pages accepted: {last}");
}

fn foreign_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spill = directory.path().join("letters");
    std::fs::write(&spill, "dear").expect("write a file");
    let tmem = format!("16M,spill={},spill-size=256M", spill.display());
    let run = Guest::new("96M", 1).tmem(&tmem, "").run("true\n");
    assert_eq!(run.status(), Some(2));
    assert_eq!(std::fs::read(&spill).expect("it is there"), b"dear");
}
