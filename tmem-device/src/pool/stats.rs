//! What the pool counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// Figures of a whole pool, all guests together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PoolStats {
    /// Pages stored now. Pages that the kernel has taken are among them until that is noticed.
    pub stored_pages: u64,
    /// Of these, pages of persistent pools.
    pub persistent_pages: u64,
    /// Bytes of their data as stored, without metadata.
    pub stored_bytes: u64,
    /// Bytes charged against the cap: data, also of pages that have gone and whose place is not free yet, and
    /// [`PAGE_METADATA`](super::PAGE_METADATA) a page.
    pub used_bytes: u64,
    /// Of these, bytes charged for pages that have gone.
    pub dead_bytes: u64,
    /// Bytes charged for ephemeral pages, which the kernel may take.
    pub ephemeral_bytes: u64,
    /// Pages that nobody has tried to compress.
    pub raw_pages: u64,
    /// Persistent puts promised to the guests and not sent yet.
    pub promised_pages: u64,
    /// Ephemeral pages dropped to make room, since the pool was made.
    pub evictions: u64,
    /// Ephemeral pages that the kernel took, as far as that was noticed, since the pool was made.
    pub taken_pages: u64,
    /// Bytes of pages of memory that data was written to, and that were not given back to the kernel.
    pub arena_bytes: u64,
    /// Bytes that indexes, records and ghosts take, as allocated.
    pub metadata_bytes: u64,
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
}

/// Adds `after` and subtracts `before`; the sum of all such changes is never negative.
pub(super) fn change(counter: &AtomicU64, before: u64, after: u64) {
    if before != after {
        counter.fetch_add(after.wrapping_sub(before), Relaxed);
    }
}
