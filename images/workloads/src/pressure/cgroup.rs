//! A memory cgroup at its limit: reclaim is its own, while the machine has memory free.

use super::Task;
use crate::context::about;
use std::fs;
use std::io;
use std::path::Path;
use vtmem_workloads::random::mix;
use vtmem_workloads::workload::Outcome;

const ROOT: &str = "/sys/fs/cgroup";

/// Mounts cgroups, where nobody has yet, and has the memory controller given to groups.
///
/// # Errors
/// A kernel without them.
pub fn mount() -> io::Result<()> {
    let control = Path::new(ROOT).join("cgroup.subtree_control");
    if !control.exists() {
        // SAFETY: strings that end in a zero, and no data.
        let mounted = unsafe {
            libc::mount(
                c"cgroup".as_ptr(),
                c"/sys/fs/cgroup".as_ptr(),
                c"cgroup2".as_ptr(),
                0,
                std::ptr::null(),
            )
        };
        if mounted != 0 {
            return Err(io::Error::last_os_error()).map_err(about(ROOT));
        }
    }
    fs::write(&control, "+memory").map_err(about(control.display()))
}

/// One round, with an eighth of memory for a quarter.
///
/// # Errors
/// What the kernel refuses.
pub fn run(task: &Task) -> io::Result<Outcome> {
    let group = Path::new(ROOT).join(format!("pressure-{}", std::process::id()));
    fs::create_dir(&group).map_err(about(group.display()))?;
    let set = |name: &str, value: String| {
        let path = group.join(name);
        fs::write(&path, value).map_err(about(path.display()))
    };
    set("memory.max", (task.mem / 8).to_string())?;
    set("cgroup.procs", "0".to_owned())?;

    let mut totals = Outcome::default();
    let mut sheet = task.sheet(1, 4)?;
    sheet.verify(&mut totals);
    sheet.memory.bring_back()?;
    sheet.refill(mix(task.seed));
    sheet.verify(&mut totals);

    drop(sheet);
    let root = Path::new(ROOT).join("cgroup.procs");
    fs::write(&root, "0").map_err(about(root.display()))?;
    fs::remove_dir(&group).map_err(about(group.display()))?;
    Ok(totals)
}
