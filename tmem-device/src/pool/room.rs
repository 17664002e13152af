//! How room is made: which pages are refused, and which go.

use std::sync::atomic::Ordering::Relaxed;

use super::books::Admission;
use super::filled::Queue;
use super::{HostPool, PoolKind};

/// How often an ephemeral put makes room that others then take, before it is refused.
const ATTEMPTS: usize = 32;

/// How often a persistent put waits for ephemeral pages that others are about to store, before it takes room that they have
/// booked: 64 KiB for each thread at most.
const WAITS: usize = 10_000;

/// Of a guest's ephemeral pages, one part in so many may be new ones before new ones go first (S3-FIFO's 10 %).
const SMALL_SHARE: u64 = 10;

/// No guest has this number.
const NO_GUEST: u32 = u32::MAX;

impl HostPool {
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

    /// Drops a guest's oldest segment of ephemeral pages; false if it has none.
    pub(super) fn evict(&self, guest: u32) -> bool {
        let Some(store) = self.store(guest) else {
            return false;
        };
        let charged = |queue| store.sum(|shard| shard.segments.figures(queue).charged);
        let (small, main) = (charged(Queue::Small), charged(Queue::Main));
        let queue = if main == 0 || small > (small + main) / SMALL_SHARE {
            Queue::Small
        } else {
            Queue::Main
        };
        let Some(shard) = store.oldest(queue) else {
            return false;
        };
        let mut evicted = 0;
        let any = self.with(&store, shard, PoolKind::Ephemeral, |shard, left| {
            shard.evict(queue, left, |key| {
                self.ghosts.add(guest, &key);
                store.evictions.add(&key);
                evicted += 1;
            })
        });
        self.counters.evictions.fetch_add(evicted, Relaxed);
        any
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
