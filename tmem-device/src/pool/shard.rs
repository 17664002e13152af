//! One shard of a guest: the pages of some of its objects, behind one lock that is held briefly.

use std::sync::Arc;

use super::PoolKind;
use super::arena::{Arena, Gone};
use super::codec::Page;
use super::entries::{Entries, PageKey, Place};
use super::filled::{Data, Queue};
use super::key::{Key, ObjectKey};
use super::objects::Objects;
use super::segments::{Freed, SegmentId, Segments};
use crate::wire::PAGE_SIZE;

/// Lookups that a range operation makes in one go, under the lock.
const STEP: u64 = 1024;

/// Entries that can be looked at in the time of one lookup.
const SWEEP: u64 = 8;

/// What has left a shard, or was freed in it.
#[derive(Default)]
pub(super) struct Left {
    pub pages: u64,
    /// Of their data.
    pub bytes: u64,
    /// Objects without pages.
    pub objects: u64,
    pub freed: Vec<Freed>,
    /// Bytes that were charged for what is free now, besides.
    pub released: u64,
    /// Pages that the kernel had taken.
    pub taken: u64,
}

/// What a put did.
pub(super) struct Inserted {
    /// It is the first page of its object.
    pub new_object: bool,
    /// What the page is charged without its object.
    pub cost: u64,
}

/// What a get found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    Absent,
    /// The page is there as it was.
    Page,
    /// Bytes of data, to be decoded.
    Data(usize),
}

/// A page that the cleaner moves.
pub(super) struct Copied {
    key: PageKey,
    place: Place,
    /// Nobody has tried to compress it.
    pub raw: bool,
    /// Bytes.
    pub length: usize,
}

impl Copied {
    /// The number of the record after this one.
    pub fn next_record(&self) -> u16 {
        self.place.record + 1
    }
}

/// How far a range operation has come.
#[derive(Default)]
pub(super) struct Progress {
    /// The next index to look at.
    next: u64,
    /// Entries that are still to be looked at.
    sweep: Option<u32>,
}

/// What is known of a shard without its lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// Pages that nobody has tried to compress.
    pub raw: u64,
    /// Bytes charged for ephemeral pages that have gone.
    pub dead_ephemeral: u64,
    /// Bytes charged for persistent pages that have gone.
    pub dead_persistent: u64,
}

impl Hints {
    /// Bytes charged for pages of a kind that have gone.
    pub fn dead(self, kind: PoolKind) -> u64 {
        match kind {
            PoolKind::Ephemeral => self.dead_ephemeral,
            PoolKind::Persistent => self.dead_persistent,
        }
    }
}

pub(super) struct Shard {
    entries: Entries,
    objects: Objects,
    pub segments: Segments,
}

impl Shard {
    pub fn new(arena: Arc<Arena>) -> Self {
        Shard {
            entries: Entries::default(),
            objects: Objects::default(),
            segments: Segments::new(arena),
        }
    }

    pub fn hints(&self) -> Hints {
        let mut hints = Hints::default();
        for queue in Queue::ALL {
            let figures = self.segments.figures(queue);
            let dead = figures.charged - figures.live;
            hints.raw += figures.raw;
            match queue.kind() {
                PoolKind::Ephemeral => hints.dead_ephemeral += dead,
                PoolKind::Persistent => hints.dead_persistent += dead,
            }
        }
        hints
    }

    /// Bytes that the indexes take, and the segments besides their memory.
    pub fn metadata_bytes(&self) -> usize {
        self.entries.bytes() + self.objects.bytes() + self.segments.bytes()
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let (part, index) = split(key.index);
        let object = self.objects.find(&key.object, part)?;
        self.entries.find(PageKey { object, index })
    }

    /// Stores a page in place of an older one of its key. After an error the key is absent.
    pub fn insert(
        &mut self,
        key: &Key,
        queue: Queue,
        age: u64,
        data: Data<'_>,
        left: &mut Left,
    ) -> Result<Inserted, Gone> {
        let (slot, old) = match self.find(key) {
            Some(slot) => (slot, Some(self.entries.place(slot))),
            None => (self.entries.next_slot(), None),
        };
        let added = self.segments.add(queue, age, slot, data);
        let (place, cost) = match added {
            Ok(added) => added,
            Err(Gone) => {
                if old.is_some() {
                    self.take(slot, left);
                }
                return Err(Gone);
            }
        };
        let mut new_object = false;
        match old {
            Some(old) => {
                left.pages += 1;
                left.bytes += self.segments.length(old) as u64;
                left.freed.extend(self.segments.remove(old));
                self.entries.set_place(slot, place);
            }
            None => {
                let (part, index) = split(key.index);
                let (object, new) = self.objects.add_page(&key.object, part, index);
                new_object = new;
                self.entries.insert(PageKey { object, index }, place);
            }
        }
        Ok(Inserted { new_object, cost })
    }

    /// Copies a page that is kept as it is to `page`, and what another is kept as to the beginning of `data`; removes it if
    /// `exclusive`.
    pub fn fetch(
        &mut self,
        key: &Key,
        exclusive: bool,
        page: &mut Page,
        data: &mut [u8],
        left: &mut Left,
    ) -> Fetched {
        let Some(slot) = self.find(key) else {
            return Fetched::Absent;
        };
        let place = self.entries.place(slot);
        let fetched = if self.segments.length(place) == PAGE_SIZE {
            let read = self.segments.read_whole(place, page);
            read.map(|()| Fetched::Page)
        } else {
            self.segments.read_short(place, data).map(Fetched::Data)
        };
        match fetched {
            Ok(fetched) => {
                if exclusive {
                    self.take(slot, left);
                }
                fetched
            }
            Err(Gone) => {
                self.purge(place.segment, left);
                Fetched::Absent
            }
        }
    }

    /// Removes a page; whether it was there.
    pub fn remove(&mut self, key: &Key, left: &mut Left) -> bool {
        match self.find(key) {
            Some(slot) => {
                self.take(slot, left);
                true
            }
            None => false,
        }
    }

    fn take(&mut self, slot: u32, left: &mut Left) {
        let (key, place) = (self.entries.key(slot), self.entries.place(slot));
        left.pages += 1;
        left.bytes += self.segments.length(place) as u64;
        left.freed.extend(self.segments.remove(place));
        if let Some(moved) = self.entries.remove(slot) {
            self.segments.set_slot(moved.place, moved.slot);
        }
        left.objects += u64::from(self.objects.page_goes(key.object));
    }

    /// Removes pages of an object with indexes from `first` to `last`, as many as one turn allows; whether these were all.
    pub fn remove_range(
        &mut self,
        object: &ObjectKey,
        (first, last): (u64, u64),
        progress: &mut Progress,
        left: &mut Left,
    ) -> bool {
        let mut steps = STEP;
        let from = first.max(progress.next);
        if from > last {
            return true;
        }
        let mut parts = self.objects.parts(object, split(from).0, split(last).0);
        parts.sort_unstable_by_key(|number| self.objects.get(*number).part);
        for number in parts {
            let (part, highest) = {
                let object = self.objects.get(number);
                (object.part, object.highest)
            };
            let base = u64::from(part) << 32;
            if split(progress.next).0 != part {
                progress.sweep = None;
            }
            let low = split(from.max(base)).1;
            let high = last.saturating_sub(base).min(highest.into()) as u32;
            if low <= high
                && !self.remove_of(number, object, (low, high), progress, &mut steps, left)
            {
                progress.next = base | progress.next & u64::from(u32::MAX);
                return false;
            }
        }
        true
    }

    /// The same of one part of an object. If it stops, `progress` has the low half of the next index.
    fn remove_of(
        &mut self,
        number: u32,
        key: &ObjectKey,
        (low, high): (u32, u32),
        progress: &mut Progress,
        steps: &mut u64,
        left: &mut Left,
    ) -> bool {
        let lookups = u64::from(high - low) + 1;
        if progress.sweep.is_none() && lookups <= self.entries.len() as u64 / SWEEP + STEP {
            for index in low..=high {
                if *steps == 0 {
                    progress.next = index.into();
                    return false;
                }
                *steps -= 1;
                let page = PageKey {
                    object: number,
                    index,
                };
                if let Some(slot) = self.entries.find(page) {
                    self.take(slot, left);
                    if !self.objects.is(number, key) {
                        return true;
                    }
                }
            }
            return true;
        }
        // The last entry moves into the place of a removed one: it has been looked at.
        let count = self.entries.next_slot();
        let mut slot = progress.sweep.map_or(count, |rest| rest.min(count));
        let mut turns = *steps * SWEEP;
        while slot > 0 {
            if turns == 0 {
                *steps = 0;
                progress.sweep = Some(slot);
                progress.next = low.into();
                return false;
            }
            turns -= 1;
            slot -= 1;
            let page = self.entries.key(slot);
            if page.object == number && (low..=high).contains(&page.index) {
                self.take(slot, left);
                if !self.objects.is(number, key) {
                    return true;
                }
            }
        }
        true
    }

    /// Removes pages of a pool, as many as one turn allows; whether these were all. Nobody puts to the pool meanwhile.
    pub fn remove_pool(&mut self, pool: u32, progress: &mut Progress, left: &mut Left) -> bool {
        let count = self.entries.next_slot();
        let mut slot = progress.sweep.map_or(count, |rest| rest.min(count));
        let end = slot.saturating_sub((STEP * SWEEP) as u32);
        while slot > end {
            slot -= 1;
            let object = self.entries.key(slot).object;
            if self.objects.get(object).key.pool == pool {
                self.take(slot, left);
            }
        }
        progress.sweep = Some(slot);
        slot == 0
    }

    /// Removes all pages of the oldest segment of a queue, and tells `report` which; false if there is no segment.
    pub fn evict(&mut self, queue: Queue, left: &mut Left, mut report: impl FnMut(Key)) -> bool {
        let Some(number) = self.segments.oldest(queue) else {
            return false;
        };
        self.segments.close(number);
        for key in self.keys(self.segments.slots_of(number)) {
            report(self.name(key));
            self.take_page(key, left);
        }
        true
    }

    /// Removes all pages of a segment that the kernel has taken a part of.
    fn purge(&mut self, number: u32, left: &mut Left) {
        for key in self.keys(self.segments.slots_taken(number)) {
            self.take_page(key, left);
            left.taken += 1;
        }
    }

    /// Looks for pages that the kernel has taken in up to `limit` segments from number `from` on, and removes them. Returns
    /// where to go on, or `None` at the end.
    pub fn purge_some(&mut self, mut from: u32, limit: usize, left: &mut Left) -> Option<u32> {
        for _ in 0..limit {
            let number = self.segments.next_reclaimable(from)?;
            if !self.segments.is_resident(number) {
                self.purge(number, left);
            }
            from = number + 1;
        }
        Some(from)
    }

    /// The pages of slots, which change as pages go.
    fn keys(&self, slots: Vec<u32>) -> Vec<PageKey> {
        slots
            .into_iter()
            .map(|slot| self.entries.key(slot))
            .collect()
    }

    fn take_page(&mut self, key: PageKey, left: &mut Left) {
        if let Some(slot) = self.entries.find(key) {
            self.take(slot, left);
        }
    }

    fn name(&self, key: PageKey) -> Key {
        let object = self.objects.get(key.object);
        Key {
            object: object.key,
            index: u64::from(object.part) << 32 | u64::from(key.index),
        }
    }

    /// Copies what is kept of pages of a segment, from `record` on and as many as fit into `data`, one after the other. They stay
    /// where they are. Pages that the kernel has taken go.
    pub fn copy_pages(
        &mut self,
        id: SegmentId,
        mut record: u16,
        data: &mut [Page],
        left: &mut Left,
    ) -> Vec<Copied> {
        let mut copied = Vec::with_capacity(data.len());
        let mut filled = 0;
        let data = data.as_flattened_mut();
        while let Some(room) = data[filled..].first_chunk_mut::<PAGE_SIZE>()
            && let Some(found) = self.segments.next_page(id, record)
        {
            let place = Place {
                segment: id.number,
                record: found.record,
            };
            let length = self.segments.length(place);
            let read = if length == PAGE_SIZE {
                self.segments.read_whole(place, room)
            } else {
                self.segments.read_short(place, room).map(drop)
            };
            if read.is_err() {
                self.purge(id.number, left);
                continue;
            }
            copied.push(Copied {
                key: self.entries.key(found.slot),
                place,
                raw: found.raw,
                length,
            });
            filled += length;
            record = found.record + 1;
        }
        copied
    }

    /// The slot of a copied page, if it is still where it was.
    fn still(&self, id: SegmentId, copied: &Copied) -> Option<u32> {
        let found = self.segments.next_page(id, copied.place.record)?;
        let slot = self.entries.find(copied.key)?;
        (found.record == copied.place.record && found.slot == slot).then_some(slot)
    }

    /// Keeps a copied page, if it is still where it was, as `data` in another segment. Returns what it is charged, and how
    /// many bytes its data takes less.
    pub fn move_page(
        &mut self,
        id: SegmentId,
        copied: &Copied,
        data: Data<'_>,
        left: &mut Left,
    ) -> Option<(u64, u64)> {
        let slot = self.still(id, copied)?;
        let queue = self.segments.queue(copied.place);
        let (place, cost) = self.segments.add(queue, id.age, slot, data).ok()?;
        left.freed.extend(self.segments.remove(copied.place));
        self.entries.set_place(slot, place);
        Some((cost, (copied.length - data.length()) as u64))
    }

    /// A copied page does not compress, or stays for another reason; nobody tries it again.
    pub fn settle_page(&mut self, id: SegmentId, copied: &Copied) {
        if copied.raw && self.still(id, copied).is_some() {
            self.segments.settle(copied.place);
        }
    }

    /// Every page, checked against the indexes: its key, and whether it is persistent.
    #[cfg(test)]
    pub fn audit(&self) -> Vec<(Key, Queue)> {
        let mut pages = Vec::new();
        for slot in 0..self.entries.next_slot() {
            let (key, place) = (self.entries.key(slot), self.entries.place(slot));
            assert_eq!(self.entries.find(key), Some(slot));
            let name = self.name(key);
            assert_eq!(self.find(&name), Some(slot));
            pages.push((name, self.segments.queue(place)));
        }
        let objects: std::collections::BTreeSet<_> = (0..self.entries.next_slot())
            .map(|slot| self.entries.key(slot).object)
            .collect();
        assert_eq!(objects.len(), self.objects.len());
        self.segments.audit(&self.entries);
        pages
    }
}

/// The part of an object, and the index in it.
fn split(index: u64) -> (u32, u32) {
    ((index >> 32) as u32, index as u32)
}
