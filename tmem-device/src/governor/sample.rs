//! What the governor looks at.

use serde::Serialize;

/// The machine's memory, as seen from this process. What could not be read is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Bytes that the host could give without swapping: MemAvailable. Memory that the kernel may take from the pool is among them.
    pub available: Option<u64>,
    /// Bytes that the enclosing memory cgroup could give, if there is one with a limit.
    pub cgroup_available: Option<u64>,
    /// The share of the last ten seconds in which some task waited for memory, in percent: PSI's `some avg10`.
    pub pressure: Option<f64>,
    /// PSI's trigger has fired since the last sample.
    pub triggered: bool,
}

impl Sample {
    /// Bytes that can be had, by whichever limit is tighter. `None` if nothing is known.
    pub fn room(&self) -> Option<u64> {
        match (self.available, self.cgroup_available) {
            (Some(host), Some(cgroup)) => Some(host.min(cgroup)),
            (room, None) | (None, room) => room,
        }
    }
}

/// What a pool takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Bytes of all pages.
    pub used: u64,
    /// Of these, bytes of pages that the kernel may take.
    pub reclaimable: u64,
}
