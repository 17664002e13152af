//! The disk settings that are compared.

use std::fmt;

/// How a guest's disks are cached, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Mode {
    /// cache=none: every guest read goes to the disk.
    None,
    /// cache=writethrough: host page cache, every write durable before it completes.
    Writethrough,
    /// cache=writeback: host page cache, writes durable when the guest flushes.
    Writeback,
    /// cache=none, and what the guest drops goes to host memory through virtio-tmem.
    Tmem,
}

impl Mode {
    /// All modes, in the order of every report.
    pub const ALL: [Self; 4] = [Self::None, Self::Writethrough, Self::Writeback, Self::Tmem];

    /// The name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Writethrough => "writethrough",
            Self::Writeback => "writeback",
            Self::Tmem => "tmem",
        }
    }

    /// The mode called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// What `cache=` is set to for the guest's disks.
    pub fn cache(self) -> &'static str {
        match self {
            Self::None | Self::Tmem => "none",
            Self::Writethrough => "writethrough",
            Self::Writeback => "writeback",
        }
    }

    /// One sentence for readers of a report.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::None => {
                "The host opens the disk with O_DIRECT and caches nothing; the guest relies on its own memory."
            }
            Self::Writethrough => {
                "The host caches what the guest reads; a write is on the disk before the guest hears of it."
            }
            Self::Writeback => {
                "The host caches reads and writes; a write is only on the disk once the guest has flushed it."
            }
            Self::Tmem => {
                "As none, but pages that the guest's kernel drops or swaps out go to a compressed pool in host memory, \
                 in batches, and come back from there."
            }
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
