//! The host's pool of pages, shared by all guests.
//!
//! A put flows forward: [`Guest`] checks the pool's id, [`HostPool`] books the page and makes room (`books.rs`,
//! `room.rs`), a shard of the guest's store indexes it (`shard.rs`, `entries.rs`, `objects.rs`), a segment takes its bytes
//! (`segments.rs`, `filled.rs`, `arena.rs`). When room is short the cleaner compresses pages and closes gaps (`cleaner.rs`). The
//! pool knows nothing of virtio.
//!
//! With tiers below it, persistent pages that memory alone has are *dirty*, and bounded: the oldest are written to a tier
//! (`writeback.rs`, on a thread of its own, `writer.rs`), and what memory keeps of them is *clean* then: it may go as ephemeral pages do,
//! evicted by the pool or taken by the kernel, and the page comes back from its tier when it is asked for (`reload.rs`).
//! No put ever waits for a tier.
//!
//! # Memory
//! Data lies in segments of 128 KiB. Those with ephemeral pages are given to the kernel when they are full, eight at once (`arena.rs`, `reclaim.rs`): it
//! takes them back under memory pressure, without asking and at once, and the pool finds out when a page is asked for, or
//! by [`HostPool::find_taken`]. Free segments are given to the kernel likewise, and used again as far as it has not taken them;
//! at once they go back only when a guest's pool is destroyed, or the size is made smaller.
//!
//! The pool charges each page its data, [`PAGE_METADATA`], and the first of an object [`OBJECT_METADATA`]: upper bounds of what
//! the structures around it take. What a page was charged is free again when its segment is: at the latest when an eighth
//! of the pool is charged for pages that have gone. The pool never stores what would exceed [`PoolConfig::size`]. Beyond
//! that come up to 128 KiB for each open segment (six a shard at most; a guest has a shard for each 32 MiB of the size, eight at
//! most), one segment that is being cleaned for each thread, 2 to 4 bytes of ghosts for each 4 KiB of the size, 100 KiB of scratch space for each thread,
//! 400 KiB for the log of a guest's evictions, and a few dozen bytes for each of a guest's pools
//! (at most [`PoolConfig::max_pools`]). `tests/memory_bound.rs` holds the process to it.
//!
//! # Which pages go
//! Ephemeral pages have two queues after S3-FIFO (J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP
//! 2023): one for pages that come for the first time, from which pages are evicted while it takes more than a tenth, and
//! one for those that were here before (`ghosts.rs`). Both are first in, first out, by the segment. A page that is asked for
//! leaves the pool, so what S3-FIFO learns from hits in the queue is learnt from pages that come again.

mod arena;
mod below;
mod books;
mod chains;
mod cleaner;
mod codec;
mod control;
mod entries;
mod evictions;
mod filled;
mod flush;
mod ghosts;
mod governed;
mod guest;
mod heap;
mod key;
mod objects;
mod reclaim;
mod reload;
mod room;
mod segments;
mod shard;
mod slab;
mod stats;
mod store;
mod turns;
mod work;
mod writeback;
mod writer;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, RwLock};

pub use books::{Holding, OBJECT_METADATA, PAGE_METADATA, Share, WORST_PAGE};
pub use codec::Page;
pub use control::{FlushError, GuestPool};
pub use evictions::Evicted;
pub use flush::{Flush, indexes};
pub use guest::{Guest, PageName};
pub use key::ObjectId;
pub use stats::PoolStats;
pub use work::work_done;
pub use writeback::WriteBack;
pub use writer::Writer;

use crate::tier::{Tier, TierStats};
use crate::wire::PAGE_SIZE;
use arena::Arena;
use below::{MAX_TIERS, Spot};
use books::Books;
use filled::{Data, Queue};
use ghosts::Ghosts;
use key::Key;
use reload::Wanted;
use shard::{Fetched, Left, Shard};
use stats::{Counters, change};
use store::Store;
use turns::Progress;
use writer::Signal;

/// The most that is used.
const MAX_SIZE: u64 = 1 << 40;

/// Pages that are put or got under one lock.
pub const BATCH: usize = 16;

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
    /// put is refused; 1 TiB is the most that is used.
    pub size: u64,
    /// Persistent puts promised to one guest at most, in pages.
    pub credit: u32,
    /// Pools that one guest may have at once.
    pub max_pools: u32,
    /// Whether the kernel may take ephemeral pages; without, they are the process's own memory, and meet memory
    /// pressure as such.
    pub reclaimable: bool,
    /// With tiers: bytes of persistent pages that memory alone may have, what is promised included; further ones are refused. The
    /// oldest are written to a tier when half of that is reached. Without, half of what the pool may take; three quarters
    /// at most are used.
    pub dirty: Option<u64>,
    /// With tiers: whether ephemeral pages that would have to go are written to one, and stay there.
    pub spill_ephemeral: bool,
    /// What the pool's hashes depend on. A guest that knows it can choose pages that are found slowly.
    pub seed: u64,
}

impl PoolConfig {
    /// A pool of `size` bytes with the default limits: 1024 pools a guest, and credit for one part in 128 of the
    /// pool, but from 64 to 1024 pages. What is promised is kept free.
    pub fn new(size: u64) -> Self {
        PoolConfig {
            size,
            credit: (size / 128 / WORST_PAGE).clamp(64, 1024) as u32,
            max_pools: 1024,
            reclaimable: true,
            dirty: None,
            spill_ephemeral: false,
            seed: 0,
        }
    }

    /// The same with a seed that nobody knows, as a guest that is not trusted requires; without, a pool does the same in every
    /// run.
    pub fn with_secret_seed(self) -> Self {
        PoolConfig {
            seed: key::random_seed(),
            ..self
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
    /// A persistent page cannot be read: it is damaged in the host's memory or on its tier, or the tier does not answer.
    #[error("the host cannot read the page; treat it as a read error")]
    Lost,
}

/// Memory of the host that holds pages of guests.
pub struct HostPool {
    config: PoolConfig,
    /// The first that takes a page has it.
    tiers: Vec<Arc<dyn Tier>>,
    /// What wakes the thread that writes to them.
    signal: Signal,
    arena: Arc<Arena>,
    books: Books,
    ghosts: Ghosts,
    stores: RwLock<BTreeMap<u32, Arc<Store>>>,
    counters: Counters,
    /// Segments that were picked to be compressed.
    picks: AtomicU64,
    /// Whether pages are compressed at all.
    compressing: AtomicBool,
    next_guest: AtomicU32,
}

thread_local! {
    /// Data on its way out of a shard.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; BATCH * PAGE_SIZE]);
}

impl HostPool {
    /// Makes an empty pool; memory is only taken as pages come.
    pub fn new(config: PoolConfig) -> Arc<Self> {
        Self::with_tiers(config, Vec::new())
    }

    /// Makes an empty pool above tiers, of which the first that takes a page has it; 256 are used at most. A [`Writer`] is to be
    /// started for it.
    pub fn with_tiers(mut config: PoolConfig, mut tiers: Vec<Arc<dyn Tier>>) -> Arc<Self> {
        heap::set_up();
        config.size = config.size.min(MAX_SIZE);
        tiers.truncate(MAX_TIERS);
        let dirty_limit = config.dirty_limit(config.size, &tiers);
        Arc::new(HostPool {
            tiers,
            signal: Signal::default(),
            arena: Arena::new(config.reclaimable),
            books: Books::new(config.size, dirty_limit, config.credit),
            ghosts: Ghosts::new(config.size / PAGE_SIZE as u64),
            stores: RwLock::default(),
            counters: Counters::default(),
            picks: AtomicU64::new(0),
            compressing: AtomicBool::new(true),
            next_guest: AtomicU32::new(0),
            config,
        })
    }

    /// What the pool was made with; the size is the one that is used.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Bytes that the pool may take now; at first [`PoolConfig::size`].
    pub fn size(&self) -> u64 {
        self.books.size()
    }

    /// Makes the pool larger or smaller, 1 TiB being the most that is used. Ephemeral pages that are too many go before this
    /// returns. Persistent pages stay: while they take more than the new size, nothing is promised, and puts without credit
    /// are refused.
    pub fn set_size(&self, size: u64) {
        self.announce_size(size);
        self.keep_to_size();
    }

    /// Figures of the whole pool. Those of memory are taken shard by shard, others as they are.
    pub fn stats(&self) -> PoolStats {
        let stores = self.all_stores();
        let sum = |f: &dyn Fn(&Shard) -> u64| stores.iter().map(|store| store.sum(f)).sum::<u64>();
        let metadata = sum(&|shard| shard.metadata_bytes() as u64);
        let sums = self.books.sums();
        let counters = &self.counters;
        PoolStats {
            stored_pages: counters.stored_pages.load(Relaxed),
            persistent_pages: counters.persistent_pages.load(Relaxed),
            stored_bytes: counters.stored_bytes.load(Relaxed),
            used_bytes: sums.ephemeral + sums.persistent,
            dead_bytes: counters.dead_bytes.load(Relaxed),
            ephemeral_bytes: sums.ephemeral,
            raw_pages: counters.raw_pages.load(Relaxed),
            promised_pages: sums.promised_pages,
            evictions: counters.evictions.load(Relaxed),
            taken_pages: counters.taken_pages.load(Relaxed),
            arena_bytes: sum(&|shard| shard.segments.arena_bytes()),
            metadata_bytes: metadata + self.ghosts.bytes(),
            dirty_bytes: counters.dirty(),
            below_pages: counters.below_pages.load(Relaxed),
            written_pages: counters.written_pages.load(Relaxed),
            reloaded_pages: counters.reloaded_pages.load(Relaxed),
            unreadable_pages: counters.unreadable_pages.load(Relaxed),
        }
    }

    /// Figures of the tiers, the first one's first.
    pub fn tier_stats(&self) -> Vec<TierStats> {
        self.tiers.iter().map(|tier| tier.stats()).collect()
    }

    fn all_stores(&self) -> Vec<Arc<Store>> {
        let stores = self
            .stores
            .read()
            .expect("no thread panics while it holds the stores");
        stores.values().cloned().collect()
    }

    fn store(&self, guest: u32) -> Option<Arc<Store>> {
        let stores = self
            .stores
            .read()
            .expect("no thread panics while it holds the stores");
        stores.get(&guest).cloned()
    }

    /// Calls `f` with a shard locked, and then sees to what left it. `kind` is that of the pages that leave.
    fn with<R>(
        &self,
        store: &Store,
        shard: usize,
        kind: PoolKind,
        f: impl FnOnce(&mut Shard, &mut Left) -> R,
    ) -> R {
        let mut left = Left::default();
        let (result, figures) = store.with(shard, |shard| f(shard, &mut left));
        work::add(left.pages + left.looked / work::LOOKS + left.freed.len() as u64 * work::SEGMENT);
        self.counters.follow(figures.before, figures.after);
        let counters = &self.counters;
        change(&counters.stored_pages, left.pages, 0);
        change(&counters.stored_bytes, left.bytes, 0);
        change(&counters.taken_pages, 0, left.taken);
        if kind == PoolKind::Persistent {
            change(&counters.persistent_pages, left.pages, 0);
        }
        let noted = left.spots.len() as u64 * PAGE_METADATA;
        let mut by_pages = left.released + left.objects * OBJECT_METADATA;
        match kind {
            PoolKind::Persistent if noted > 0 => self.books.forget(store.guest, noted),
            PoolKind::Persistent => {}
            PoolKind::Ephemeral => by_pages += noted,
        }
        for account in [PoolKind::Ephemeral, PoolKind::Persistent] {
            let freed = left.freed.iter().filter(|freed| freed.account == account);
            let mut released: u64 = freed.map(|freed| freed.cost).sum();
            if account == kind {
                released += by_pages;
            }
            if released > 0 {
                self.books.release(store.guest, account, released);
            }
        }
        self.discard(left.spots);
        result
    }

    /// Tiers need not keep these any more.
    fn discard(&self, mut spots: Vec<Spot>) {
        spots.sort_unstable_by_key(|spot| spot.tier);
        for spots in spots.chunk_by(|a, b| a.tier == b.tier) {
            let handles: Vec<_> = spots.iter().map(|spot| spot.handle).collect();
            if let Some(tier) = spots.first().and_then(|spot| self.tier(*spot)) {
                tier.discard(&handles);
            }
        }
    }

    fn tier(&self, spot: Spot) -> Option<&Arc<dyn Tier>> {
        self.tiers.get(usize::from(spot.tier))
    }

    /// Stores pages whose objects are in one shard, one after the other; `results` has as many places.
    fn put(
        &self,
        store: &Store,
        kind: PoolKind,
        pages: &[(Key, &Page)],
        results: &mut [Result<(), PoolError>],
    ) {
        let Some((first, _)) = pages.first() else {
            return;
        };
        work::add(pages.len() as u64 * work::PAGE);
        let shard = store.shard_of(&first.object);
        let booked = self.book(store, kind, pages);
        let queues = pages.iter().map(|(key, _)| match kind {
            PoolKind::Persistent => Queue::Persistent,
            PoolKind::Ephemeral if self.ghosts.knows(store.guest, key) => Queue::Main,
            PoolKind::Ephemeral => Queue::Small,
        });
        let (mut stored, mut bytes, mut surplus) = (0, 0, 0);
        self.with(store, shard, kind, |shard, left| {
            let pages = pages.iter().zip(queues).zip(&booked).zip(results);
            for ((((key, page), queue), booked), result) in pages {
                *result = Err(PoolError::Refused);
                if *booked == 0 {
                    shard.remove(key, left);
                    continue;
                }
                let data = match codec::shorten(page) {
                    Some(word) => Data::Short(word),
                    None => Data::Whole {
                        page,
                        settled: false,
                    },
                };
                surplus += booked;
                if let Ok(inserted) = shard.insert(key, queue, store.next_age(), data, left) {
                    *result = Ok(());
                    stored += 1;
                    bytes += data.length() as u64;
                    surplus -= inserted.cost;
                    if inserted.new_object {
                        surplus -= OBJECT_METADATA;
                    }
                }
            }
        });
        change(&self.counters.stored_pages, 0, stored);
        change(&self.counters.stored_bytes, 0, bytes);
        if kind == PoolKind::Persistent {
            change(&self.counters.persistent_pages, 0, stored);
        }
        if surplus > 0 {
            self.books.release(store.guest, kind, surplus);
        }
        self.tidy(store.guest);
        self.arena.trim_to(self.books.free());
        self.wake_writer();
    }

    /// Reads pages whose objects are in one shard, [`BATCH`] of them at most; ephemeral ones are removed.
    fn get(
        &self,
        store: &Store,
        kind: PoolKind,
        keys: &[Key],
        pages: &mut [Page],
        results: &mut [Result<bool, PoolError>],
    ) {
        let Some(first) = keys.first() else {
            return;
        };
        work::add(keys.len() as u64 * work::PAGE);
        let shard = store.shard_of(&first.object);
        let exclusive = kind == PoolKind::Ephemeral;
        SCRATCH.with_borrow_mut(|scratch| {
            let mut found = [const { Fetched::Absent }; BATCH];
            let mut filled = 0;
            self.with(store, shard, kind, |shard, left| {
                for ((key, page), found) in keys.iter().zip(pages.iter_mut()).zip(&mut found) {
                    *found = shard.fetch(key, exclusive, page, &mut scratch[filled..], left);
                    if let Fetched::Data(length) = found {
                        filled += *length;
                    }
                }
            });
            let mut rest = &scratch[..];
            let mut below = Vec::new();
            let fetched = keys
                .iter()
                .zip(pages.iter_mut())
                .zip(found)
                .zip(results.iter_mut());
            for (at, (((key, page), found), result)) in fetched.enumerate() {
                *result = match found {
                    Fetched::Absent => Ok(false),
                    Fetched::Below(spot) => {
                        below.push(Wanted { at, spot });
                        continue;
                    }
                    Fetched::Page => Ok(true),
                    Fetched::Data(length) => {
                        let (data, later) = rest.split_at(length);
                        rest = later;
                        match codec::decode(data, page) {
                            Ok(()) => Ok(true),
                            // An ephemeral page that the host lost is a miss.
                            Err(_) if exclusive => Ok(false),
                            Err(_) => Err(PoolError::Lost),
                        }
                    }
                };
                if exclusive && *result == Ok(true) {
                    self.ghosts.add(store.guest, key);
                }
            }
            if !below.is_empty() {
                self.reload(store, kind, keys, pages, results, below);
            }
        });
    }

    /// Drops a page; whether there was one.
    fn flush_page(&self, store: &Store, kind: PoolKind, key: &Key) -> bool {
        work::add(work::CALL);
        let shard = store.shard_of(&key.object);
        self.with(store, shard, kind, |shard, left| shard.remove(key, left))
    }

    /// Drops all pages of a guest's pool, to which nobody puts meanwhile.
    fn flush_pool(&self, store: &Store, pool: u32, kind: PoolKind) {
        for shard in store.numbers() {
            self.flush(store, shard, kind, |shard, progress, left| {
                shard.remove_pool(pool, progress, left)
            });
        }
    }

    /// Calls `turn` until it says that it is done, with the lock released in between.
    fn flush(
        &self,
        store: &Store,
        shard: usize,
        kind: PoolKind,
        turn: impl Fn(&mut Shard, &mut Progress, &mut Left) -> bool,
    ) -> u64 {
        let (mut flushed, mut progress) = (0, Progress::default());
        loop {
            let done = self.with(store, shard, kind, |shard, left| {
                let done = turn(shard, &mut progress, left);
                flushed += left.pages;
                done
            });
            if done {
                return flushed;
            }
        }
    }

    /// Recomputes the figures from the shards, and compares. No other thread may use the pool.
    #[cfg(test)]
    fn audit(&self) {
        let stats = self.stats();
        let (mut pages, mut persistent, mut spots, mut noted) = (0, 0, 0, 0);
        let mut by_pool = BTreeMap::new();
        let mut charged = books::Sums::default();
        let mut charge = |account, bytes| match account {
            PoolKind::Ephemeral => charged.ephemeral += bytes,
            PoolKind::Persistent => charged.persistent += bytes,
        };
        for store in self.all_stores() {
            let mut objects = BTreeMap::new();
            for number in store.numbers() {
                store.with(number, |shard| {
                    for page in shard.audit() {
                        assert_eq!(store.shard_of(&page.name.object), number);
                        objects.insert((page.name.object, page.name.index >> 32), page.kind);
                        pages += 1;
                        *by_pool.entry(page.name.object.pool).or_insert(0) += 1;
                        persistent += u64::from(page.kind == PoolKind::Persistent);
                        if page.spot.is_some() {
                            spots += 1;
                            charge(page.kind, PAGE_METADATA);
                            if page.kind == PoolKind::Persistent {
                                noted += PAGE_METADATA;
                            }
                        }
                    }
                    for queue in Queue::ALL {
                        charge(queue.account(), shard.segments.figures(queue).charged);
                    }
                });
            }
            for kind in objects.into_values() {
                charge(kind, OBJECT_METADATA);
            }
            for (pool, pages) in std::mem::take(&mut by_pool) {
                assert_eq!(store.sum(|shard| shard.objects.pages_of(pool)), pages);
            }
        }
        assert_eq!(
            (stats.stored_pages, stats.persistent_pages),
            (pages, persistent)
        );
        let records: u64 = self.tier_stats().iter().map(|tier| tier.records).sum();
        assert_eq!(records, spots, "tiers hold what nobody needs");
        let sums = self.books.sums();
        charged.promised_pages = sums.promised_pages;
        charged.noted = noted;
        assert_eq!(sums, charged);
        let promised = sums.promised_pages * WORST_PAGE;
        assert!(
            sums.ephemeral + sums.persistent <= self.config.size,
            "the cap is exceeded"
        );
        assert!(
            sums.persistent + promised <= self.config.size,
            "more is promised than there is"
        );
    }

    /// Looks for pages that the kernel has taken, and forgets them; how many there were. Takes a system call for each
    /// segment, and no lock for long.
    pub fn find_taken(&self) -> u64 {
        let mut taken = 0;
        for store in self.all_stores() {
            for shard in store.numbers() {
                let mut from = Some(0);
                while let Some(number) = from {
                    from = self.with(&store, shard, PoolKind::Ephemeral, |shard, left| {
                        let next = shard.purge_some(number, 16, left);
                        taken += left.taken;
                        next
                    });
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod test_tier;

#[cfg(test)]
#[path = "model_test.rs"]
mod model_test;

#[cfg(test)]
#[path = "spill_test.rs"]
mod spill_test;

#[cfg(test)]
#[path = "taken_test.rs"]
mod taken_test;

#[cfg(test)]
#[path = "concurrency_test.rs"]
mod concurrency_test;
