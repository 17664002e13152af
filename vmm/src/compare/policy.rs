//! What else than the four modes a comparison can have: mode tmem with one of its mechanisms switched off, to show what that
//! one buys.

use std::fmt;

use super::mode::Mode;

/// A mechanism switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Policy {
    /// The guest doesn't know what the host holds.
    NoPresence,
    /// Every reclaimed page is put.
    NoAdmission,
    /// Each put and each flush is a chain of its own, and rings.
    NoBatches,
    /// Each page of a readahead window or swap cluster is a get of its own.
    NoWindows,
    /// A page that is read alone is fetched alone.
    NoGetAhead,
}

impl Policy {
    /// All of them, in the order of every report.
    pub const ALL: [Self; 5] = [
        Self::NoPresence,
        Self::NoAdmission,
        Self::NoBatches,
        Self::NoWindows,
        Self::NoGetAhead,
    ];

    /// The name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoPresence => "no-presence",
            Self::NoAdmission => "no-admission",
            Self::NoBatches => "no-batches",
            Self::NoWindows => "no-windows",
            Self::NoGetAhead => "no-get-ahead",
        }
    }

    /// The policy called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// The driver's parameters that switch it off (guest-driver/README.md).
    pub fn driver_arguments(self) -> &'static str {
        match self {
            Self::NoPresence => "presence=0",
            Self::NoAdmission => "admission=always",
            Self::NoBatches => "batch=1",
            Self::NoWindows => "windows=0",
            Self::NoGetAhead => "get_ahead=0",
        }
    }

    /// One sentence for readers of a report.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::NoPresence => {
                "The guest keeps no index of what the host holds: every miss and every flush of nothing leaves the guest."
            }
            Self::NoAdmission => {
                "Every page that reclaim drops is copied to the host, read again or not."
            }
            Self::NoBatches => "Each put and each flush is a chain with a doorbell of its own.",
            Self::NoWindows => {
                "Each page of a readahead window or swap cluster is fetched with an exit of its own."
            }
            Self::NoGetAhead => {
                "A page that is read alone is fetched alone, even if the reader goes on in order."
            }
        }
    }
}

/// One guest of a comparison: a mode, and what of it is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variant {
    /// How its disks are cached.
    pub mode: Mode,
    /// Under [`Mode::Tmem`] only.
    pub policy: Option<Policy>,
}

impl Variant {
    /// Mode tmem without the mechanism that `policy` names.
    pub fn without(policy: Policy) -> Self {
        Self {
            mode: Mode::Tmem,
            policy: Some(policy),
        }
    }

    /// What a bar or a row of a report is labelled with.
    pub fn label(self) -> &'static str {
        match self.policy {
            Some(policy) => policy.name(),
            None => self.mode.name(),
        }
    }
}

impl From<Mode> for Variant {
    fn from(mode: Mode) -> Self {
        Self { mode, policy: None }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.policy {
            Some(policy) => write!(f, "{} with {}", self.mode, policy.name()),
            None => self.mode.fmt(f),
        }
    }
}

#[cfg(test)]
#[path = "policy_test.rs"]
mod tests;
