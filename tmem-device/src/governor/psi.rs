//! Pressure stall information: the share of time in which tasks wait for memory, and a trigger that says so at once
//! (Documentation/accounting/psi.rst).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::kept::Kept;

/// Fires when tasks have waited for 100 ms within two seconds. A window of two seconds, or a multiple, needs no privilege
/// (since Linux 6.5).
const TRIGGER: &[u8] = b"some 100000 2000000\0";

/// One file of pressure information.
pub(super) struct Psi {
    figures: Kept,
    trigger: Option<File>,
}

impl Psi {
    /// Opens `pressure/memory` below `proc`. An error if the kernel has no PSI, or it is off. Without leave to set a trigger,
    /// there is none.
    pub fn open(proc: &Path) -> io::Result<Self> {
        let path = proc.join("pressure/memory");
        // Where PSI is disabled at boot, the file is there, and reading it fails.
        let figures = Kept::open(&path)?;
        figures.read()?;
        let trigger = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(&path)
            .and_then(|mut file| file.write_all(TRIGGER).map(|()| file));
        Ok(Psi {
            figures,
            trigger: trigger.ok(),
        })
    }

    /// What becomes ready, with POLLPRI, when the trigger fires.
    pub fn trigger(&self) -> Option<BorrowedFd<'_>> {
        self.trigger.as_ref().map(AsFd::as_fd)
    }

    /// `some avg10`, in percent.
    pub fn some_avg10(&self) -> Option<f64> {
        avg10(&self.figures.read().ok()?)
    }
}

fn avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let mut fields = line.split(' ');
    let value = fields.find_map(|field| field.strip_prefix("avg10="))?;
    value
        .parse()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
}

#[cfg(test)]
#[path = "psi_test.rs"]
mod tests;
