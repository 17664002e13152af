//! The segments of a shard: in which queue each is, and in which order they were filled.
//!
//! Pages are in queues: ephemeral ones that are new, ephemeral ones that proved their worth, and persistent ones that a tier
//! does not have, or does have too. Of each
//! queue there are two *streams* of segments: of whole pages, which came in lately or do not compress, and of pages that
//! are kept as something shorter. A stream has one open segment that pages are added to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PoolKind;
use super::arena::{Arena, Gone, SEGMENT_PAGES, Segment};
#[cfg(test)]
use super::below::At;
use super::below::Spot;
use super::codec::Page;
use super::entries::Place;
use super::filled::{Data, Figures, Filled, Found, QUEUES, Queue};

/// Places of whole pages that have gone are looked for when they are more than one part in so many. To fill those of
/// ephemeral pages, a segment must be sealed again, which takes a system call.
const VACANT_SHARE_EPHEMERAL: u64 = 32;
const VACANT_SHARE_PERSISTENT: u64 = 512;

/// Segments that are looked at for such places at once.
const LOOKS: usize = 32;

/// Segments that are looked at at all, whatever they are: some 100 us.
const MOST_LOOKS: usize = 1024;

/// Names a segment, also after its number was given to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentId {
    pub number: u32,
    /// An age may be taken twice: a page that is moved takes its segment's along.
    pub age: u64,
    /// Never that of another one.
    serial: u64,
}

/// What a segment's end sets free.
#[must_use]
pub(super) struct Freed {
    pub account: PoolKind,
    pub cost: u64,
    /// Its memory, for the caller to drop without the lock.
    pub _memory: Segment,
}

/// All segments of a shard.
pub(super) struct Segments {
    arena: Arc<Arena>,
    slots: Vec<Option<Box<Filled>>>,
    free: Vec<u32>,
    open: [Option<u32>; 2 * QUEUES],
    /// By age.
    order: [BTreeMap<u64, u32>; QUEUES],
    figures: [Figures; QUEUES],
    /// Where the next look for vacant places begins.
    look: usize,
    /// Where the next look for the emptiest begins.
    emptiest: usize,
    /// That of the last segment.
    serial: u64,
}

impl Segments {
    pub fn new(arena: Arc<Arena>) -> Self {
        Segments {
            arena,
            slots: Vec::new(),
            free: Vec::new(),
            open: [None; _],
            order: Default::default(),
            figures: Default::default(),
            look: 0,
            emptiest: 0,
            serial: 0,
        }
    }

    pub fn figures(&self, queue: Queue) -> Figures {
        self.figures[queue as usize]
    }

    fn get(&self, id: SegmentId) -> Option<&Filled> {
        let segment = self.slots.get(id.number as usize)?.as_deref();
        segment.filter(|segment| segment.serial == id.serial)
    }

    fn filled(&self, number: u32) -> &Filled {
        self.slots[number as usize]
            .as_deref()
            .expect("entries name segments that are there")
    }

    /// Changes a segment, and the figures of its queue with it.
    fn change<R>(&mut self, number: u32, f: impl FnOnce(&mut Filled) -> R) -> R {
        let segment = self.slots[number as usize]
            .as_deref_mut()
            .expect("entries name segments that are there");
        let before = segment.figures();
        let result = f(segment);
        let after = segment.figures();
        self.figures[segment.queue as usize].change(before, after);
        result
    }

    /// Adds a page, `age` being that of a segment that is opened for it. Returns where it is, and what was charged
    /// for it; an error if the kernel gives no memory.
    pub fn add(
        &mut self,
        queue: Queue,
        age: u64,
        slot: u32,
        data: Data<'_>,
    ) -> Result<(Place, u64), Gone> {
        let whole = matches!(data, Data::Whole { .. });
        let number = match self.open[stream(queue, whole)] {
            Some(number) if self.filled(number).fits(data) => number,
            full => {
                if let Some(full) = full {
                    self.close(full);
                }
                let vacant = if whole {
                    self.look_for_vacant(queue)
                } else {
                    None
                };
                match vacant {
                    Some(number) => self.open_again(number, age),
                    None => self.open(queue, whole, age)?,
                }
            }
        };
        let (record, cost) = self.change(number, |segment| segment.add(slot, data));
        let place = Place {
            segment: number,
            record,
        };
        Ok((place, cost))
    }

    fn open(&mut self, queue: Queue, whole: bool, age: u64) -> Result<u32, Gone> {
        let age = self.free_age(queue, age);
        let memory = self.arena.segment()?;
        let serial = self.next_serial();
        let filled = Box::new(Filled::new(memory, queue, whole, age, serial));
        self.figures[queue as usize].change(Figures::default(), filled.figures());
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number as usize] = Some(filled);
                number
            }
            None => {
                self.slots.push(Some(filled));
                (self.slots.len() - 1) as u32
            }
        };
        self.order[queue as usize].insert(age, number);
        self.open[stream(queue, whole)] = Some(number);
        Ok(number)
    }

    /// Opens a segment of whole pages whose vacant places are to be filled.
    fn open_again(&mut self, number: u32, age: u64) -> u32 {
        let queue = self.filled(number).queue;
        let age = self.free_age(queue, age);
        let serial = self.next_serial();
        let old = self.change(number, |segment| {
            segment.serial = serial;
            std::mem::replace(&mut segment.age, age)
        });
        self.order[queue as usize].remove(&old);
        self.order[queue as usize].insert(age, number);
        self.open[stream(queue, true)] = Some(number);
        number
    }

    /// What was known of a segment with another one is not true any more.
    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn id(&self, number: u32) -> SegmentId {
        let segment = self.filled(number);
        SegmentId {
            number,
            age: segment.age,
            serial: segment.serial,
        }
    }

    /// Two streams share a queue, so an age may be taken: the next that is free is as good.
    fn free_age(&self, queue: Queue, mut age: u64) -> u64 {
        while self.order[queue as usize].contains_key(&age) {
            age += 1;
        }
        age
    }

    /// Of some segments, the one where most whole pages have gone.
    fn look_for_vacant(&mut self, queue: Queue) -> Option<u32> {
        let figures = self.figures[queue as usize];
        let share = match queue.account() {
            PoolKind::Ephemeral => VACANT_SHARE_EPHEMERAL,
            PoolKind::Persistent => VACANT_SHARE_PERSISTENT,
        };
        if figures.vacant * share <= figures.whole * SEGMENT_PAGES as u64 {
            return None;
        }
        let start = self.look % self.slots.len();
        let numbers = (start..self.slots.len()).chain(0..start);
        let mut looks = 0;
        let found = numbers
            .take(MOST_LOOKS)
            .filter_map(|number| {
                let segment = self.slots[number].as_deref()?;
                let vacant = segment.figures().vacant;
                (segment.queue == queue && vacant > 0).then_some((vacant, number))
            })
            .inspect(|_| looks += 1)
            .take(LOOKS)
            .max();
        // Not all of those that were looked at: what is vacant is filled up where it began, for as long as that is the best.
        self.look = start + if looks > 0 { looks } else { MOST_LOOKS };
        found.map(|(_, number)| number as u32)
    }

    /// Seals the segment, if it is open.
    pub fn close(&mut self, number: u32) {
        if let Some(open) = self.open.iter_mut().find(|open| **open == Some(number)) {
            *open = None;
            self.change(number, Filled::seal);
        }
    }

    pub fn queue(&self, place: Place) -> Queue {
        self.filled(place.segment).queue
    }

    /// Bytes of what is kept of a page.
    pub fn length(&self, place: Place) -> usize {
        self.filled(place.segment).length(place.record)
    }

    /// As [`Filled::read_whole`].
    pub fn read_whole(&self, place: Place, page: &mut Page) -> Result<(), Gone> {
        self.filled(place.segment).read_whole(place.record, page)
    }

    /// As [`Filled::read_short`].
    pub fn read_short(&self, place: Place, data: &mut [u8]) -> Result<usize, Gone> {
        self.filled(place.segment).read_short(place.record, data)
    }

    /// A page has moved to another slot.
    pub fn set_slot(&mut self, place: Place, slot: u32) {
        self.change(place.segment, |segment| {
            segment.set_slot(place.record, slot)
        });
    }

    /// As [`Filled::spot`].
    pub fn spot(&self, place: Place) -> Option<Spot> {
        self.filled(place.segment).spot(place.record)
    }

    /// As [`Filled::set_spot`].
    pub fn set_spot(&mut self, place: Place, spot: Spot) {
        self.change(place.segment, |segment| {
            segment.set_spot(place.record, spot)
        });
    }

    /// A whole page does not compress.
    pub fn settle(&mut self, place: Place) {
        self.change(place.segment, |segment| segment.settle(place.record));
    }

    /// A page has gone. A segment without pages is free.
    pub fn remove(&mut self, place: Place) -> Option<Freed> {
        let empty = self.change(place.segment, |segment| {
            segment.remove(place.record);
            segment.is_empty()
        });
        if empty {
            self.free(place.segment)
        } else {
            None
        }
    }

    fn free(&mut self, number: u32) -> Option<Freed> {
        let segment = self.slots[number as usize].take()?;
        let (queue, figures) = (segment.queue, segment.figures());
        self.figures[queue as usize].change(figures, Figures::default());
        self.order[queue as usize].remove(&segment.age);
        self.free.push(number);
        if let Some(open) = self.open.iter_mut().find(|open| **open == Some(number)) {
            *open = None;
        }
        Some(Freed {
            account: queue.account(),
            cost: figures.charged,
            _memory: segment.into_memory(),
        })
    }

    /// The age of the oldest segment of a queue.
    pub fn oldest_age(&self, queue: Queue) -> Option<u64> {
        self.order[queue as usize].keys().next().copied()
    }

    /// The oldest segment of a queue.
    pub fn oldest(&self, queue: Queue) -> Option<SegmentId> {
        let (_, number) = self.order[queue as usize].first_key_value()?;
        Some(self.id(*number))
    }

    /// The oldest segment of a queue that nobody empties.
    pub fn oldest_at_rest(&self, queue: Queue) -> Option<SegmentId> {
        let mut order = self.order[queue as usize].values();
        let number = order.find(|number| !self.filled(**number).leaving)?;
        Some(self.id(*number))
    }

    /// The slots of up to `limit` pages in a segment from a record on, with their records; none if the segment has gone.
    pub fn slots_of(&self, id: SegmentId, from: u16, limit: usize) -> Vec<(u16, u32)> {
        let pages = self.get(id).map(|segment| segment.pages(from));
        let pages = pages.into_iter().flatten().take(limit);
        pages.map(|found| (found.record, found.slot)).collect()
    }

    /// The slots of those pages in a segment that the kernel has taken a part of.
    pub fn slots_taken(&self, number: u32) -> Vec<u32> {
        let segment = self.filled(number);
        let pages = segment.pages(0);
        let taken = pages.filter(|found| segment.is_taken(found.record));
        taken.map(|found| found.slot).collect()
    }

    /// The next page of a segment from a record on.
    pub fn next_page(&self, id: SegmentId, record: u16) -> Option<Found> {
        self.get(id)?.pages(record).next()
    }

    /// Nothing is added to the segment any more, and it is sealed.
    pub fn leave(&mut self, id: SegmentId) {
        if self.get(id).is_some() {
            self.close(id.number);
            self.change(id.number, |segment| segment.leaving = true);
        }
    }

    /// What [`Segments::leave`] did is undone; false if the segment has gone.
    pub fn stay(&mut self, id: SegmentId) -> bool {
        let there = self.get(id).is_some();
        if there {
            self.change(id.number, |segment| segment.leaving = false);
        }
        there
    }

    /// Returns the memory where whole pages of a segment have gone to the kernel. Returns what was charged for it.
    pub fn give_back(&mut self, id: SegmentId) -> u64 {
        match self.get(id) {
            Some(_) => self.change(id.number, Filled::give_back),
            None => 0,
        }
    }

    /// Of some segments on one account, open ones if asked for, the one with the largest part of what it is charged for
    /// pages that have gone, if that is a sixteenth at least. The next call looks at the next ones.
    pub fn emptiest(&mut self, account: PoolKind, open: bool) -> Option<SegmentId> {
        let start = self.emptiest % self.slots.len().max(1);
        self.emptiest = start + MOST_LOOKS;
        let numbers = (start..self.slots.len()).chain(0..start).take(MOST_LOOKS);
        let candidates = numbers.filter_map(|place| {
            let (segment, number) = (self.slots[place].as_deref()?, place as u32);
            let fits = segment.queue.account() == account
                && !segment.leaving
                && (open || !self.open.contains(&Some(number)));
            fits.then(|| (segment.live_parts(), number))
        });
        let (live, number) = candidates.min()?;
        (live <= 15 * 64).then(|| self.id(number))
    }

    /// Of some segments of a queue that are as old as `age` or younger, or else are the oldest that there are, the first with raw
    /// pages.
    pub fn raw_from(&self, queue: Queue, age: u64) -> Option<SegmentId> {
        let order = &self.order[queue as usize];
        let candidates = order.range(age..).chain(order.range(..age));
        let (_, number) = candidates.take(MOST_LOOKS).find(|(_, number)| {
            let segment = self.filled(**number);
            segment.has_raw() && !segment.leaving
        })?;
        Some(self.id(*number))
    }

    /// The number of the next segment, from one number on, that the kernel may have taken pages of.
    pub fn next_reclaimable(&self, from: u32) -> Option<u32> {
        let rest = (from..).zip(self.slots.iter().skip(from as usize));
        let mut candidates = rest.filter(|(_, segment)| {
            let segment = segment.as_deref();
            segment.is_some_and(|segment| segment.queue.account() == PoolKind::Ephemeral)
        });
        candidates.next().map(|(number, _)| number)
    }

    /// As [`Filled::is_resident`].
    pub fn is_resident(&self, number: u32) -> bool {
        self.filled(number).is_resident()
    }

    /// How many segments there are.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Bytes of the segments' memory that was written to.
    pub fn arena_bytes(&self) -> u64 {
        let segments = self.slots.iter().flatten();
        segments.map(|segment| segment.memory_bytes()).sum()
    }

    /// Bytes that all of this takes besides the segments' memory.
    pub fn bytes(&self) -> usize {
        let segments = self.slots.iter().flatten();
        segments.map(|segment| segment.metadata_bytes()).sum::<usize>()
            + self.slots.capacity() * size_of::<Option<Box<Filled>>>()
            + self.free.capacity() * size_of::<u32>()
            // A node of a tree has room for 11, and is half full at least.
            + self.count() * 2 * (size_of::<u64>() + size_of::<u32>())
    }
}

/// The number of a stream.
fn stream(queue: Queue, whole: bool) -> usize {
    queue as usize * 2 + usize::from(!whole)
}

impl Figures {
    /// Adds `after` and subtracts `before`, which is a part of it.
    fn change(&mut self, before: Figures, after: Figures) {
        self.charged = self.charged - before.charged + after.charged;
        self.live = self.live - before.live + after.live;
        self.raw = self.raw - before.raw + after.raw;
        self.vacant = self.vacant - before.vacant + after.vacant;
        self.whole = self.whole - before.whole + after.whole;
    }
}

#[cfg(test)]
impl Segments {
    /// Recomputes all figures from the segments, and compares; each live record is its page's.
    pub fn audit(&self, entries: &super::entries::Entries) {
        let mut figures = [Figures::default(); QUEUES];
        let mut live = 0;
        for (number, segment) in (0..).zip(&self.slots) {
            let Some(segment) = segment else { continue };
            assert_eq!(self.order[segment.queue as usize][&segment.age], number);
            assert!(!segment.is_empty() && !segment.leaving);
            segment.audit();
            figures[segment.queue as usize].change(Figures::default(), segment.figures());
            for found in segment.pages(0) {
                let place = Place {
                    segment: number,
                    record: found.record,
                };
                assert_eq!(entries.at(found.slot), At::Here(place));
                let clean = segment.queue == Queue::Clean;
                assert_eq!(self.spot(place).is_some(), clean);
                live += 1;
            }
        }
        assert_eq!(figures, self.figures);
        let slots = 0..entries.next_slot();
        let here = slots.filter(|slot| matches!(entries.at(*slot), At::Here(_)));
        assert_eq!(live, here.count());
        let ordered: usize = self.order.iter().map(BTreeMap::len).sum();
        assert_eq!(ordered, self.count());
    }

    /// The kernel takes a page of memory of every ephemeral segment that is not open.
    pub fn lose(&mut self, page: usize) {
        let open = self.open;
        for (number, segment) in (0..).zip(&mut self.slots) {
            if let Some(segment) = segment
                && segment.queue.account() == PoolKind::Ephemeral
                && !open.contains(&Some(number))
            {
                segment.lose(page);
            }
        }
    }
}

#[cfg(test)]
#[path = "segments_test.rs"]
mod tests;
