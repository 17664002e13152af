//! SIGTERM and SIGINT end a guest at once, by a status that says so, and leave nothing running.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::Case;
use crate::host::{binary, descendants, eventually, runs};

pub const CASES: &[Case] = &[Case {
    name: "signals::end_the_guest_cleanly",
    needs_guests: true,
    alone: false,
    run: end_the_guest_cleanly,
}];

fn end_the_guest_cleanly() {
    for (signal, status) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let mut guest = Command::new(binary())
            .args(["run", "--mem", "96M", "--tmem", "size=16M", "--cmdline"])
            .arg("console=ttyS0 quiet vtmem.tmem=1 vtmem.exec=\"echo is-up; sleep 1000\"")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start vtmem run");
        let mut lines = BufReader::new(guest.stdout.take().expect("piped")).lines();
        let up = lines.any(|line| line.is_ok_and(|line| line.contains("is-up")));
        assert!(up, "the guest ended before it was up");
        let children = descendants(guest.id());
        // SAFETY: signals a child of ours that has not been waited for, so the id is still its own.
        unsafe { libc::kill(guest.id().try_into().expect("a pid"), signal) };
        let ended = guest.wait().expect("wait for vtmem run");
        assert_eq!(ended.code(), Some(status), "after signal {signal}");
        let gone = eventually(std::time::Duration::from_secs(20), || {
            !children.iter().any(|&pid| runs(pid))
        });
        assert!(gone, "after signal {signal} some of {children:?} still run");
    }
}
