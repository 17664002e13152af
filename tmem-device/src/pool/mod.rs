//! The host's pool of pages, shared by all guests.
//!
//! A put flows forward: [`Guest`] checks the pool's id, [`HostPool`] asks the ledger for
//! admission and makes room, a shard keeps what the codec made of the page, and when room is
//! short, some are squeezed. The pool knows nothing of virtio.
//!
//! # Memory
//! The pool charges each page its stored bytes and [`PAGE_METADATA`], an upper bound of what the
//! structures around it take, and never stores what would exceed [`PoolConfig::size`]. Beyond
//! that come 16 shards with at most two spare slab chunks each (360 KiB together), 13 KiB of
//! scratch space and at most 260 KiB of free pieces for each thread that puts or frees,
//! 400 KiB for the log of a guest's evictions, a few dozen bytes for each of a guest's pools (at most
//! [`PoolConfig::max_pools`]), and what the process's allocator loses: 1 to 10 % in
//! `tests/memory_bound.rs`, which fails beyond 12 %, because data is kept in pieces of one length.
//! Empty objects take nothing: an object exists only as the keys of its pages.
//! Freed blocks go back to the allocator at once; after a bulk release (a pool destroyed, a
//! guest gone) the pool asks the C library to give whole free pages back to the kernel.

mod codec;
mod evictions;
mod guest;
mod key;
mod ledger;
mod lru;
mod objects;
mod pieces;
mod shard;
mod squeeze;
mod stats;
mod trim;

use std::collections::BTreeMap;
#[cfg(test)]
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

pub use codec::{Page, PageCopy};
pub use evictions::Evicted;
pub use guest::Guest;
pub use key::ObjectId;
pub use ledger::{OBJECT_METADATA, PAGE_METADATA, WORST_PAGE};
pub use stats::PoolStats;

use codec::Stored;
use evictions::EvictionLog;
use key::{Key, ObjectKey};
use ledger::{Admission, Ledger, Load};
use shard::{NO_STAMP, Pages, Shard, Taken};

const SHARDS: usize = 16;

/// Slots are numbered by 32 bits: with a pool of this size, no shard can run out of them.
const MAX_SIZE: u64 = u32::MAX as u64 * PAGE_METADATA;

/// Pages that a range operation frees in one go, under one shard's lock.
const RANGE_BATCH: usize = 256;

/// How often an ephemeral put makes room that others then take, before it is refused.
const ADMISSION_ATTEMPTS: usize = 32;

/// What a pool of pages does when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// Its pages may be dropped at any time; a get removes the page.
    Ephemeral,
    /// An accepted page is kept until it is flushed; a get leaves it.
    Persistent,
}

/// How large the pool may become, and what a single guest may take of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Bytes of host memory that stored pages and their metadata may take. With 0, every
    /// put is refused; 960 GiB is the most that is used.
    pub size: u64,
    /// Persistent puts promised to one guest at most, in pages.
    pub credit: u32,
    /// Pools that one guest may have at once.
    pub max_pools: u32,
}

impl PoolConfig {
    /// A pool of `size` bytes with the default limits: 1024 pools a guest, and credit for one part in 128 of the
    /// pool, but from 64 to 1024 pages. What is promised is kept free.
    pub fn new(size: u64) -> Self {
        PoolConfig {
            size,
            credit: (size / 128 / WORST_PAGE).clamp(64, 1024) as u32,
            max_pools: 1024,
        }
    }
}

/// Why the pool did not do as it was asked. All of these are ordinary answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The guest has no pool of this id.
    #[error("the guest has no such pool; create one first")]
    NoSuchPool,
    /// There is no room, or the guest has too many pools. After a refused put, the key is absent.
    #[error("no room; keep the page elsewhere")]
    Refused,
    /// A persistent page is damaged in the host's memory.
    #[error("the host lost the page; treat it as a read error")]
    Lost,
}

/// Memory of the host that holds pages of guests.
pub struct HostPool {
    config: PoolConfig,
    ledger: Ledger,
    shards: Vec<Shard>,
    /// Of each guest.
    eviction_logs: RwLock<BTreeMap<u32, Arc<EvictionLog>>>,
    stamp: AtomicU64,
    /// Pages that were picked to be compressed.
    picks: AtomicU64,
    next_guest: AtomicU32,
}

impl HostPool {
    /// Makes an empty pool; memory is only taken as pages come.
    pub fn new(mut config: PoolConfig) -> Arc<Self> {
        config.size = config.size.min(MAX_SIZE);
        Arc::new(HostPool {
            ledger: Ledger::new(config.size, config.credit),
            shards: (0..SHARDS).map(|_| Shard::new()).collect(),
            eviction_logs: RwLock::default(),
            stamp: AtomicU64::new(0),
            picks: AtomicU64::new(0),
            next_guest: AtomicU32::new(0),
            config,
        })
    }

    /// What the pool was made with; the size is the one that is used.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Figures of the whole pool.
    pub fn stats(&self) -> PoolStats {
        self.ledger.stats()
    }

    fn shard(&self, object: &ObjectKey) -> &Shard {
        &self.shards[object.hash() as usize % SHARDS]
    }

    fn next_stamp(&self) -> u64 {
        self.stamp.fetch_add(1, Ordering::Relaxed)
    }

    fn put(&self, key: Key, kind: PoolKind, page: Stored) -> Result<(), PoolError> {
        let refused = match self.put_as(key, kind, page) {
            Ok(()) => None,
            Err(page) if self.ledger.has_room(kind) => match page.compressed() {
                Some(compressed) => self.put_as(key, kind, compressed).err(),
                None => Some(page),
            },
            Err(page) => Some(page),
        };
        if refused.is_some() {
            self.flush_page(key, kind);
            return Err(PoolError::Refused);
        }
        self.squeeze(key.object.guest);
        Ok(())
    }

    /// Stores the page, or gives it back.
    fn put_as(&self, key: Key, kind: PoolKind, page: Stored) -> Result<(), Stored> {
        match kind {
            PoolKind::Ephemeral => self.put_ephemeral(key, page),
            PoolKind::Persistent => self.put_persistent(key, page),
        }
    }

    fn put_ephemeral(&self, key: Key, page: Stored) -> Result<(), Stored> {
        let shard = self.shard(&key.object);
        let data_bytes = page.data_bytes();
        let mut page = page;
        for _ in 0..ADMISSION_ATTEMPTS {
            let (admission, outcome) = shard.with(|pages| {
                let object = pages.object(&key.object);
                let load = Load::page(data_bytes, object.is_none());
                let admission = self.ledger.admit_ephemeral(load);
                if admission != Admission::Granted {
                    return (admission, Err(page));
                }
                let replaced = pages.insert(object, key, page, self.next_stamp(), true);
                if let Some(old) = &replaced {
                    let old = Load::page(old.data_bytes(), false);
                    self.ledger.release(PoolKind::Ephemeral, old);
                }
                (admission, Ok(replaced))
            });
            page = match outcome {
                // What was replaced is freed here, without the lock.
                Ok(_) => return Ok(()),
                Err(page) => page,
            };
            let goes_on = admission == Admission::NeedsEviction
                // An older page of the same key goes first: it costs nobody anything.
                && (self.flush_page(key, PoolKind::Ephemeral) || self.evict_oldest());
            if !goes_on {
                break;
            }
        }
        Err(page)
    }

    fn put_persistent(&self, key: Key, page: Stored) -> Result<(), Stored> {
        let data_bytes = page.data_bytes();
        while !self.ledger.admit_persistent(key.object.guest, data_bytes) {
            // The older page of the key is lost in any case; perhaps its room is enough.
            if !self.flush_page(key, PoolKind::Persistent) && !self.squeeze_one() {
                return Err(page);
            }
        }
        while self.ledger.is_over() {
            if !self.evict_oldest() {
                // Another thread holds the pages that must go.
                std::thread::yield_now();
            }
        }
        let replaced = self.shard(&key.object).with(|pages| {
            let object = pages.object(&key.object);
            if object.is_some() {
                self.ledger.object_was_there();
            }
            let replaced = pages.insert(object, key, page, self.next_stamp(), false);
            if let Some(old) = &replaced {
                let old = Load::page(old.data_bytes(), false);
                self.ledger.release(PoolKind::Persistent, old);
            }
            replaced
        });
        drop(replaced);
        Ok(())
    }

    /// Drops the ephemeral page that was put longest ago; exact while nobody else changes the pool.
    fn evict_oldest(&self) -> bool {
        loop {
            let hint = self
                .shards
                .iter()
                .map(|shard| (shard.oldest_stamp(), shard))
                .min_by_key(|(stamp, _)| *stamp)
                .filter(|(stamp, _)| *stamp != NO_STAMP);
            let Some((_, shard)) = hint else {
                // The hints lag behind pages that are just being inserted: wait for them.
                return self.shards.iter().any(|shard| self.evict_from(shard));
            };
            if self.evict_from(shard) {
                return true;
            }
        }
    }

    fn evict_from(&self, shard: &Shard) -> bool {
        let evicted = shard.with(|pages| {
            let taken = pages.remove_oldest()?;
            self.ledger.evicted(taken.load());
            Some(taken)
        });
        let Some(Taken { key, .. }) = evicted else {
            return false;
        };
        let logs = self
            .eviction_logs
            .read()
            .expect("no thread panics while it holds the logs");
        if let Some(log) = logs.get(&key.object.guest) {
            log.add(&key);
        }
        true
    }

    /// Writes the page to `page` if it is there; an ephemeral one is removed.
    fn get(&self, key: Key, kind: PoolKind, page: &mut Page) -> Result<bool, PoolError> {
        match kind {
            PoolKind::Ephemeral => {
                let Some(stored) = self.take(&key, kind) else {
                    return Ok(false);
                };
                // An ephemeral page that the host lost is a miss.
                Ok(stored.decode(page).is_ok())
            }
            PoolKind::Persistent => self.shard(&key.object).with(|pages| match pages.get(&key) {
                None => Ok(false),
                Some(stored) => stored
                    .decode(page)
                    .map(|()| true)
                    .map_err(|_| PoolError::Lost),
            }),
        }
    }

    fn take(&self, key: &Key, kind: PoolKind) -> Option<Stored> {
        self.shard(&key.object).with(|pages| {
            let taken = pages.remove(key)?;
            self.ledger.release(kind, taken.load());
            Some(taken.stored)
        })
    }

    /// Drops a page; whether there was one.
    fn flush_page(&self, key: Key, kind: PoolKind) -> bool {
        self.take(&key, kind).is_some()
    }

    /// Drops the pages of one object from `first` to the index `last`; how many there were.
    fn flush_range(&self, first: Key, last: u64, kind: PoolKind) -> u64 {
        self.flush(self.shard(&first.object), kind, |pages| {
            pages.remove_range(&first, last, RANGE_BATCH)
        })
    }

    /// Drops all pages of a guest's pool.
    fn flush_pool(&self, guest: u32, pool: u32, kind: PoolKind) -> u64 {
        let flush = |shard| {
            self.flush(shard, kind, |pages| {
                pages.remove_pool(guest, pool, RANGE_BATCH)
            })
        };
        self.shards.iter().map(flush).sum()
    }

    /// Drops what `next` takes out, a batch after the other.
    fn flush(&self, shard: &Shard, kind: PoolKind, next: impl Fn(&mut Pages) -> Vec<Taken>) -> u64 {
        let mut flushed = 0;
        loop {
            let batch = shard.with(|pages| {
                let batch = next(pages);
                if !batch.is_empty() {
                    self.ledger
                        .release(kind, batch.iter().map(Taken::load).sum());
                }
                batch
            });
            flushed += batch.len() as u64;
            if batch.len() < RANGE_BATCH {
                return flushed;
            }
        }
    }

    /// Recomputes the books from the shards, and compares. No other thread may use the pool.
    #[cfg(test)]
    fn audit(&self) {
        let (mut ephemeral, mut persistent) = (0, 0);
        for shard in &self.shards {
            shard.with(|pages| {
                let mut seen = BTreeSet::new();
                for entry in pages.audit() {
                    let mut cost = entry.stored.data_bytes() + PAGE_METADATA;
                    if seen.insert(entry.object.number) {
                        cost += OBJECT_METADATA;
                    }
                    *(if entry.ephemeral {
                        &mut ephemeral
                    } else {
                        &mut persistent
                    }) += cost;
                }
            });
        }
        let books = self.ledger.lock();
        assert_eq!((books.ephemeral, books.persistent), (ephemeral, persistent));
        assert!(
            ephemeral + persistent <= self.config.size,
            "the cap is exceeded"
        );
        let promised = books.promised * ledger::WORST_PAGE;
        assert!(
            persistent + promised <= self.config.size,
            "more is promised than there is"
        );
    }
}

#[cfg(test)]
#[path = "model_test.rs"]
mod model_test;

#[cfg(test)]
#[path = "concurrency_test.rs"]
mod concurrency_test;
