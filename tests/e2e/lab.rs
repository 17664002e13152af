//! The lab: what goes in comes out, and nothing stays behind.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Case;
use crate::host::{binary, descendants, eventually, runs, vtmem};

pub const CASES: &[Case] = &[
    Case {
        name: "lab::exit_status_comes_back",
        needs_guests: true,
        alone: false,
        run: exit_status_comes_back,
    },
    Case {
        name: "lab::streams_and_files_pass_through",
        needs_guests: true,
        alone: false,
        run: streams_and_files_pass_through,
    },
    Case {
        name: "lab::virtual_time_repeats",
        needs_guests: true,
        alone: false,
        run: virtual_time_repeats,
    },
    Case {
        name: "lab::killed_leaves_no_process",
        needs_guests: true,
        alone: false,
        run: killed_leaves_no_process,
    },
];

fn exit_status_comes_back() {
    let done = vtmem(&["lab", "--", "sh", "-c", "test -c /dev/kvm && exit 42"]);
    assert_eq!(done.status, Some(42), "{}\n{}", done.stdout, done.stderr);
}

fn streams_and_files_pass_through() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("in"), "from a file\n").expect("write the input");
    let mut lab = Command::new(binary())
        .args(["lab", "--file", &format!("{}:/in/file", path("in"))])
        .args(["--output", &format!("/out/file:{}", path("out")), "--"])
        .args([
            "sh",
            "-c",
            "cat /in/file; cat; echo to-stderr >&2; mkdir -p /out; head -c 100000 /bin/vtmem | md5sum >/out/file",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start vtmem lab");
    let mut input = lab.stdin.take().expect("piped");
    // Bytes that a terminal would treat as its own business.
    input
        .write_all(b"\x03\x04\x11\x13\x1a\r\nno line end")
        .expect("feed the job");
    drop(input);
    let done = lab.wait_with_output().expect("wait for vtmem lab");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{stderr}");
    assert_eq!(
        done.stdout,
        b"from a file\n\x03\x04\x11\x13\x1a\r\nno line end"
    );
    assert!(stderr.contains("to-stderr"), "{stderr}");
    let left = fs::read_to_string(path("out")).expect("the output file");
    assert!(left.len() > 32 && left.ends_with("-\n"), "{left}");
}

fn virtual_time_repeats() {
    let run = || {
        let done = vtmem(&[
            "lab",
            "--clock",
            "virtual",
            "--null-disk",
            "name=nullb0,size=8M,latency=100us",
            "--",
            "sh",
            "-c",
            "dd if=/dev/nullb0 of=/dev/null bs=4k iflag=direct; cat /proc/uptime /proc/stat; dmesg",
        ]);
        assert_eq!(done.status, Some(0), "{}\n{}", done.stdout, done.stderr);
        done.stdout
    };
    let first = run();
    assert!(first.lines().count() > 50, "{first}");
    assert_eq!(first, run(), "two runs in virtual time differ");
}

fn killed_leaves_no_process() {
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let mut lab = Command::new(binary())
            .args(["lab", "--", "sh", "-c", "sleep 1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start vtmem lab");
        let appeared = eventually(Duration::from_secs(60), || {
            !descendants(lab.id()).is_empty()
        });
        assert!(appeared, "the lab started no emulator");
        let children = descendants(lab.id());
        // SAFETY: signals a child of ours that has not been waited for, so the id is still its own.
        unsafe { libc::kill(lab.id().try_into().expect("a pid"), signal) };
        lab.wait().expect("wait for vtmem lab");
        let gone = eventually(Duration::from_secs(20), || {
            !children.iter().any(|&pid| runs(pid))
        });
        assert!(gone, "after signal {signal} some of {children:?} still run");
    }
}
