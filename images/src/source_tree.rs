//! The real input of the `source` workload: part of the kernel's source tree, from Debian's package of it.

use crate::command::{program, run};
use crate::error::{ImagesError, Result};
use crate::packages::{Apt, Package, ensure_programs};
use crate::progress::Progress;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories of the tree, taken in this order until there is enough: each line is one pass over the package.
const PARTS: [&[&str]; 3] = [
    &[
        "mm", "fs", "kernel", "block", "crypto", "init", "ipc", "lib", "virt", "security", "net",
        "include", "arch/x86", "sound",
    ],
    &["drivers/net", "drivers/media", "drivers/scsi"],
    &["drivers", "arch", "tools"],
];

/// Unpacks files of `package` below `directory` until their sizes add up to `bytes`.
pub(crate) fn unpack(
    apt: &mut Apt,
    package: &Package,
    bytes: u64,
    directory: &Path,
    progress: &mut dyn Progress,
) -> Result<()> {
    ensure_programs(&[("xz", "xz-utils"), ("tar", "tar")], progress)?;
    let outer = directory.with_extension("package");
    apt.unpack(package, &outer, progress)?;
    let tarball = outer
        .join("usr/src")
        .join(format!("{}.tar.xz", package.name));
    let full = directory.with_extension("full");
    let mut chosen = BTreeSet::new();
    let mut total = 0;
    for parts in PARTS {
        progress.step("unpacking the kernel's sources");
        fs::create_dir_all(&full).map_err(ImagesError::io("create", &full))?;
        let members = parts.iter().map(|part| format!("{}/{part}", package.name));
        let mut tar = program("tar");
        // The package is compressed in blocks, which all CPUs can unpack.
        tar.args(["--use-compress-program=xz -dT0", "-xf"])
            .arg(&tarball)
            .arg("-C")
            .arg(&full)
            .args(["--strip-components=1", "--no-same-owner"]);
        run(tar.args(members))?;
        for part in parts {
            take(&full, Path::new(part), bytes, &mut total, &mut chosen)?;
        }
        if total >= bytes {
            break;
        }
    }
    if total < bytes {
        return Err(ImagesError::Other(format!(
            "{} has {} MiB of sources to search, a guest of this size needs {} MiB; use a smaller one",
            package.name,
            total >> 20,
            bytes.div_ceil(1 << 20)
        )));
    }
    for path in chosen {
        let (from, to) = (full.join(&path), directory.join(&path));
        let parent = to.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(ImagesError::io("create", parent))?;
        fs::rename(&from, &to).map_err(ImagesError::io("rename", &from))?;
    }
    for leftover in [outer, full] {
        fs::remove_dir_all(&leftover).map_err(ImagesError::io("remove", &leftover))?;
    }
    Ok(())
}

/// Chooses the regular files below `part`, in the order of their names, while `total` is below `bytes`.
fn take(
    root: &Path,
    part: &Path,
    bytes: u64,
    total: &mut u64,
    chosen: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    let directory = root.join(part);
    let mut entries = Vec::new();
    for entry in fs::read_dir(&directory).map_err(ImagesError::io("read", &directory))? {
        entries.push(entry.map_err(ImagesError::io("read", &directory))?);
    }
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if *total >= bytes {
            break;
        }
        let path = part.join(entry.file_name());
        let metadata = entry
            .metadata()
            .map_err(ImagesError::io("read", entry.path()))?;
        if metadata.is_dir() {
            take(root, &path, bytes, total, chosen)?;
        } else if metadata.is_file() && chosen.insert(path) {
            *total += metadata.len();
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "source_tree_test.rs"]
mod tests;
