//! What the governor did, for those who want to know: the latest events, and a way to wait for the next.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::decide::Reason;
use super::sample::{Sample, Usage};

/// Events that are kept.
const KEPT: usize = 256;

/// A decision, and what it was made by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Event {
    /// Counts events from 1 on.
    pub number: u64,
    /// Since the governor began.
    pub at: Duration,
    /// Bytes that the pool might take before.
    pub from: u64,
    /// Bytes that it may take now.
    pub to: u64,
    /// Why.
    pub reason: Reason,
    /// What the machine looked like.
    pub sample: Sample,
    /// What the pool took.
    pub usage: Usage,
}

#[derive(Default)]
struct Log {
    events: VecDeque<Event>,
    count: u64,
}

/// The latest events.
#[derive(Default)]
pub struct Events {
    log: Mutex<Log>,
    added: Condvar,
}

impl Events {
    pub(super) fn add(&self, event: Event) {
        let mut log = self.lock();
        log.count += 1;
        let number = log.count;
        if log.events.len() == KEPT {
            log.events.pop_front();
        }
        log.events.push_back(Event { number, ..event });
        self.added.notify_all();
    }

    /// The events after number `after`, as far as they are kept: the latest 256. Waits for one, for `timeout` at most.
    pub fn after(&self, after: u64, timeout: Duration) -> Vec<Event> {
        let end = Instant::now() + timeout;
        let mut log = self.lock();
        while log.count <= after {
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Vec::new();
            }
            (log, _) = self
                .added
                .wait_timeout(log, rest)
                .expect("no thread panics while it holds the events");
        }
        let events = log.events.iter();
        events
            .filter(|event| event.number > after)
            .copied()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log
            .lock()
            .expect("no thread panics while it holds the events")
    }
}
