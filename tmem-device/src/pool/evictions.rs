//! Which ephemeral pages of a guest were evicted, until the guest is told.
//!
//! Reports are hints: a guest that does not hear of an eviction asks for the page once and misses. So
//! the log is bounded, and when nobody fetches it, what is oldest is forgotten.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use super::key::{Key, ObjectId, object_bytes};

/// Runs that a log holds, 400 KiB at most.
const MAX_RUNS: usize = 8192;

/// Pages of one object, next to each other, that were evicted one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    /// The guest's pool.
    pub pool: u32,
    /// The object in it.
    pub object: ObjectId,
    /// Index of the first page.
    pub index: u64,
    /// How many pages, at least one.
    pub count: u32,
}

#[derive(Default)]
pub(super) struct EvictionLog {
    wanted: AtomicBool,
    waiting: AtomicUsize,
    forgotten: AtomicU64,
    runs: Mutex<VecDeque<Evicted>>,
}

impl EvictionLog {
    /// Starts or ends the log; it is empty then.
    pub fn set_wanted(&self, wanted: bool) {
        let mut runs = self.lock();
        self.wanted.store(wanted, Relaxed);
        runs.clear();
        runs.shrink_to_fit();
        self.waiting.store(0, Relaxed);
    }

    /// Notes a page that was evicted.
    pub fn add(&self, key: &Key) {
        if !self.wanted.load(Relaxed) {
            return;
        }
        let object = object_bytes(&key.object.object);
        let mut runs = self.lock();
        if let Some(run) = runs.back_mut()
            && (run.pool, run.object) == (key.object.pool, object)
            && run.index.checked_add(run.count.into()) == Some(key.index)
            && run.count < u32::MAX
        {
            run.count += 1;
            return;
        }
        if runs.len() == MAX_RUNS
            && let Some(run) = runs.pop_front()
        {
            self.forgotten.fetch_add(run.count.into(), Relaxed);
        }
        runs.push_back(Evicted {
            pool: key.object.pool,
            object,
            index: key.index,
            count: 1,
        });
        self.waiting.store(runs.len(), Relaxed);
    }

    /// Runs that wait; as of the last change.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Of the runs that wait, those before the latest that hold `pages` pages. Looks at all of these.
    pub fn waiting_before(&self, pages: u64) -> usize {
        let runs = self.lock();
        let mut rest = pages;
        let latest = runs.iter().rev().take_while(|run| {
            let among = rest > 0;
            rest = rest.saturating_sub(run.count.into());
            among
        });
        runs.len() - latest.count()
    }

    /// Pages whose eviction was forgotten.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Relaxed)
    }

    /// Moves at most `limit` runs, the oldest first, to the end of `to`.
    pub fn take(&self, limit: usize, to: &mut Vec<Evicted>) {
        let mut runs = self.lock();
        let count = limit.min(runs.len());
        to.extend(runs.drain(..count));
        self.waiting.store(runs.len(), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Evicted>> {
        self.runs
            .lock()
            .expect("no thread panics while it holds the log")
    }
}

#[cfg(test)]
#[path = "evictions_test.rs"]
mod tests;
