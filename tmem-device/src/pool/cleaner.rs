//! When pages are compressed, and which; and how gaps between pages are closed.
//!
//! Both move the pages of a segment to another one. A page comes in as it is: compressing it costs ten times the copy, and many
//! pages leave again soon, got back or flushed. The pool compresses when it wants the room, and picks at random: a page
//! that has been there for long was probably picked at some time, one that soon leaves probably not. To compress what
//! was put longest ago would be as good where uses are independent of each other, but a set that is read over and over in one
//! order, as files and swapped memory often are, is then compressed page by page just before each is got back: that cost
//! `vtmem compare --workload source` 49,126 compressions, 0.87 s of its 2.34 s.
//!
//! What is moved is copied, and compressed, without a lock; then each page is moved if it is still there, unchanged.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::books::WORST_PAGE;
use super::filled::{Data, Queue};
use super::key::mix;
use super::segments::SegmentId;
use super::shard::Copied;
use super::store::Store;
use super::{BATCH, HostPool, Page, PoolKind, codec, work};
use crate::wire::PAGE_SIZE;

/// Of the pool's size, one part in so many is for raw pages even when the pool is full, since some leave again at once.
/// `vtmem compare --workload reread`, whose pages come back late, is as fast with 4.
const RAW_SHARE: u64 = 16;

/// Gaps are closed when they are more than one part in so many of what is stored.
const WASTE: u64 = 8;

/// ... or half as much, when room is short: that is cheaper than compressing.
const WASTE_WHEN_TIGHT: u64 = 16;

/// Gaps that are never worth the work.
const SMALL_WASTE: u64 = 256 << 10;

/// Segments that are moved after one put at most; each makes room for several puts.
const TURNS: usize = 4;

/// ... and units of work that are enough.
const TIDYING: u64 = 2048;

struct Scratch {
    /// As copied.
    pages: Vec<Page>,
    /// Compressed.
    data: Vec<u8>,
}

/// What becomes of a copied page: it is kept as bytes of the scratch space elsewhere, or stays where it is.
enum Kept {
    AsItWas(Range<usize>),
    Compressed(Range<usize>),
    There,
}

/// Which pages of a segment are moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moving {
    /// Whole pages that nobody has tried to compress, and that do: compressed.
    ToCompress,
    /// All of them, as they are.
    All,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        pages: vec![[0; PAGE_SIZE]; BATCH],
        data: Vec::with_capacity(BATCH * PAGE_SIZE),
    });
}

impl HostPool {
    /// Closes gaps until they are few, and compresses pages until there is room, also for what the guest may be promised
    /// next, or until few are raw. Called after each batch of puts.
    pub(super) fn tidy(&self, guest: u32) {
        let end = work::work_done() + TIDYING;
        for _ in 0..TURNS {
            if work::work_done() > end {
                return;
            }
            let sums = self.books.sums();
            let used = sums.ephemeral + sums.persistent;
            let dead = self.counters.dead_bytes.load(Relaxed);
            let tightness = self.books.tightness(guest);
            let waste = if tightness.room || tightness.promises {
                WASTE_WHEN_TIGHT
            } else {
                WASTE
            };
            if dead > SMALL_WASTE + used / waste
                && (self.close_gaps(guest, PoolKind::Ephemeral, false)
                    || self.close_gaps(guest, PoolKind::Persistent, false))
            {
                continue;
            }
            let raw = self.counters.raw_pages.load(Relaxed);
            let few = raw * WORST_PAGE <= self.books.size() / RAW_SHARE;
            let goes_on = tightness.promises && self.squeeze(guest, true)
                || tightness.room && !few && self.squeeze(guest, false);
            if !goes_on {
                return;
            }
        }
    }

    /// Compresses the raw pages of a segment that is picked at random, of this guest if it has any; false if there are none, or
    /// pages are not to be compressed.
    pub(super) fn squeeze(&self, guest: u32, only_persistent: bool) -> bool {
        if !self.is_compressing() {
            return false;
        }
        let pick = mix(self.picks.fetch_add(1, Relaxed));
        let own = self.store(guest);
        let others = self.all_stores();
        let mut stores = own.iter().chain(&others);
        stores.any(|store| {
            let numbers = store.numbers();
            let start = pick as usize % numbers.len();
            let mut shards = numbers.cycle().skip(start).take(store.numbers().len());
            shards.any(|shard| {
                store.hints(shard).raw > 0
                    && self.squeeze_shard(store, shard, pick, only_persistent)
            })
        })
    }

    fn squeeze_shard(&self, store: &Store, shard: usize, pick: u64, only_persistent: bool) -> bool {
        let (found, _) = store.with(shard, |shard| {
            let queues: &[Queue] = if only_persistent {
                &[Queue::Persistent]
            } else {
                &Queue::ALL
            };
            let queue = *queues
                .iter()
                .max_by_key(|queue| shard.segments.figures(**queue).raw)?;
            let oldest = shard.segments.oldest_age(queue)?;
            // An age that was taken is passed on to the next one, perhaps beyond those that were given out.
            let ages = store.age().saturating_sub(oldest).max(1);
            let age = oldest + (pick >> 8) % ages;
            Some((queue, shard.segments.raw_from(queue, age)?))
        });
        let Some((queue, id)) = found else {
            return false;
        };
        let account = queue.account();
        self.move_segment(store, shard, account, id, Moving::ToCompress);
        // Pages that do not compress stay, and the room of the others is free.
        self.with(store, shard, account, |shard, left| {
            left.released += shard.segments.give_back(id);
        });
        true
    }

    /// Moves what is left of the segment that is emptiest in the shard with the largest gaps, be it open if that is `urgent`;
    /// false if that is not worth it.
    pub(super) fn close_gaps(&self, guest: u32, account: PoolKind, urgent: bool) -> bool {
        let stores = self.all_stores();
        let dead = |(store, shard): &(&Arc<Store>, usize)| {
            (store.hints(*shard).dead_of(account), store.guest == guest)
        };
        let shards = stores
            .iter()
            .flat_map(|store| store.numbers().map(move |shard| (store, shard)));
        let Some((store, shard)) = shards.max_by_key(dead) else {
            return false;
        };
        let (id, _) = store.with(shard, |shard| shard.segments.emptiest(account, urgent));
        let Some(id) = id else {
            return false;
        };
        self.move_segment(store, shard, account, id, Moving::All)
    }

    /// Moves pages of a segment to others. Returns whether it is free then.
    fn move_segment(
        &self,
        store: &Store,
        shard: usize,
        account: PoolKind,
        id: SegmentId,
        moving: Moving,
    ) -> bool {
        store.with(shard, |shard| shard.segments.leave(id));
        SCRATCH.with_borrow_mut(|scratch| {
            let mut record = Some(0);
            while let Some(from) = record {
                let copied = self.with(store, shard, account, |shard, left| {
                    shard.copy_pages(id, from, &mut scratch.pages, left)
                });
                record = copied.last().map(Copied::next_record);
                work::add(2 * copied.len() as u64);
                let kept = keep(&copied, scratch, moving);
                let (mut charged, mut saved) = (0, 0);
                self.with(store, shard, account, |shard, left| {
                    for (copied, kept) in copied.iter().zip(kept) {
                        let bytes = scratch.pages.as_flattened();
                        let data = match kept {
                            Kept::There => {
                                shard.settle_page(id, copied);
                                continue;
                            }
                            Kept::Compressed(range) => Data::Short(&scratch.data[range]),
                            Kept::AsItWas(range) => match bytes[range.clone()].first_chunk() {
                                Some(page) => Data::Whole {
                                    page,
                                    settled: !copied.raw,
                                },
                                None => Data::Short(&bytes[range]),
                            },
                        };
                        match shard.move_page(id, copied, data, left) {
                            Some((cost, less)) => {
                                charged += cost;
                                saved += less;
                            }
                            // Gone meanwhile; or there is no memory for it, and it is not tried again.
                            None => shard.settle_page(id, copied),
                        }
                    }
                    // Before the originals are struck out.
                    self.books.add(store.guest, account, charged);
                });
                super::change(&self.counters.stored_bytes, saved, 0);
            }
        });
        let (stays, _) = store.with(shard, |shard| shard.segments.stay(id));
        !stays
    }
}

/// Says what becomes of copied pages, and compresses those that are to be.
fn keep(copied: &[Copied], scratch: &mut Scratch, moving: Moving) -> Vec<Kept> {
    let Scratch { pages, data } = scratch;
    let bytes = pages.as_flattened();
    data.clear();
    let mut begin = 0;
    let keep = copied.iter().map(|copied| {
        let range = begin..begin + copied.length;
        begin = range.end;
        if moving == Moving::All {
            return Kept::AsItWas(range);
        }
        let page = bytes[range].first_chunk().filter(|_| copied.raw);
        page.map_or(Kept::There, |page| {
            work::add(work::COMPRESSION);
            codec::compress(page, |compressed| {
                compressed.map_or(Kept::There, |compressed| {
                    let begin = data.len();
                    data.extend_from_slice(compressed);
                    Kept::Compressed(begin..data.len())
                })
            })
        })
    });
    keep.collect()
}

#[cfg(test)]
#[path = "cleaner_test.rs"]
mod tests;
