//! What the pool counts.

use serde::Serialize;

/// Figures of a whole pool, all guests together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PoolStats {
    /// Pages stored now.
    pub stored_pages: u64,
    /// Of these, pages of persistent pools.
    pub persistent_pages: u64,
    /// Bytes of their data as stored, without metadata.
    pub stored_bytes: u64,
    /// Bytes charged against the cap: data and [`PAGE_METADATA`](super::PAGE_METADATA) a page.
    pub used_bytes: u64,
    /// Persistent puts promised to the guests and not sent yet.
    pub promised_pages: u64,
    /// Ephemeral pages dropped to make room, since the pool was made.
    pub evictions: u64,
}

impl PoolStats {
    pub(super) fn add(&mut self, data_bytes: u64) {
        self.stored_pages += 1;
        self.stored_bytes += data_bytes;
    }
}
