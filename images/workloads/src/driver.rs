//! What the guest's driver counts: the work that never leaves the guest, which the host can't see.

use std::fs;
use std::path::Path;

/// What begins a line with the driver's counters at a mark; JSON follows.
pub const DRIVER_PREFIX: &str = "vtmem-driver: ";

/// Where the driver shows its counters, one file each.
pub const DIRECTORY: &str = "/sys/kernel/debug/virtio_tmem";

/// The driver's counters since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pages that were read and that the presence index knew not to be in the host.
    pub misses_local: u64,
    /// Flushes of what the presence index knew not to be in the host.
    pub flushes_local: u64,
    /// Reclaimed pages that admission held not to be worth a copy.
    pub puts_unworthy: u64,
    /// Pages that were fetched ahead with others.
    pub gets_ahead: u64,
    /// Exits to have what is on the put queue executed at once: no batch or no credit was left.
    pub drains: u64,
}

impl Counters {
    /// The counters now; none without the driver, or for who may not see them.
    pub fn read() -> Option<Self> {
        Self::read_from(Path::new(DIRECTORY))
    }

    fn read_from(directory: &Path) -> Option<Self> {
        let read = |name| {
            let text = fs::read_to_string(directory.join(name)).ok()?;
            text.trim().parse().ok()
        };
        Some(Self {
            misses_local: read("misses_local")?,
            flushes_local: read("flushes_local")?,
            puts_unworthy: read("puts_unworthy")?,
            gets_ahead: read("gets_ahead")?,
            drains: read("drains")?,
        })
    }

    /// The console line that reports these as the counters at mark number `mark`.
    pub fn line(&self, mark: u8) -> String {
        format!(
            "{DRIVER_PREFIX}{{\"mark\":{mark},\"misses_local\":{},\"flushes_local\":{},\"puts_unworthy\":{},\"gets_ahead\":{},\"drains\":{}}}",
            self.misses_local, self.flushes_local, self.puts_unworthy, self.gets_ahead, self.drains
        )
    }

    /// What was counted since `earlier`; none if a counter ran backwards.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        Some(Self {
            misses_local: self.misses_local.checked_sub(earlier.misses_local)?,
            flushes_local: self.flushes_local.checked_sub(earlier.flushes_local)?,
            puts_unworthy: self.puts_unworthy.checked_sub(earlier.puts_unworthy)?,
            gets_ahead: self.gets_ahead.checked_sub(earlier.gets_ahead)?,
            drains: self.drains.checked_sub(earlier.drains)?,
        })
    }
}

#[cfg(test)]
#[path = "driver_test.rs"]
mod tests;
