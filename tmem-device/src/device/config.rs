//! What the VMM decides about a device.

use std::fmt;

use crate::wire;

/// Which clean pages a driver that leaves it to the host is to put; a wish, which it may disregard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Admission {
    /// All of them.
    Always,
    /// Those that were used more than once.
    SecondChance,
    /// Those, and others as long as such pages are read again.
    #[default]
    Adaptive,
}

impl Admission {
    /// All of them.
    pub const ALL: [Admission; 3] = [
        Admission::Always,
        Admission::SecondChance,
        Admission::Adaptive,
    ];

    /// Its number in configuration space.
    pub(super) fn number(self) -> u32 {
        match self {
            Admission::Always => wire::ADMISSION_ALWAYS,
            Admission::SecondChance => wire::ADMISSION_SECOND_CHANCE,
            Admission::Adaptive => wire::ADMISSION_ADAPTIVE,
        }
    }
}

impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Admission::Always => "always",
            Admission::SecondChance => "second-chance",
            Admission::Adaptive => "adaptive",
        })
    }
}

/// What goes wrong with reports of evictions, in tests of drivers that must not rest on them. Credit is
/// sent in any case: without, a driver would not put persistent pages at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EventFault {
    /// Nothing.
    #[default]
    None,
    /// None is ever sent.
    Drop,
    /// Each is sent only when so many further pages were evicted. The pool keeps the latest 8192 runs of pages,
    /// so what would have to wait for longer is not sent.
    Hold(u64),
}

impl EventFault {
    /// How many of the pages evicted last are not reported yet; `None`: none ever is.
    pub(super) fn held_back(self) -> Option<u64> {
        match self {
            EventFault::None => Some(0),
            EventFault::Drop => None,
            EventFault::Hold(pages) => Some(pages),
        }
    }
}

/// Configuration of a [`TmemDevice`](super::TmemDevice).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Shown to drivers in configuration space.
    pub admission: Admission,
    /// For tests.
    pub event_fault: EventFault,
}
