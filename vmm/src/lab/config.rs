//! What a lab is made of.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::LabError;
use crate::accel::Clock;

/// Memory of the lab's host besides its disks and input files, in bytes: its kernel, page cache, guests and
/// pools.
pub const BASE_MEMORY: u64 = 1200 << 20;

/// Disks of this host that fit: as many as `/dev/vda` has successors of that length.
const MAX_DISKS: usize = 26;

/// What the emulated host has.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// Its clock. A virtual one makes everything inside repeatable: one CPU, no input from outside.
    pub clock: Clock,
    /// Its memory in bytes; the disks that it keeps in memory, and the input files, come on top.
    pub memory: u64,
    /// Its CPUs; always one under the virtual clock.
    pub cpus: u8,
    /// Disks that it keeps in memory.
    pub null_disks: Vec<NullDisk>,
    /// Disks of this host that it uses, in order: `/dev/vda`, `/dev/vdb`, …
    pub disks: Vec<LabDisk>,
    /// Files of this host and where they are inside.
    pub files: Vec<(PathBuf, String)>,
    /// Absolute paths inside, of files or directories, whose content comes back.
    pub outputs: Vec<String>,
    /// This host's far end of a line to the job: [`CHANNEL`](super::qemu::CHANNEL) inside.
    pub channel: Option<Arc<UnixStream>>,
}

impl LabConfig {
    /// A host with this clock, two CPUs where the clock allows it, and nothing else.
    pub fn new(clock: Clock) -> Self {
        LabConfig {
            clock,
            memory: BASE_MEMORY,
            cpus: 2,
            null_disks: vec![],
            disks: vec![],
            files: vec![],
            outputs: vec![],
            channel: None,
        }
    }

    /// Memory that QEMU gives the host, in whole MiB. Input files count twice: while the host boots it has
    /// both the archive that brings them and what it unpacks.
    pub fn memory_mib(&self) -> u64 {
        let disks: u64 = self.null_disks.iter().map(NullDisk::mib).sum();
        let lengths = self.files.iter().map(|(path, _)| length(path).unwrap_or(0));
        let files: u64 = lengths.map(|bytes| 2 * bytes).sum();
        (self.memory + files).div_ceil(1 << 20) + disks
    }

    /// Whether the lab could be made, as far as one can tell without making it.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn check(&self) -> Result<(), LabError> {
        let disks = self.disks.len();
        if disks > MAX_DISKS {
            return Err(wrong(format!(
                "{disks} disks are too many; {MAX_DISKS} fit"
            )));
        }
        let mut names = BTreeSet::new();
        for disk in &self.null_disks {
            if !names.insert(&disk.name) {
                return Err(wrong(format!("two null disks are called {}", disk.name)));
            }
            if let Some(image) = &disk.image {
                let bytes = readable(image)?;
                if bytes > disk.mib() << 20 {
                    return Err(wrong(format!(
                        "{} does not fit: it has {bytes} bytes, {} has {} MiB",
                        image.display(),
                        disk.name,
                        disk.mib()
                    )));
                }
            }
        }
        for (path, inside) in &self.files {
            readable(path)?;
            absolute(inside)?;
        }
        self.outputs.iter().try_for_each(|path| absolute(path))
    }
}

fn wrong(what: String) -> LabError {
    LabError::Config(what)
}

fn readable(path: &Path) -> Result<u64, LabError> {
    length(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))
}

/// Bytes of a readable file or block device.
pub(super) fn length(path: &Path) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    file.seek(SeekFrom::End(0))
}

fn absolute(inside: &str) -> Result<(), LabError> {
    if inside.starts_with('/') && inside.len() > 1 && !inside.contains(['\n', '\0']) {
        return Ok(());
    }
    Err(wrong(format!(
        "{inside:?} is no place inside the lab; give an absolute path"
    )))
}

/// A disk in the lab's memory (null_blk) that answers like one of flash: after a fixed time.
#[derive(Clone, Debug)]
pub struct NullDisk {
    /// `/dev/NAME` inside, such as `nullb0`.
    pub name: String,
    /// Size in bytes; rounded up to whole MiB.
    pub size: u64,
    /// From a request's arrival to its completion, by the lab's clock.
    pub latency: Duration,
    /// Bytes of a block.
    pub block_size: u32,
    /// What is on it at the start; without, zeros.
    pub image: Option<PathBuf>,
}

impl NullDisk {
    /// Size in MiB.
    pub fn mib(&self) -> u64 {
        self.size.div_ceil(1 << 20)
    }
}

/// A file or block device of this host that is a disk of the lab's. When its answers come depends on this
/// host, so that figures which they enter repeat only nearly.
#[derive(Clone, Debug)]
pub struct LabDisk {
    /// The file.
    pub path: PathBuf,
    /// Whether the lab may only read it.
    pub readonly: bool,
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
