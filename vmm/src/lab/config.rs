//! What a lab is made of.

use std::path::PathBuf;
use std::time::Duration;

use crate::accel::Clock;

/// Memory of the lab's host besides its disks, in bytes: its kernel, page cache, guests and pools.
pub const BASE_MEMORY: u64 = 1200 << 20;

/// What the emulated host has.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// Its clock. A virtual one makes everything inside repeatable: one CPU, no input from outside.
    pub clock: Clock,
    /// Its memory in bytes; the disks that it keeps in memory come on top.
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
        }
    }

    /// Memory that QEMU gives the host, in whole MiB.
    pub fn memory_mib(&self) -> u64 {
        let disks: u64 = self.null_disks.iter().map(NullDisk::mib).sum();
        self.memory.div_ceil(1 << 20) + disks
    }
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

/// A file or block device of this host that is a disk of the lab's.
#[derive(Clone, Debug)]
pub struct LabDisk {
    /// The file.
    pub path: PathBuf,
    /// Whether the lab may only read it.
    pub readonly: bool,
}
