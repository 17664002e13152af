//! What the device counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use crate::pool::PoolStats;

/// Figures of one device, and of the pool behind it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TmemStats {
    /// Put operations executed.
    pub puts: u64,
    /// Of these, puts refused for want of room.
    pub puts_refused: u64,
    /// Get operations executed.
    pub gets: u64,
    /// Of these, gets that found their page.
    pub hits: u64,
    /// Flush operations of all kinds executed.
    pub flushes: u64,
    /// Descriptor chains of the put and the get queue, malformed ones included.
    pub chains: u64,
    /// Chains of any queue that were returned with nothing done.
    pub malformed_chains: u64,
    /// Doorbells of the put queue; the same as `put_doorbells`.
    pub doorbells: u64,
    /// Doorbells of the put queue.
    pub put_doorbells: u64,
    /// Doorbells of the get queue.
    pub get_doorbells: u64,
    /// Times that the worker looked for chains of the put queue on its own, for a while.
    pub polls: u64,
    /// Of these, times that it found none.
    pub polls_in_vain: u64,
    /// Events sent to the driver.
    pub events: u64,
    /// Evicted pages that the driver was not told of in time, because it offered no buffers for events.
    pub evictions_forgotten: u64,
    /// Bytes of the guest's memory that the driver says it takes; 0 if it does not say.
    pub driver_memory_bytes: u64,
    /// Ephemeral pages that the pool (all its guests) dropped to make room.
    pub evictions: u64,
    /// Pages that the pool (all its guests) holds now.
    pub stored_pages: u64,
    /// Bytes of their data as stored, without metadata.
    pub stored_bytes: u64,
    /// Bytes that the pool charges against its size for them, metadata included.
    pub used_bytes: u64,
    /// Of the stored pages, those that a tier alone has.
    pub below_pages: u64,
    /// Pages written to tiers, since the pool was made.
    pub written_pages: u64,
    /// Pages got back from tiers, since the pool was made.
    pub reloaded_pages: u64,
    /// Gets of pages that a tier could not return, since the pool was made.
    pub unreadable_pages: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub puts: AtomicU64,
    pub puts_refused: AtomicU64,
    pub gets: AtomicU64,
    pub hits: AtomicU64,
    pub flushes: AtomicU64,
    pub chains: AtomicU64,
    pub malformed_chains: AtomicU64,
    pub put_doorbells: AtomicU64,
    pub get_doorbells: AtomicU64,
    pub polls: AtomicU64,
    pub polls_in_vain: AtomicU64,
    pub events: AtomicU64,
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counters {
    pub fn with_pool(&self, pool: PoolStats) -> TmemStats {
        TmemStats {
            puts: self.puts.load(Relaxed),
            puts_refused: self.puts_refused.load(Relaxed),
            gets: self.gets.load(Relaxed),
            hits: self.hits.load(Relaxed),
            flushes: self.flushes.load(Relaxed),
            chains: self.chains.load(Relaxed),
            malformed_chains: self.malformed_chains.load(Relaxed),
            doorbells: self.put_doorbells.load(Relaxed),
            put_doorbells: self.put_doorbells.load(Relaxed),
            get_doorbells: self.get_doorbells.load(Relaxed),
            polls: self.polls.load(Relaxed),
            polls_in_vain: self.polls_in_vain.load(Relaxed),
            events: self.events.load(Relaxed),
            evictions_forgotten: 0,
            driver_memory_bytes: 0,
            evictions: pool.evictions,
            stored_pages: pool.stored_pages,
            stored_bytes: pool.stored_bytes,
            used_bytes: pool.used_bytes,
            below_pages: pool.below_pages,
            written_pages: pool.written_pages,
            reloaded_pages: pool.reloaded_pages,
            unreadable_pages: pool.unreadable_pages,
        }
    }
}
