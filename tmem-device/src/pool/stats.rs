//! What the pool counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::shard::Hints;

/// Figures of a whole pool, all guests together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PoolStats {
    /// Pages stored now, in memory or a tier. Pages that the kernel has taken are among them until that is noticed.
    pub stored_pages: u64,
    /// Of these, pages of persistent pools.
    pub persistent_pages: u64,
    /// Bytes of their data in memory as stored, without metadata.
    pub stored_bytes: u64,
    /// Bytes charged against the cap: data, also of pages that have gone and whose place is not free yet, and
    /// [`PAGE_METADATA`](super::PAGE_METADATA) a page.
    pub used_bytes: u64,
    /// Of these, bytes charged for pages that have gone.
    pub dead_bytes: u64,
    /// Bytes charged for ephemeral pages, and for what tiers have too: the kernel may take that.
    pub ephemeral_bytes: u64,
    /// Pages that nobody has tried to compress.
    pub raw_pages: u64,
    /// Persistent puts promised to the guests and not sent yet.
    pub promised_pages: u64,
    /// Ephemeral pages dropped to make room, since the pool was made.
    pub evictions: u64,
    /// Pages, ephemeral or in a tier too, that the kernel took, as far as that was noticed, since the pool was made.
    pub taken_pages: u64,
    /// Bytes of pages of memory that data was written to, and that were not given back to the kernel.
    pub arena_bytes: u64,
    /// Bytes that indexes, records and ghosts take, as allocated.
    pub metadata_bytes: u64,
    /// Bytes charged for persistent pages that memory alone has.
    pub dirty_bytes: u64,
    /// Of the stored pages, those that a tier alone has.
    pub below_pages: u64,
    /// Pages written to tiers, since the pool was made.
    pub written_pages: u64,
    /// Pages got back from tiers, since the pool was made.
    pub reloaded_pages: u64,
    /// Gets of pages that a tier could not return, since the pool was made.
    pub unreadable_pages: u64,
}

/// What is counted as it happens.
#[derive(Default)]
pub(super) struct Counters {
    pub stored_pages: AtomicU64,
    pub persistent_pages: AtomicU64,
    pub stored_bytes: AtomicU64,
    pub raw_pages: AtomicU64,
    pub dead_bytes: AtomicU64,
    pub evictions: AtomicU64,
    pub taken_pages: AtomicU64,
    pub dirty_bytes: AtomicU64,
    pub below_pages: AtomicU64,
    pub written_pages: AtomicU64,
    pub reloaded_pages: AtomicU64,
    pub unreadable_pages: AtomicU64,
}

impl Counters {
    /// Bytes charged for persistent pages that memory alone has.
    pub fn dirty(&self) -> u64 {
        self.dirty_bytes.load(Relaxed)
    }

    /// The figures of a shard have changed.
    pub fn follow(&self, before: Hints, after: Hints) {
        change(&self.raw_pages, before.raw, after.raw);
        change(&self.dead_bytes, before.dead(), after.dead());
        change(&self.dirty_bytes, before.dirty, after.dirty);
        change(&self.below_pages, before.below(), after.below());
    }
}

/// Adds `after` and subtracts `before`; the sum of all such changes is never negative.
pub(super) fn change(counter: &AtomicU64, before: u64, after: u64) {
    if before != after {
        counter.fetch_add(after.wrapping_sub(before), Relaxed);
    }
}
