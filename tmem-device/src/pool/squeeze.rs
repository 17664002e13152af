//! When raw pages are compressed.
//!
//! A page comes in as it is: compressing it costs ten times the copy, and many pages leave again soon, got back
//! or flushed. The pool compresses when it wants the room, and what was put longest ago first: a page pays for
//! its compression once, and only if it stays.

use super::codec::Stored;
use super::ledger::WORST_PAGE;
use super::lru::List;
use super::shard::NO_STAMP;
use super::{HostPool, PoolKind};

/// Of the pool's size, one part in so many is for raw pages even when the pool is full: the youngest, since some
/// leave again at once. `vtmem compare --workload reread`, whose pages come back late, is as fast with 4.
const YOUNG_SHARE: u64 = 16;

impl HostPool {
    /// Compresses pages until there is room, or until only young ones are raw. Called after each put, which makes two
    /// or three compressions, and more only when pages do not compress: each is tried once.
    pub(super) fn squeeze(&self) {
        loop {
            let raw = self.raw_pages();
            if raw == 0 {
                return;
            }
            let tightness = self.ledger.tightness();
            let young = raw * WORST_PAGE <= self.config.size / YOUNG_SHARE;
            if !(tightness.promises || tightness.room && !young) || !self.squeeze_oldest() {
                return;
            }
        }
    }

    /// Compresses the raw page that was put longest ago; false if there is none that nobody has tried.
    pub(super) fn squeeze_oldest(&self) -> bool {
        let oldest = self
            .shards
            .iter()
            .min_by_key(|shard| shard.oldest_stamp(List::Raw))
            .filter(|shard| shard.oldest_stamp(List::Raw) != NO_STAMP);
        let Some(shard) = oldest else {
            return false;
        };
        let Some(raw) = shard.with(|pages| pages.copy_oldest_raw()) else {
            // Another thread was faster. There may be more.
            return self.raw_pages() > 0;
        };
        if let Some(stored) = Stored::compress(&raw.page) {
            let reformed = shard.with(|pages| {
                let reformed = pages.reform(&raw, stored)?;
                let kind = if reformed.ephemeral {
                    PoolKind::Ephemeral
                } else {
                    PoolKind::Persistent
                };
                self.ledger.squeezed(kind, reformed.saved);
                Some(reformed)
            });
            drop(reformed);
        }
        true
    }

    fn raw_pages(&self) -> u64 {
        self.shards.iter().map(|shard| shard.raw_pages()).sum()
    }
}

#[cfg(test)]
#[path = "squeeze_test.rs"]
mod tests;
