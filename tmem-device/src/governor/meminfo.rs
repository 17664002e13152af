//! The host's memory: `/proc/meminfo`.

use std::io;
use std::path::Path;

use super::kept::Kept;

/// The file.
pub(super) struct Meminfo(Kept);

impl Meminfo {
    /// Opens `meminfo` below `proc`.
    ///
    /// # Errors
    /// It is not there.
    pub fn open(proc: &Path) -> io::Result<Self> {
        Kept::open(&proc.join("meminfo")).map(Meminfo)
    }

    /// MemAvailable in bytes. `None` where it is not said.
    pub fn available(&self) -> Option<u64> {
        field(&self.0.read().ok()?, "MemAvailable:")
    }
}

/// A field of meminfo, which is in KiB.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
#[path = "meminfo_test.rs"]
mod tests;
