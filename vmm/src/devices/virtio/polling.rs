//! How long a worker looks for more by itself before it sleeps.
//!
//! A doorbell costs the driver an exit and the worker a wake-up. While chains come one soon after the other, it is
//! cheaper to look for the next for a while. For how long, the past says, as in KVM's halt polling: as long as the
//! gaps between chains are shorter than the limit, the time doubles up to it; a longer gap ends the polling, and a
//! driver that has little to say costs nothing.

use std::hint::spin_loop;
use std::thread::available_parallelism;
use std::time::Duration;

/// The limit when nothing else is asked for, on a host with CPUs to spare.
const DEFAULT_LIMIT: Duration = Duration::from_micros(50);

/// The first time, as a part of the limit.
const FIRST: u32 = 8;

/// Pauses of the CPU between two looks: whoever needs what a look takes finds it free.
const PAUSES: u32 = 32;

/// Decides for how long to poll.
#[derive(Clone, Copy, Debug)]
pub struct Polling {
    limit: Duration,
    time: Duration,
}

impl Polling {
    /// Polls for `limit` at most, and at first not at all. Without a limit of one's own: 50 µs, but 0 where this
    /// process has one CPU only, since polling would take that from the vCPU.
    pub fn new(limit: Option<Duration>) -> Self {
        Polling {
            limit: limit.unwrap_or_else(|| default_limit(cpus())),
            time: Duration::ZERO,
        }
    }

    /// Whether to poll now, before the doorbell is asked for.
    pub fn is_on(&self) -> bool {
        !self.time.is_zero()
    }

    /// A doorbell ended a sleep; `idle` is how long there was nothing to do, polls in vain included.
    pub fn woken(&mut self, idle: Duration) {
        if idle <= self.limit {
            self.grow();
        } else {
            self.time = Duration::ZERO;
        }
    }

    /// Calls `look` until it returns true, or the time is up as `now` has it, a clock from whatever beginning. Returns
    /// what `look` did last.
    pub fn poll(&mut self, now: impl Fn() -> Duration, mut look: impl FnMut() -> bool) -> bool {
        let end = now() + self.time;
        loop {
            if look() {
                self.grow();
                return true;
            }
            if now() >= end {
                return false;
            }
            (0..PAUSES).for_each(|_| spin_loop());
        }
    }

    fn grow(&mut self) {
        self.time = (self.time * 2).max(self.limit / FIRST).min(self.limit);
    }
}

/// CPUs that this process may use: by its affinity, and by the quota of its cgroup.
fn cpus() -> usize {
    available_parallelism().map_or(1, usize::from)
}

fn default_limit(cpus: usize) -> Duration {
    if cpus > 1 {
        DEFAULT_LIMIT
    } else {
        Duration::ZERO
    }
}

#[cfg(test)]
#[path = "polling_test.rs"]
mod tests;
