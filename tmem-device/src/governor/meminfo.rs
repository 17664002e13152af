//! The host's memory: `/proc/meminfo`.

use std::fs;
use std::path::Path;

/// MemAvailable in bytes. `None` where it cannot be read.
pub(super) fn available(proc: &Path) -> Option<u64> {
    field(
        &fs::read_to_string(proc.join("meminfo")).ok()?,
        "MemAvailable:",
    )
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
