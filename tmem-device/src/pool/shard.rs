//! One shard of a guest: the pages of some of its objects, behind one lock that is held briefly.

use std::sync::Arc;

use super::PoolKind;
use super::arena::{Arena, Gone};
use super::below::{At, Spot};
use super::books::PAGE_METADATA;
use super::codec::Page;
use super::entries::{Entries, PageKey, Place};
use super::filled::{Data, Queue};
use super::key::Key;
use super::objects::Objects;
use super::segments::{Freed, SegmentId, Segments};
use crate::wire::PAGE_SIZE;

/// What has left a shard, or was freed in it.
#[derive(Default)]
pub(super) struct Left {
    pub pages: u64,
    /// Entries that were looked at to find them.
    pub looked: u64,
    /// Of data that left memory.
    pub bytes: u64,
    /// Objects without pages.
    pub objects: u64,
    pub freed: Vec<Freed>,
    /// Bytes that were charged for what is free now, besides, on the account of the pages' kind.
    pub released: u64,
    /// Pages that the kernel had taken.
    pub taken: u64,
    /// What tiers need not keep any more; each is of a page that was charged [`PAGE_METADATA`](super::PAGE_METADATA) for that.
    pub spots: Vec<Spot>,
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
    /// A tier has it.
    Below(Spot),
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

/// What was charged for data that came to memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Charge {
    pub cost: u64,
    pub bytes: u64,
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
    /// Bytes charged for persistent pages that memory alone has.
    pub dirty: u64,
    /// Ephemeral pages that a tier alone has.
    pub below_ephemeral: u64,
    /// Persistent pages that a tier alone has.
    pub below_persistent: u64,
}

impl Hints {
    /// Bytes charged on an account for pages that have gone.
    pub fn dead_of(self, account: PoolKind) -> u64 {
        match account {
            PoolKind::Ephemeral => self.dead_ephemeral,
            PoolKind::Persistent => self.dead_persistent,
        }
    }

    /// Bytes charged for pages that have gone.
    pub fn dead(self) -> u64 {
        self.dead_ephemeral + self.dead_persistent
    }

    /// Pages that a tier alone has.
    pub fn below(self) -> u64 {
        self.below_ephemeral + self.below_persistent
    }
}

/// A page, as [`Shard::audit`] found it.
#[cfg(test)]
pub(super) struct Audited {
    pub name: Key,
    pub kind: PoolKind,
    pub spot: Option<Spot>,
}

/// Some pages of a guest, and all that is needed to find them.
pub(super) struct Shard {
    pub entries: Entries,
    pub objects: Objects,
    pub segments: Segments,
    pub below_ephemeral: u64,
    below_persistent: u64,
    /// Where the search for ephemeral pages that a tier alone has goes on.
    pub hand: u32,
}

impl Shard {
    /// An empty shard, whose hashes depend on the seed.
    pub fn new(arena: Arc<Arena>, seed: u64) -> Self {
        Shard {
            entries: Entries::new(seed),
            objects: Objects::new(seed),
            segments: Segments::new(arena),
            below_ephemeral: 0,
            below_persistent: 0,
            hand: 0,
        }
    }

    pub fn hints(&self) -> Hints {
        let mut hints = Hints {
            dirty: self.segments.figures(Queue::Persistent).charged,
            below_ephemeral: self.below_ephemeral,
            below_persistent: self.below_persistent,
            ..Hints::default()
        };
        for queue in Queue::ALL {
            let figures = self.segments.figures(queue);
            let dead = figures.charged - figures.live;
            hints.raw += figures.raw;
            match queue.account() {
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
            Some(slot) => (slot, Some(self.entries.at(slot))),
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
                self.drop_data(old, left);
                self.entries.set_at(slot, At::Here(place));
            }
            None => {
                let (part, index) = split(key.index);
                let (object, new) = self.objects.add_page(&key.object, part, index);
                new_object = new;
                let key = PageKey { object, index };
                self.entries.insert(key, At::Here(place));
            }
        }
        Ok(Inserted { new_object, cost })
    }

    /// Copies a page that is kept as it is to `page`, and what another is kept as to the beginning of `data`; removes it if
    /// `exclusive`. If a tier alone has it, says where, and it is the caller's to discard if `exclusive`.
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
        let place = match self.entries.at(slot) {
            At::Here(place) => place,
            At::Below(spot, _) => {
                if exclusive {
                    self.take(slot, left);
                    left.spots.pop();
                    left.released += PAGE_METADATA;
                }
                return Fetched::Below(spot);
            }
        };
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
                let spot = self.segments.spot(place);
                self.purge(place.segment, left);
                spot.map_or(Fetched::Absent, Fetched::Below)
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

    /// A page leaves the pool; the last entry may move into its slot.
    pub fn take(&mut self, slot: u32, left: &mut Left) {
        let key = self.entries.key(slot);
        left.pages += 1;
        self.drop_data(self.entries.at(slot), left);
        if let Some(moved) = self.entries.remove(slot)
            && let At::Here(place) = moved.at
        {
            self.segments.set_slot(place, moved.slot);
        }
        left.objects += u64::from(self.objects.page_goes(key.object));
    }

    /// What a page was kept as is not needed any more. If a tier has it, that is pushed to `left.spots` last.
    fn drop_data(&mut self, at: At, left: &mut Left) {
        let spot = match at {
            At::Here(place) => {
                let spot = self.segments.spot(place);
                self.drop_memory(place, left);
                spot
            }
            At::Below(spot, kind) => {
                *self.below_mut(kind) -= 1;
                Some(spot)
            }
        };
        left.spots.extend(spot);
    }

    fn drop_memory(&mut self, place: Place, left: &mut Left) {
        left.bytes += self.segments.length(place) as u64;
        left.freed.extend(self.segments.remove(place));
    }

    /// From now on a tier alone has the page, which is in memory.
    fn sink(&mut self, slot: u32, place: Place, spot: Spot, kind: PoolKind, left: &mut Left) {
        self.drop_memory(place, left);
        self.entries.set_at(slot, At::Below(spot, kind));
        *self.below_mut(kind) += 1;
    }

    /// A page leaves memory, and the pool, unless a tier has it. Whether it left the pool.
    fn drop_page(&mut self, key: PageKey, left: &mut Left) -> bool {
        let Some(slot) = self.entries.find(key) else {
            return false;
        };
        if let At::Here(place) = self.entries.at(slot)
            && let Some(spot) = self.segments.spot(place)
        {
            self.sink(slot, place, spot, PoolKind::Persistent, left);
            return false;
        }
        self.take(slot, left);
        true
    }

    fn below_mut(&mut self, kind: PoolKind) -> &mut u64 {
        match kind {
            PoolKind::Ephemeral => &mut self.below_ephemeral,
            PoolKind::Persistent => &mut self.below_persistent,
        }
    }

    /// The oldest segment of a queue, to which nothing is added from now on.
    pub fn oldest(&mut self, queue: Queue) -> Option<SegmentId> {
        let id = self.segments.oldest(queue)?;
        self.segments.leave(id);
        Some(id)
    }

    /// Removes up to `limit` pages of a segment from a record on, and tells `report` which; those that a tier has stay there. Returns
    /// where to go on, or `None` if that were all, or the segment has gone.
    pub fn evict(
        &mut self,
        id: SegmentId,
        from: u16,
        limit: usize,
        left: &mut Left,
        mut report: impl FnMut(Key),
    ) -> Option<u16> {
        let found = self.segments.slots_of(id, from, limit);
        let next = found.last().map(|(record, _)| record + 1);
        let slots = found.into_iter().map(|(_, slot)| slot).collect();
        for key in self.keys(slots) {
            let name = self.name(key);
            if self.drop_page(key, left) {
                report(name);
            }
        }
        next
    }

    /// Removes all pages of a segment that the kernel has taken a part of; those that a tier has stay there.
    fn purge(&mut self, number: u32, left: &mut Left) {
        for key in self.keys(self.segments.slots_taken(number)) {
            self.drop_page(key, left);
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

    pub fn name(&self, key: PageKey) -> Key {
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
        let spot = self.segments.spot(copied.place);
        let (place, cost) = self.segments.add(queue, id.age, slot, data).ok()?;
        if let Some(spot) = spot {
            self.segments.set_spot(place, spot);
        }
        left.freed.extend(self.segments.remove(copied.place));
        self.entries.set_at(slot, At::Here(place));
        Some((cost, (copied.length - data.length()) as u64))
    }

    /// A tier has taken a copied page, and memory keeps it as `data` besides, if it is still there, and `data` is not `None`.
    /// Returns what it is charged for that; `None` if the page has gone or changed, and nobody needs what the tier has.
    pub fn page_is_below(
        &mut self,
        id: SegmentId,
        copied: &Copied,
        data: Option<Data<'_>>,
        spot: Spot,
        left: &mut Left,
    ) -> Option<Charge> {
        let slot = self.still(id, copied)?;
        let kind = self.segments.queue(copied.place).account();
        let added = data.map(|data| (data, self.segments.add(Queue::Clean, id.age, slot, data)));
        let Some((data, Ok((place, cost)))) = added else {
            self.sink(slot, copied.place, spot, kind, left);
            return Some(Charge::default());
        };
        self.segments.set_spot(place, spot);
        self.drop_memory(copied.place, left);
        self.entries.set_at(slot, At::Here(place));
        Some(Charge {
            cost,
            bytes: data.length() as u64,
        })
    }

    /// A page that a tier alone has comes back to memory as `data`, if it is still the tier's, and stays there too. Returns
    /// what it is charged for that.
    pub fn page_comes_back(
        &mut self,
        key: &Key,
        spot: Spot,
        age: u64,
        data: Data<'_>,
    ) -> Option<Charge> {
        let slot = self.find(key)?;
        if self.entries.at(slot) != At::Below(spot, PoolKind::Persistent) {
            return None;
        }
        let (place, cost) = self.segments.add(Queue::Clean, age, slot, data).ok()?;
        self.segments.set_spot(place, spot);
        self.entries.set_at(slot, At::Here(place));
        self.below_persistent -= 1;
        Some(Charge {
            cost,
            bytes: data.length() as u64,
        })
    }

    /// Picks the oldest segment of a queue that nobody empties, and begins to empty it.
    pub fn leave_oldest(&mut self, queue: Queue) -> Option<SegmentId> {
        let id = self.segments.oldest_at_rest(queue)?;
        self.segments.leave(id);
        Some(id)
    }

    /// A copied page does not compress, or stays for another reason; nobody tries it again.
    pub fn settle_page(&mut self, id: SegmentId, copied: &Copied) {
        if copied.raw && self.still(id, copied).is_some() {
            self.segments.settle(copied.place);
        }
    }

    /// Every page, checked against the indexes: its key, and how it is kept. Counts those that tiers alone have.
    #[cfg(test)]
    pub fn audit(&self) -> Vec<Audited> {
        let mut pages = Vec::new();
        let (mut below_ephemeral, mut below_persistent) = (0, 0);
        for slot in 0..self.entries.next_slot() {
            let (key, at) = (self.entries.key(slot), self.entries.at(slot));
            assert_eq!(self.entries.find(key), Some(slot));
            let name = self.name(key);
            assert_eq!(self.find(&name), Some(slot));
            let (kind, spot) = match at {
                At::Here(place) => match self.segments.queue(place) {
                    Queue::Small | Queue::Main => (PoolKind::Ephemeral, None),
                    Queue::Persistent => (PoolKind::Persistent, None),
                    Queue::Clean => (PoolKind::Persistent, self.segments.spot(place)),
                },
                At::Below(spot, kind) => {
                    below_ephemeral += u64::from(kind == PoolKind::Ephemeral);
                    below_persistent += u64::from(kind == PoolKind::Persistent);
                    (kind, Some(spot))
                }
            };
            pages.push(Audited { name, kind, spot });
        }
        assert_eq!(
            (below_ephemeral, below_persistent),
            (self.below_ephemeral, self.below_persistent)
        );
        let objects: std::collections::BTreeSet<_> = (0..self.entries.next_slot())
            .map(|slot| self.entries.key(slot).object)
            .collect();
        assert_eq!(objects.len(), self.objects.len());
        self.segments.audit(&self.entries);
        pages
    }
}

/// The part of an object, and the index in it.
pub(super) fn split(index: u64) -> (u32, u32) {
    ((index >> 32) as u32, index as u32)
}
