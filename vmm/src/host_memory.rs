//! How much memory this process's own memory cgroup holds.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;

/// A memory cgroup's figures, in bytes. Page cache that the process brought in counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HostMemory {
    /// Held now.
    pub current: u64,
    /// Held at most so far.
    pub peak: u64,
}

/// Names of the two files in a cgroup's directory.
type Names = (&'static str, &'static str);
const V2: Names = ("memory.current", "memory.peak");
const V1: Names = ("memory.usage_in_bytes", "memory.max_usage_in_bytes");

/// More than the file below says; the kernel makes its text anew for each read from its start.
const LONGEST: usize = 64 << 10;

/// Opens the file that says which cgroup this process is in, for good: to Landlock a file of `/proc` is another one when the kernel
/// has dropped its caches, so that a confined process may not open it any more.
pub fn open() -> Option<&'static File> {
    static MEMBERSHIP: OnceLock<File> = OnceLock::new();
    if let Some(file) = MEMBERSHIP.get() {
        return Some(file);
    }
    let file = File::open("/proc/self/cgroup").ok()?;
    Some(MEMBERSHIP.get_or_init(|| file))
}

/// Reads the figures of the cgroup that this process is in; `None` where there is none, or the
/// kernel keeps no peak.
pub fn read() -> Option<HostMemory> {
    let mut membership = vec![0; LONGEST];
    let length = open()?.read_at(&mut membership, 0).ok()?;
    let membership = str::from_utf8(&membership[..length]).ok()?;
    let (directory, names) = find(membership, Path::new("/sys/fs/cgroup"))?;
    let number = |name| {
        fs::read_to_string(directory.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    Some(HostMemory {
        current: number(names.0)?,
        peak: number(names.1)?,
    })
}

/// The memory cgroup that `membership` (/proc/self/cgroup) names, of version 1 or 2.
fn find(membership: &str, root: &Path) -> Option<(PathBuf, Names)> {
    let fields = membership.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        Some((
            fields.next()?,
            fields.next()?,
            fields.next()?.trim_start_matches('/'),
        ))
    });
    let mut unified = None;
    for (id, controllers, path) in fields {
        if controllers.split(',').any(|name| name == "memory") {
            return Some((root.join("memory").join(path), V1));
        }
        if id == "0" {
            unified = Some((root.join(path), V2));
        }
    }
    unified
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let root = Path::new("/r");
        assert_eq!(find("0::/a/b\n", root), Some((PathBuf::from("/r/a/b"), V2)));
        assert_eq!(
            find("9:cpu:/x\n4:memory:/c/d\n0::/u\n", root),
            Some((PathBuf::from("/r/memory/c/d"), V1))
        );
        assert_eq!(find("", root), None);
    }
}
