//! When raw pages are compressed, and which.
//!
//! A page comes in as it is: compressing it costs ten times the copy, and many pages leave again soon, got back
//! or flushed. The pool compresses when it wants the room, and picks at random: a page that has been there for long
//! was probably picked at some time, one that soon leaves probably not. To compress what was put longest ago
//! would be as good where uses are independent of each other, but a set that is read over and over in one order, as
//! files and swapped memory often are, is then compressed page by page just before each is got back: that cost
//! `vtmem compare --workload source` 49,126 compressions, 0.87 s of its 2.34 s.

use std::sync::atomic::Ordering::Relaxed;

use super::codec::Stored;
use super::ledger::WORST_PAGE;
use super::{HostPool, PoolKind};

/// Of the pool's size, one part in so many is for raw pages even when the pool is full, since some leave again at once.
/// `vtmem compare --workload reread`, whose pages come back late, is as fast with 4.
const RAW_SHARE: u64 = 16;

impl HostPool {
    /// Compresses pages until there is room, also for what the guest may be promised next, or until few are raw. Called after
    /// each put, which makes two or three compressions, and more only when pages do not compress: each is tried once.
    pub(super) fn squeeze(&self, guest: u32) {
        loop {
            let raw = self.raw_pages();
            if raw == 0 {
                return;
            }
            let tightness = self.ledger.tightness(guest);
            let few = raw * WORST_PAGE <= self.config.size / RAW_SHARE;
            if !(tightness.promises || tightness.room && !few) || !self.squeeze_one() {
                return;
            }
        }
    }

    /// Compresses a raw page; false if there is none that nobody has tried.
    pub(super) fn squeeze_one(&self) -> bool {
        let raw = self.raw_pages();
        if raw == 0 {
            return false;
        }
        let mut number = self.pick() % raw;
        let Some(raw) = self.shards.iter().find_map(|shard| {
            // Other threads change the numbers meanwhile: whatever page this ends at will do.
            let here = shard.raw_pages();
            if number < here {
                shard
                    .with(|pages| pages.copy_raw(number))
                    .map(|raw| (shard, raw))
            } else {
                number -= here;
                None
            }
        }) else {
            return self.raw_pages() > 0;
        };
        let (shard, raw) = raw;
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

    /// The next of a sequence of numbers that look random: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    fn pick(&self) -> u64 {
        let step = self.picks.fetch_add(1, Relaxed).wrapping_add(1);
        let mut z = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn raw_pages(&self) -> u64 {
        self.shards.iter().map(|shard| shard.raw_pages()).sum()
    }
}

#[cfg(test)]
#[path = "squeeze_test.rs"]
mod tests;
