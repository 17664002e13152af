//! The process that locks memory, a MiB at a time, as fast as it can.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::process::{listen, report};

const MIB: usize = 1 << 20;

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    pub total: Duration,
    pub longest: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.total.as_nanos(), self.longest.as_nanos())
    }
}

impl FromStr for Report {
    type Err = ParseIntError;

    fn from_str(line: &str) -> Result<Self, ParseIntError> {
        let (total, longest) = line.split_once(' ').unwrap_or((line, ""));
        Ok(Report {
            total: Duration::from_nanos(total.parse()?),
            longest: Duration::from_nanos(longest.parse()?),
        })
    }
}

pub fn main(bytes: usize) {
    // SAFETY: a new private anonymous mapping, anywhere.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(memory, libc::MAP_FAILED);
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    for offset in (0..bytes).step_by(MIB) {
        let before = Instant::now();
        let length = MIB.min(bytes - offset);
        // SAFETY: a part of the mapping, which nothing refers to.
        let status = unsafe { libc::mlock(memory.byte_add(offset), length) };
        assert_eq!(status, 0, "mlock: {}", std::io::Error::last_os_error());
        longest = longest.max(before.elapsed());
    }
    let total = start.elapsed();
    report(&Report { total, longest }.to_string());
    listen();
}
