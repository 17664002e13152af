//! The limits of the memory cgroups that this process is in, of version 1 or 2.
//!
//! The limit that counts is the tightest on the way up to the root of what can be seen: in a container with a cgroup namespace
//! that root is the container's own cgroup, whose limit may be its parent's to know. Such limits are not seen, and the
//! kernel enforces them all the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Larger limits stand for none: version 1 says so with a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;

/// The memory cgroup of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroup {
    /// Where its hierarchy is mounted.
    mount: PathBuf,
    /// Its own directory.
    path: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Cgroup {
    /// Finds it by `/proc/self`, `proc_self` being that directory; none where no memory controller is mounted.
    ///
    /// # Errors
    /// The kernel's lists of cgroups and mounts cannot be read: nobody knows.
    pub fn find(proc_self: &Path) -> io::Result<Option<Self>> {
        let own = fs::read_to_string(proc_self.join("cgroup"))?;
        let mounts = fs::read_to_string(proc_self.join("mountinfo"))?;
        Ok(Self::among(&mounts, &own))
    }

    /// The same, from the texts.
    fn among(mounts: &str, own: &str) -> Option<Self> {
        let mounts: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
        // Version 1 first: where both are mounted, the memory controller is in one of them only.
        let one = mounts.iter().find(|mount| {
            mount.kind == "cgroup" && mount.options.split(',').any(|option| option == "memory")
        });
        let two = || mounts.iter().find(|mount| mount.kind == "cgroup2");
        let (mount, version) = one
            .map(|mount| (mount, Version::One))
            .or_else(|| Some((two()?, Version::Two)))?;
        let own = own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_it = match version {
                Version::One => controllers.split(',').any(|name| name == "memory"),
                Version::Two => controllers.is_empty(),
            };
            is_it.then_some(path)
        })?;
        Some(Cgroup {
            path: mount.place(own),
            mount: mount.at.clone(),
            version,
        })
    }

    /// Bytes that can be had before a limit is reached, with what the kernel can take from page cache and pools. `None` where
    /// there is no limit, or nothing can be read.
    pub fn available(&self) -> Option<u64> {
        let ancestors = self.path.ancestors();
        let within = ancestors.take_while(|path| path.starts_with(&self.mount));
        within.filter_map(|path| self.available_in(path)).min()
    }

    fn available_in(&self, path: &Path) -> Option<u64> {
        let number = |file: &str| -> Option<u64> {
            fs::read_to_string(path.join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        let (limit, used) = match self.version {
            Version::One => (
                number("memory.limit_in_bytes")?,
                number("memory.usage_in_bytes")?,
            ),
            // "max" is no number, and no limit.
            Version::Two => {
                let limits = [number("memory.max"), number("memory.high")];
                (
                    limits.into_iter().flatten().min()?,
                    number("memory.current")?,
                )
            }
        };
        if limit >= NO_LIMIT {
            return None;
        }
        let stat = fs::read_to_string(path.join("memory.stat")).unwrap_or_default();
        let reclaimable: u64 = match self.version {
            Version::One => ["total_inactive_file ", "total_active_file "],
            Version::Two => ["inactive_file ", "active_file "],
        }
        .iter()
        .filter_map(|name| {
            let line = stat.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        })
        .fold(0, u64::saturating_add);
        Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
    }
}

/// A line of mountinfo, as far as it matters.
struct Mount {
    /// The directory of the file system that is mounted.
    root: String,
    at: PathBuf,
    kind: String,
    /// Of the file system, not of the mount.
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut file_system = file_system.split(' ');
        Some(Mount {
            root: mount.next()?.to_owned(),
            at: mount.next()?.into(),
            kind: file_system.next()?.to_owned(),
            options: file_system.nth(1)?.to_owned(),
        })
    }

    /// Where a cgroup is found below the mount. One that cannot be seen from here is taken for the topmost that can.
    fn place(&self, path: &str) -> PathBuf {
        let below = match self.root.as_str() {
            "/" => Some(path),
            root => path.strip_prefix(root),
        };
        let below = below.unwrap_or("").trim_start_matches('/');
        let place = self.at.join(below);
        if below.split('/').any(|part| part == "..") || !place.is_dir() {
            return self.at.clone();
        }
        place
    }
}

#[cfg(test)]
#[path = "cgroup_test.rs"]
mod tests;
