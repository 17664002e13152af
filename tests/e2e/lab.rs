//! The lab: what goes in comes out, and nothing stays behind.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Case;
use crate::host::{binary, vtmem};

pub const CASES: &[Case] = &[
    Case {
        name: "lab::exit_status_comes_back",
        needs_guests: true,
        run: exit_status_comes_back,
    },
    Case {
        name: "lab::killed_leaves_no_process",
        needs_guests: true,
        run: killed_leaves_no_process,
    },
];

fn exit_status_comes_back() {
    let done = vtmem(&["lab", "--", "sh", "-c", "test -c /dev/kvm && exit 42"]);
    assert_eq!(done.status, Some(42), "{}\n{}", done.stdout, done.stderr);
}

/// Processes that descend from `pid`, itself not included.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![];
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    for task in tasks {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|c| c.parse().ok()) {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

/// Whether the process still runs; a zombie does not.
fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim().starts_with('Z'))
    })
}

/// Waits at most `limit` for `condition`. The bound only decides when to give up.
fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if condition() {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    condition()
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
