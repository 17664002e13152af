//! A memory cgroup for the time of a test, of version 1 or 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A cgroup with a limit, removed in the end.
pub struct Cgroup {
    path: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Cgroup {
    /// Makes a cgroup below this process's own, or below the root where that cannot be seen. An error says why not.
    pub fn new(limit: u64) -> Result<Self, String> {
        let (parent, version) = parent().ok_or("no memory controller is mounted")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("vtmem-bomb-{}-{number}", std::process::id()));
        let failed = |what: &str| {
            let path = path.display().to_string();
            let what = what.to_owned();
            move |error: io::Error| format!("{what} {path}: {error}")
        };
        if version == Version::Two {
            // Fails where it is on already, or processes are in the way, which the next steps find out.
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory");
        }
        fs::create_dir(&path).map_err(failed("cannot make"))?;
        let cgroup = Cgroup { path, version };
        let limits: &[_] = match version {
            Version::One => &["memory.limit_in_bytes"],
            Version::Two => &["memory.max"],
        };
        for file in limits {
            let path = cgroup.path.join(file);
            fs::write(&path, limit.to_string())
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(cgroup)
    }

    /// Where a process writes its number to join.
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Processes that the kernel has killed here for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = fs::read_to_string(self.path.join(file)).expect("the cgroup is there");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.expect("a count").parse().expect("a number")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes have been waited for, but may not have left yet.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        eprintln!("{} could not be removed", self.path.display());
    }
}

/// A cgroup that others can be made in.
fn parent() -> Option<(PathBuf, Version)> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    for line in mounts.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let [_, at, kind, options, ..] = fields[..] else {
            continue;
        };
        let at = Path::new(at);
        let own_path = |controller: &str| {
            let path = own.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                let is_it = controllers.split(',').any(|name| name == controller);
                is_it.then(|| at.join(path.trim_start_matches('/')))
            });
            path.filter(|path| path.is_dir())
                .unwrap_or_else(|| at.into())
        };
        if kind == "cgroup" && options.split(',').any(|option| option == "memory") {
            return Some((own_path("memory"), Version::One));
        }
        let controllers = fs::read_to_string(at.join("cgroup.controllers"));
        if kind == "cgroup2" && controllers.is_ok_and(|names| names.contains("memory")) {
            // Below the root, processes and cgroups do not go together.
            return Some((at.into(), Version::Two));
        }
    }
    None
}
