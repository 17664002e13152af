//! What is written to the tiers, and when.
//!
//! Persistent pages that memory alone has are bounded: when half of that is reached the oldest segments of them are written, as the
//! kernel writes dirty page cache. What memory keeps is then worth no more than a clean page: the pool may drop it, and the kernel may take
//! it. If the pool is told to, ephemeral pages that would soon be evicted are written too, and leave memory.
//!
//! A segment's pages are copied, compressed and written without a lock; then each is noted as the tier's if it is still
//! there, unchanged. When a tier refuses, nothing has happened, and the pages stay where they are.

use std::ops::Range;
use std::sync::Arc;

use super::books::PAGE_METADATA;
use super::filled::{Data, Queue};
use super::segments::SegmentId;
use super::shard::Copied;
use super::store::Store;
use super::{HostPool, Page, PoolConfig, PoolKind, Spot, change, codec};
use crate::tier::{StoreError, Tier};
use crate::wire::PAGE_SIZE;

/// Pages that are copied, or noted as a tier's, under one lock.
const TURN: usize = 32;

/// Records that are written together.
const RECORDS: usize = 64;

/// Of what the pool may take, one part in so many may be persistent pages that memory alone has, if nothing else is said; and
/// so many parts of 4 at most, so that there is memory for what comes back.
const DIRTY_SHARE: u64 = 2;
const MOST_DIRTY: u64 = 3;

/// Pages are written when one part in so many of what may be in memory alone is.
const WRITE_SHARE: u64 = 2;

/// Ephemeral pages are written when less than one part in so many of what the pool may take is free.
const FREE_SHARE: u64 = 16;

/// What one step of writing came to.
#[derive(Debug)]
pub enum WriteBack {
    /// There is nothing that needs to be written.
    Idle,
    /// So many pages were written.
    Wrote(u64),
    /// Every tier refuses, and nothing has changed. This is what the last one says.
    Refused(StoreError),
}

/// A copied page, and where it begins and ends in the bytes to be written.
struct Copy {
    page: Copied,
    data: Range<usize>,
}

impl PoolConfig {
    /// Bytes of persistent pages that the memory of a pool may have alone.
    pub(super) fn dirty_limit(&self, size: u64, tiers: &[Arc<dyn Tier>]) -> u64 {
        if tiers.is_empty() {
            return u64::MAX;
        }
        let limit = self.dirty.unwrap_or(size / DIRTY_SHARE);
        limit.min(size / 4 * MOST_DIRTY)
    }
}

impl HostPool {
    /// Bytes of persistent pages that memory alone may have; half of that, and the oldest are written.
    pub fn dirty_limit(&self) -> u64 {
        self.books.dirty_limit()
    }

    /// Writes one segment of pages to a tier, if that is needed; [`Writer`](super::Writer) calls this for as long as it is. Takes
    /// as long as the tier does.
    pub fn write_back(&self) -> WriteBack {
        if self.tiers.is_empty() {
            return WriteBack::Idle;
        }
        let picked = if self.is_dirty() {
            self.pick_dirty()
        } else if self.runs_full() {
            self.pick_ephemeral()
        } else {
            None
        };
        match picked {
            None => WriteBack::Idle,
            Some((store, shard, id, kind)) => {
                let written = self.write_segment(&store, shard, id, kind);
                // A copy in memory may take more than the pages did.
                self.shrink();
                match written {
                    Ok(pages) => WriteBack::Wrote(pages),
                    Err(error) => WriteBack::Refused(error),
                }
            }
        }
    }

    /// Whether so many persistent pages are in memory alone that some are to be written.
    pub(super) fn is_dirty(&self) -> bool {
        self.counters.dirty() > self.dirty_limit() / WRITE_SHARE
    }

    /// Whether ephemeral pages will soon have to go, and are to be written before.
    pub(super) fn runs_full(&self) -> bool {
        if !self.config.spill_ephemeral {
            return false;
        }
        let size = self.size();
        let sums = self.books.sums();
        sums.ephemeral + sums.persistent + size / FREE_SHARE > size
    }

    /// The oldest segment of the guest with the most persistent pages in memory alone.
    fn pick_dirty(&self) -> Option<Picked> {
        let stores = self.all_stores();
        let dirty = |store: &&Arc<Store>| {
            let shards = store.numbers();
            shards.map(|shard| store.hints(shard).dirty).sum::<u64>()
        };
        let store = stores.iter().max_by_key(dirty)?;
        self.pick(store, Queue::Persistent)
    }

    /// The segment that is evicted next, unless tiers have its pages.
    fn pick_ephemeral(&self) -> Option<Picked> {
        let store = self.store(self.books.victim()?)?;
        self.pick(&store, self.ephemeral_queue(&store))
    }

    fn pick(&self, store: &Arc<Store>, queue: Queue) -> Option<Picked> {
        let (_, oldest) = store.oldest(queue)?;
        let (id, _) = store.with(oldest, |shard| shard.leave_oldest(queue));
        Some((store.clone(), oldest, id?, queue.account()))
    }

    /// Writes the pages of a segment that is being left; how many.
    fn write_segment(
        &self,
        store: &Store,
        shard: usize,
        id: SegmentId,
        kind: PoolKind,
    ) -> Result<u64, StoreError> {
        let mut bytes = Vec::new();
        let copies = self.copy_segment(store, shard, id, kind, &mut bytes);
        let mut spots = Vec::with_capacity(copies.len());
        for records in copies.chunks(RECORDS) {
            let records: Vec<_> = records
                .iter()
                .map(|copy| &bytes[copy.data.clone()])
                .collect();
            match self.store_records(store, &records) {
                Ok(stored) => spots.extend(stored),
                Err(error) => {
                    self.discard(spots);
                    let _ = store.with(shard, |shard| shard.segments.stay(id));
                    return Err(error);
                }
            }
        }
        let mut written = 0;
        for (copies, spots) in copies.chunks(TURN).zip(spots.chunks(TURN)) {
            written += self.note_written(store, shard, (id, kind), copies, spots, &bytes);
        }
        let _ = store.with(shard, |shard| shard.segments.stay(id));
        change(&self.counters.written_pages, 0, written);
        Ok(written)
    }

    /// Copies all pages of a segment to `bytes`, compressed where that helps.
    fn copy_segment(
        &self,
        store: &Store,
        shard: usize,
        id: SegmentId,
        kind: PoolKind,
        bytes: &mut Vec<u8>,
    ) -> Vec<Copy> {
        let compressing = self.is_compressing();
        let mut pages: Vec<Page> = vec![[0; PAGE_SIZE]; TURN];
        let mut copies = Vec::new();
        let mut record = Some(0);
        while let Some(from) = record {
            let copied = self.with(store, shard, kind, |shard, left| {
                shard.copy_pages(id, from, &mut pages, left)
            });
            record = copied.last().map(Copied::next_record);
            let mut rest = pages.as_flattened();
            for page in copied {
                let (kept, later) = rest.split_at(page.length);
                rest = later;
                let begin = bytes.len();
                match kept.first_chunk().filter(|_| page.raw && compressing) {
                    Some(raw) => codec::compress(raw, |compressed| {
                        bytes.extend_from_slice(compressed.unwrap_or(kept));
                    }),
                    None => bytes.extend_from_slice(kept),
                }
                let data = begin..bytes.len();
                copies.push(Copy { page, data });
            }
        }
        copies
    }

    /// Stores records in the first tier that takes them. Ephemeral pages there make room if it is full.
    fn store_records(&self, store: &Store, records: &[&[u8]]) -> Result<Vec<Spot>, StoreError> {
        let mut refusal = StoreError::Full;
        for (tier, below) in (0..).zip(&self.tiers) {
            let stored = match below.store(records) {
                Err(StoreError::Full) if self.make_room_below(store) => below.store(records),
                stored => stored,
            };
            match stored {
                Ok(handles) => {
                    let spots = handles.into_iter().map(|handle| Spot { tier, handle });
                    return Ok(spots.collect());
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Drops ephemeral pages that tiers alone have, this guest's first; false if there are none.
    fn make_room_below(&self, store: &Store) -> bool {
        self.evict_below(store) > 0
            || self
                .all_stores()
                .iter()
                .any(|store| self.evict_below(store) > 0)
    }

    /// Notes that a tier has these pages, as far as they are still there; how many.
    fn note_written(
        &self,
        store: &Store,
        shard: usize,
        (id, kind): (SegmentId, PoolKind),
        copies: &[Copy],
        spots: &[Spot],
        bytes: &[u8],
    ) -> u64 {
        let (mut written, mut kept, mut unwanted) = (0, 0, Vec::new());
        self.with(store, shard, kind, |shard, left| {
            for (copy, spot) in copies.iter().zip(spots) {
                let bytes = &bytes[copy.data.clone()];
                // An ephemeral page is written because it would have to go.
                let data = (kind == PoolKind::Persistent).then(|| Data::settled(bytes));
                let Some(charge) = shard.page_is_below(id, &copy.page, data, *spot, left) else {
                    unwanted.push(*spot);
                    continue;
                };
                self.books
                    .add(store.guest, PoolKind::Ephemeral, charge.cost);
                match kind {
                    PoolKind::Ephemeral => self.books.add(store.guest, kind, PAGE_METADATA),
                    PoolKind::Persistent => self.books.note(store.guest, PAGE_METADATA),
                }
                kept += charge.bytes;
                written += 1;
            }
        });
        change(&self.counters.stored_bytes, 0, kept);
        self.discard(unwanted);
        written
    }
}

/// A segment that is to be written: whose, in which shard, and the kind of its pages.
type Picked = (Arc<Store>, usize, SegmentId, PoolKind);

#[cfg(test)]
#[path = "writeback_test.rs"]
mod tests;
