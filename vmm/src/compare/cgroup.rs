//! A memory cgroup for one guest: what bounds the host memory that a guest, its VMM and its page cache may take.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The two versions of the kernel's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A cgroup with a memory limit; removed when dropped.
#[derive(Debug)]
pub struct MemoryCgroup {
    directory: PathBuf,
    version: Version,
}

impl MemoryCgroup {
    /// Makes a cgroup called `name` below this process's own, or beside it, limited to `limit` bytes.
    ///
    /// # Errors
    /// Why that is not possible here, in one line.
    pub fn create(name: &str, limit: u64) -> Result<Self, String> {
        let read = |path| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let (version, own) =
            own_cgroup(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
                .ok_or("no memory controller is mounted")?;
        let mut reason = String::new();
        // A version 2 cgroup that has processes cannot have limited children, unless it is the root; its parent can.
        for parent in own.ancestors().take(2) {
            match Self::create_in(parent, version, name, limit) {
                Ok(cgroup) => return Ok(cgroup),
                Err(error) => reason = format!("{}: {error}", parent.display()),
            }
        }
        Err(reason)
    }

    fn create_in(parent: &Path, version: Version, name: &str, limit: u64) -> io::Result<Self> {
        if version == Version::V2 {
            // Without this the children have no limit to set, and that is what the error below says.
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory");
        }
        let directory = parent.join(name);
        fs::create_dir(&directory)?;
        let cgroup = Self { directory, version };
        match version {
            Version::V2 => {
                cgroup.set("memory.max", limit)?;
                // No swap on the host, or no swap accounting: nothing to forbid.
                let _ = cgroup.set("memory.swap.max", 0);
            }
            Version::V1 => {
                cgroup.set("memory.limit_in_bytes", limit)?;
                let _ = cgroup.set("memory.memsw.limit_in_bytes", limit);
            }
        }
        Ok(cgroup)
    }

    fn set(&self, file: &str, value: u64) -> io::Result<()> {
        // Never created: where the file is missing the controller is off.
        OpenOptions::new()
            .write(true)
            .open(self.directory.join(file))?
            .write_all(value.to_string().as_bytes())
    }

    /// Has `command` start inside the cgroup.
    ///
    /// # Errors
    /// The cgroup's process list cannot be written.
    pub fn contain(&self, command: &mut Command) -> io::Result<()> {
        let processes: File = OpenOptions::new()
            .write(true)
            .open(self.directory.join("cgroup.procs"))?;
        // SAFETY: between fork and exec this only writes to an open file: no allocation, no lock.
        unsafe {
            // "0" means the process that writes.
            command.pre_exec(move || (&processes).write_all(b"0"));
        }
        Ok(())
    }

    /// Whether the kernel killed a process of the cgroup for want of memory.
    ///
    /// # Errors
    /// The kernel's count cannot be read: nobody knows.
    pub fn ran_out_of_memory(&self) -> io::Result<bool> {
        let file = match self.version {
            Version::V2 => "memory.events",
            Version::V1 => "memory.oom_control",
        };
        let text = fs::read_to_string(self.directory.join(file))?;
        Ok(text
            .lines()
            .filter_map(|line| line.strip_prefix("oom_kill "))
            .any(|count| count != "0"))
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // A process that was waited for may still count as a member for a moment.
        for _ in 0..50 {
            match fs::remove_dir(&self.directory) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    thread::sleep(Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}

/// Where this process's memory cgroup is, from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn own_cgroup(mountinfo: &str, cgroup: &str) -> Option<(Version, PathBuf)> {
    let mounts = || {
        mountinfo.lines().filter_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut place = place.split(' ').skip(3);
            let (root, mount_point) = (place.next()?, place.next()?);
            let mut kind = kind.split(' ');
            let (file_system, options) = (kind.next()?, kind.nth(1)?);
            Some((root, mount_point, file_system, options))
        })
    };
    let own_path = |controller: &str| {
        cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            controllers
                .split(',')
                .any(|name| name == controller)
                .then_some(path)
        })
    };
    let place = |root: &str, mount_point: &str, own: &str| {
        // In a container the mount shows only the container's part of the tree.
        let below = Path::new(own)
            .strip_prefix(root)
            .or_else(|_| Path::new(own).strip_prefix("/"));
        let below = below
            .ok()
            .filter(|path| !path.iter().any(|part| part == OsStr::new("..")));
        below.map(|below| {
            if below.as_os_str().is_empty() {
                PathBuf::from(mount_point)
            } else {
                Path::new(mount_point).join(below)
            }
        })
    };
    let v1 = mounts().find(|(_, _, kind, options)| {
        *kind == "cgroup" && options.split(',').any(|option| option == "memory")
    });
    if let (Some((root, mount_point, ..)), Some(own)) = (v1, own_path("memory")) {
        return Some((Version::V1, place(root, mount_point, own)?));
    }
    let (root, mount_point, ..) = mounts().find(|(_, _, kind, _)| *kind == "cgroup2")?;
    Some((Version::V2, place(root, mount_point, own_path("")?)?))
}

#[cfg(test)]
#[path = "cgroup_test.rs"]
mod tests;
