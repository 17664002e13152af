//! The machine sleeps, as far as it can without somebody to wake it.

use super::file::{NOTHING_READ, Verdict};
use std::fs;
use std::io;

/// How the machine hibernates, and what it is told to.
const DISK: &str = "/sys/power/disk";
const STATE: &str = "/sys/power/state";
/// It makes an image of itself, for which all devices are frozen and thawed, writes it to swap, and reads it; before Linux 6.4 the
/// latter is refused while anybody swaps there, with EBUSY.
const MODE: &str = "test_resume";

/// Hibernates and wakes up, where the kernel knows how; there may be no memory for an image just now.
///
/// # Errors
/// The kernel's.
pub fn run() -> io::Result<Verdict> {
    let modes = fs::read_to_string(DISK).unwrap_or_default();
    if !modes.contains(MODE) {
        return Ok(NOTHING_READ);
    }
    fs::write(DISK, MODE)?;
    match fs::write(STATE, "disk") {
        Err(error)
            if !matches!(
                error.raw_os_error(),
                Some(libc::EBUSY | libc::ENOMEM | libc::ENOSPC | libc::ENODEV)
            ) =>
        {
            Err(error)
        }
        _ => Ok(NOTHING_READ),
    }
}
