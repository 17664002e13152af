//! How room is made: which pages are refused, and which go.

use std::sync::atomic::Ordering::Relaxed;

use super::books::{Admission, NO_GUEST, OBJECT_METADATA, PAGE_METADATA, WORST_PAGE, data_cost};
use super::filled::Queue;
use super::key::Key;
use super::store::Store;
use super::{BATCH, HostPool, Page, PoolKind, codec};

/// How often an ephemeral put makes room that others then take, before it is refused.
const ATTEMPTS: usize = 32;

/// How often a persistent put waits for ephemeral pages that others are about to store, before it takes room that they have
/// booked: 64 KiB for each thread at most.
const WAITS: usize = 10_000;

/// Of a guest's ephemeral pages, one part in so many may be new ones before new ones go first (S3-FIFO's 10 %).
const SMALL_SHARE: u64 = 10;

/// Pages of a segment, of which it may have thousands, that are dropped under one lock.
const EVICTED_AT_ONCE: usize = 512;

/// Ephemeral pages that are dropped at once where a tier alone has them, and for how many turns these are looked for.
const BELOW_AT_ONCE: u64 = 512;
const TURNS_BELOW: usize = 16;

impl HostPool {
    /// Books pages and makes room for them. Returns what was booked for each; 0: it is refused.
    pub(super) fn book(
        &self,
        store: &Store,
        kind: PoolKind,
        pages: &[(Key, &Page)],
    ) -> [u64; BATCH] {
        let mut booked = [0; BATCH];
        if store.frozen.load(Relaxed) {
            if kind == PoolKind::Persistent {
                self.books.spend(store.guest, pages.len() as u32);
            }
            return booked;
        }
        for ((_, page), bytes) in pages.iter().zip(&mut booked) {
            *bytes = match codec::shorten(page) {
                Some(word) => data_cost(word.len()) + PAGE_METADATA + OBJECT_METADATA,
                None => WORST_PAGE,
            };
        }
        // Mostly there is room for all of them.
        let sum = booked.iter().sum();
        if kind == PoolKind::Ephemeral
            && self.books.admit_ephemeral(store.guest, sum) == Admission::Granted
        {
            return booked;
        }
        for ((key, _), bytes) in pages.iter().zip(&mut booked) {
            // An older page of the same key is lost in any case; perhaps its room is enough.
            let granted = self.make_room(store.guest, kind, *bytes)
                || self.flush_page(store, kind, key) && self.make_room(store.guest, kind, *bytes);
            if !granted {
                *bytes = 0;
            }
        }
        booked
    }

    /// Books a page, and makes room for it. False: refused, and nothing is booked.
    pub(super) fn make_room(&self, guest: u32, kind: PoolKind, bytes: u64) -> bool {
        match kind {
            PoolKind::Ephemeral => self.make_room_for_ephemeral(guest, bytes),
            PoolKind::Persistent => self.make_room_for_persistent(guest, bytes),
        }
    }

    fn make_room_for_ephemeral(&self, guest: u32, bytes: u64) -> bool {
        for _ in 0..ATTEMPTS {
            match self.books.admit_ephemeral(guest, bytes) {
                Admission::Granted => return true,
                Admission::Impossible => return false,
                Admission::NeedsEviction(victim) => {
                    if !self.evict(victim) {
                        return false;
                    }
                }
            }
        }
        false
    }

    fn make_room_for_persistent(&self, guest: u32, bytes: u64) -> bool {
        while !self.books.admit_persistent(guest, bytes) {
            // Persistent pages give room by being compressed, or by closing the gaps between them.
            if !self.squeeze(guest, true) && !self.close_gaps(guest, PoolKind::Persistent, true) {
                return false;
            }
        }
        let mut waits = 0;
        while let Some(victim) = self.books.excess(guest)
            && waits < WAITS
        {
            if !self.evict(victim) {
                // Another thread has booked the pages that must go, and is about to store them.
                waits += 1;
                std::thread::yield_now();
            }
        }
        true
    }

    /// Drops a guest's oldest segment of what may go: ephemeral pages, or persistent ones that a tier has. If there is none, some
    /// ephemeral pages that a tier alone has, for their metadata. False if there are none either.
    pub(super) fn evict(&self, guest: u32) -> bool {
        let Some(store) = self.store(guest) else {
            return false;
        };
        let queue = self.ephemeral_queue(&store);
        let oldest = |queue| store.oldest(queue).map(|(age, shard)| (age, shard, queue));
        let candidates = [oldest(queue), oldest(Queue::Clean)];
        let oldest = candidates.into_iter().flatten();
        let Some((_, shard, queue)) = oldest.min_by_key(|(age, ..)| *age) else {
            return self.evict_below(&store) > 0;
        };
        self.evict_segment(&store, shard, queue)
    }

    /// Drops the oldest segment of a queue in one shard; false if there is none.
    pub(super) fn evict_segment(&self, store: &Store, shard: usize, queue: Queue) -> bool {
        let (oldest, _) = store.with(shard, |shard| shard.oldest(queue));
        let Some(id) = oldest else {
            return false;
        };
        let (mut evicted, mut record) = (0, Some(0));
        while let Some(from) = record {
            record = self.with(store, shard, PoolKind::Ephemeral, |shard, left| {
                shard.evict(id, from, EVICTED_AT_ONCE, left, |key| {
                    // What leaves the main queue had its second chance, and starts anew.
                    if queue == Queue::Small {
                        self.ghosts.add(store.guest, &key);
                    }
                    store.evictions.add(&key);
                    evicted += 1;
                })
            });
        }
        self.counters.evictions.fetch_add(evicted, Relaxed);
        true
    }

    /// The queue that ephemeral pages leave from.
    pub(super) fn ephemeral_queue(&self, store: &Store) -> Queue {
        let charged = |queue| store.sum(|shard| shard.segments.figures(queue).charged);
        let (small, main) = (charged(Queue::Small), charged(Queue::Main));
        if main == 0 || small > (small + main) / SMALL_SHARE {
            Queue::Small
        } else {
            Queue::Main
        }
    }

    /// Drops some ephemeral pages of a guest that a tier alone has; how many. Looks for them among some of its pages: where there are
    /// few, it may find none.
    pub(super) fn evict_below(&self, store: &Store) -> u64 {
        let (mut evicted, mut turns) = (0, TURNS_BELOW);
        for shard in store.numbers() {
            while evicted < BELOW_AT_ONCE && turns > 0 && store.hints(shard).below_ephemeral > 0 {
                turns -= 1;
                evicted += self.evict_below_some(store, shard, BELOW_AT_ONCE - evicted);
            }
        }
        evicted
    }

    /// Drops all ephemeral pages of a guest that a tier alone has now; some that come meanwhile, too.
    pub(super) fn evict_all_below(&self, store: &Store) {
        for shard in store.numbers() {
            // Once round: the end is not the guest's to say.
            let (turns, _) = store.with(shard, |shard| shard.turns_of_all());
            for _ in 0..turns {
                self.evict_below_some(store, shard, u64::MAX);
            }
        }
    }

    /// Each turn looks at a part of the shard's entries.
    fn evict_below_some(&self, store: &Store, shard: usize, limit: u64) -> u64 {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let evicted = self.with(store, shard, PoolKind::Ephemeral, |shard, left| {
            shard.evict_below(limit, left, |key| store.evictions.add(&key)) as u64
        });
        self.counters.evictions.fetch_add(evicted, Relaxed);
        evicted
    }

    /// Drops ephemeral pages until the pool keeps to its size, if it can.
    pub(super) fn shrink(&self) {
        while let Some(victim) = self.books.excess(NO_GUEST) {
            if !self.evict(victim) {
                return;
            }
        }
    }
}
