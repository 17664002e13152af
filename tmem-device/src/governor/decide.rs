//! How large the pool should be: rules without clocks or files, so that every decision can be repeated.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::sample::{Sample, Usage};

/// Targets that differ by less than one part in so many are the same.
const DEADBAND: u64 = 32;

/// Under pressure, the pool gives up one part in so many at each step.
const PRESSURE_STEP: u64 = 8;

/// What the governor keeps to.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The pool is never made smaller, in bytes.
    pub minimum: u64,
    /// The pool is never made larger, in bytes.
    pub maximum: u64,
    /// Bytes of the machine's memory, or the cgroup's, that are left to others.
    pub reserve: u64,
    /// PSI's `some avg10` from which on memory is short, in percent.
    pub pressure: f64,
    /// How long nothing must have been short before the pool grows.
    pub quiet: Duration,
    /// How fast it grows, in bytes a second.
    pub growth: u64,
}

impl Settings {
    /// The defaults for a pool of `maximum` bytes: it shrinks to nothing if it must, leaves a sixteenth of its size and 64 MiB to
    /// others, and grows by a sixteenth of its size a second after ten quiet seconds.
    pub fn new(maximum: u64) -> Self {
        Settings {
            minimum: 0,
            maximum,
            reserve: maximum / 16 + (64 << 20),
            pressure: 5.0,
            quiet: Duration::from_secs(10),
            growth: (maximum / 16).max(1 << 20),
        }
    }
}

/// Why the size is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The host's available memory has fallen.
    HostShort,
    /// The cgroup's has.
    CgroupShort,
    /// Tasks wait for memory (PSI).
    Pressure,
    /// There has been room for a while.
    Quiet,
    /// Nothing calls for a change.
    Steady,
    /// There is room, but not for long enough.
    Waiting,
    /// Neither the host's memory nor a limit could be read, so the pool does not grow.
    Blind,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::HostShort => "the host's available memory has fallen",
            Reason::CgroupShort => "the cgroup's available memory has fallen",
            Reason::Pressure => "tasks wait for memory",
            Reason::Quiet => "there has been room for a while",
            Reason::Steady => "nothing calls for a change",
            Reason::Waiting => "there is room, but not for long enough",
            Reason::Blind => "neither the host's memory nor a limit can be read",
        })
    }
}

/// The size that the pool should have from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Bytes.
    pub target: u64,
    /// Why.
    pub reason: Reason,
}

/// What is remembered between decisions.
#[derive(Debug, Clone)]
pub struct Decider {
    settings: Settings,
    target: u64,
    /// When memory was short last, or the pool was made.
    short: Duration,
    last: Duration,
}

impl Decider {
    /// At the time `now`, with a pool of its maximal size.
    pub fn new(settings: Settings, now: Duration) -> Self {
        Decider {
            target: settings.maximum,
            settings,
            short: now,
            last: now,
        }
    }

    /// The size that was decided last, in bytes.
    pub fn target(&self) -> u64 {
        self.target
    }

    /// Keeps to other settings from now on.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
        // Not left to the next decision, which disregards small differences.
        let Settings {
            minimum, maximum, ..
        } = self.settings;
        self.target = self.target.max(minimum).min(maximum);
    }

    /// Decides anew. `now` never goes back.
    pub fn step(&mut self, now: Duration, sample: &Sample, usage: Usage) -> Decision {
        let since = now.saturating_sub(std::mem::replace(&mut self.last, now));
        let (wanted, reason) = self.wanted(sample, usage);
        let wanted = wanted.clamp(self.settings.minimum, self.settings.maximum);
        // As long as there is not clearly more room than the pool may take, it is not quiet: so memory that comes and goes
        // makes the pool small, not restless.
        let spare =
            wanted == self.settings.maximum || wanted > self.target + self.target / DEADBAND;
        if reason == Reason::Pressure || !spare {
            self.short = now;
        }
        let target = if wanted < self.target {
            // At once; but what hardly differs is left alone.
            if wanted + wanted / DEADBAND < self.target || wanted == self.settings.minimum {
                wanted
            } else {
                self.target
            }
        } else {
            wanted
        };
        if target <= self.target {
            let reason = if target < self.target || reason == Reason::Blind {
                reason
            } else {
                Reason::Steady
            };
            self.target = target;
            return Decision { target, reason };
        }
        if now.saturating_sub(self.short) < self.settings.quiet {
            return Decision {
                target: self.target,
                reason: Reason::Waiting,
            };
        }
        let growth = u128::from(self.settings.growth) * since.as_millis() / 1000;
        let growth = u64::try_from(growth).unwrap_or(u64::MAX);
        let grown = self.target.saturating_add(growth).min(target);
        let reason = if grown > self.target {
            Reason::Quiet
        } else {
            Reason::Waiting
        };
        self.target = grown;
        Decision {
            target: grown,
            reason,
        }
    }

    /// What the pool should be, if sizes could change freely, and why it should not be larger.
    fn wanted(&self, sample: &Sample, usage: Usage) -> (u64, Reason) {
        let Some(room) = sample.room() else {
            return (self.target, Reason::Blind);
        };
        // What the kernel may take from the pool counts as available; what it may not is the pool's besides.
        let kept = usage.used.saturating_sub(usage.reclaimable);
        let fits = kept.saturating_add(room.saturating_sub(self.settings.reserve));
        let short = if sample.cgroup_available.is_some_and(|cgroup| cgroup <= room) {
            Reason::CgroupShort
        } else {
            Reason::HostShort
        };
        let pressed = sample.triggered
            || sample
                .pressure
                .is_some_and(|pressure| pressure >= self.settings.pressure);
        if pressed {
            let less = self.target - self.target / PRESSURE_STEP;
            if less < fits {
                return (less, Reason::Pressure);
            }
        }
        (fits, short)
    }
}

#[cfg(test)]
#[path = "decide_test.rs"]
mod tests;
