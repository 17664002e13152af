//! The segments of a shard: which pages each has, whose they are, and in which order they were filled.
//!
//! Pages are in queues: ephemeral ones that are new, ephemeral ones that proved their worth, and persistent ones. Of each
//! queue there are two *streams* of segments: of whole pages, which came in lately or do not compress, and of pages that
//! are kept as something shorter. A stream has one open segment that pages are added to. Where a whole page has gone, the
//! next one takes its place. Where a shorter one has, there is a gap, until the cleaner moves what is left of the segment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PoolKind;
use super::arena::{Arena, FirstWord, Gone, PAYLOAD, SEGMENT_PAGES, SEGMENT_PAYLOAD, Segment};
use super::books::{PAGE_METADATA, WHOLE_COST, data_cost};
use super::codec::Page;
use super::entries::Place;
use crate::wire::PAGE_SIZE;

/// No slot: the record's page has gone.
const DEAD: u32 = u32::MAX;

/// Records that a segment may have.
const MAX_RECORDS: usize = u16::MAX as usize;

/// Where a record may begin.
const ALIGNMENT: usize = 4;

/// Places of whole pages that have gone are looked for when they are more than one part in so many.
const VACANT_SHARE: u64 = 32;

/// Segments that are looked at for such places at once.
const LOOKS: usize = 32;

/// Which pages are in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// Ephemeral pages that were not seen before.
    Small,
    /// Ephemeral pages that have been here before.
    Main,
    /// Persistent pages.
    Persistent,
}

pub(super) const QUEUES: usize = 3;

impl Queue {
    pub const ALL: [Queue; QUEUES] = [Queue::Small, Queue::Main, Queue::Persistent];

    pub fn kind(self) -> PoolKind {
        match self {
            Queue::Small | Queue::Main => PoolKind::Ephemeral,
            Queue::Persistent => PoolKind::Persistent,
        }
    }
}

/// What is kept of a page.
#[derive(Debug, Clone, Copy)]
pub(super) enum Data<'a> {
    /// All of it. `settled`: it does not compress.
    Whole { page: &'a Page, settled: bool },
    /// Something shorter.
    Short(&'a [u8]),
}

impl Data<'_> {
    /// Bytes.
    pub fn length(&self) -> usize {
        match self {
            Data::Whole { .. } => PAGE_SIZE,
            Data::Short(data) => data.len(),
        }
    }
}

#[derive(Clone, Copy)]
struct Record {
    slot: u32,
    /// In units of ALIGNMENT.
    begin: u16,
    /// Bytes.
    length: u16,
}

impl Record {
    fn range(self) -> (usize, usize) {
        let begin = usize::from(self.begin) * ALIGNMENT;
        (begin, begin + usize::from(self.length))
    }

    fn cost(self) -> u64 {
        data_cost(self.length.into()) + PAGE_METADATA
    }
}

/// The whole pages of a segment, by the page of memory that each is in. Sets of these have a bit for each.
struct Whole {
    slots: [u32; SEGMENT_PAGES],
    words: [FirstWord; SEGMENT_PAGES],
    live: u32,
    /// Those that were ever written to.
    written: u32,
    /// Of the live ones, those that do not compress.
    settled: u32,
}

enum Records {
    Whole(Box<Whole>),
    Short(Vec<Record>),
}

/// A segment of a shard.
pub(super) struct Filled {
    memory: Segment,
    records: Records,
    queue: Queue,
    /// When its first page was put, or since when it was filled up again; unique in the queue, rising.
    age: u64,
    live: u32,
    /// Of all records.
    charged: u64,
    /// Of those that are live.
    live_cost: u64,
    /// It is being emptied: nothing is added.
    leaving: bool,
}

impl Filled {
    fn raw(&self) -> u32 {
        match &self.records {
            Records::Whole(whole) => whole.live & !whole.settled,
            Records::Short(_) => 0,
        }
    }

    /// Pages of memory where a whole page has gone.
    fn vacant(&self) -> u32 {
        match &self.records {
            Records::Whole(whole) if !self.leaving => whole.written & !whole.live,
            _ => 0,
        }
    }

    fn stream(&self) -> usize {
        self.queue as usize * 2 + usize::from(matches!(self.records, Records::Short(_)))
    }
}

/// Names a segment, also after its number was given to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentId {
    pub number: u32,
    pub age: u64,
}

/// What a segment's end sets free.
#[must_use]
pub(super) struct Freed {
    pub kind: PoolKind,
    pub cost: u64,
    /// Its memory, for the caller to drop without the lock.
    pub _memory: Segment,
}

/// Figures of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// What its segments are charged.
    pub charged: u64,
    /// Of that, for pages that are still there.
    pub live: u64,
    /// Pages that nobody has tried to compress.
    pub raw: u64,
    /// Places where whole pages have gone, and others may come.
    pub vacant: u64,
    /// Segments of whole pages.
    pub whole: u64,
}

/// A page in a segment, as the cleaner finds it.
pub(super) struct Found {
    pub place: Place,
    pub slot: u32,
    /// Nobody has tried to compress it.
    pub raw: bool,
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
        }
    }

    pub fn figures(&self, queue: Queue) -> Figures {
        self.figures[queue as usize]
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
        match data {
            Data::Whole { page, settled } => self.add_whole(queue, age, slot, page, settled),
            Data::Short(data) => self.append(queue, age, slot, data),
        }
    }

    fn add_whole(
        &mut self,
        queue: Queue,
        age: u64,
        slot: u32,
        page: &Page,
        settled: bool,
    ) -> Result<(Place, u64), Gone> {
        let stream = queue as usize * 2;
        let full = |segment: &Filled| match &segment.records {
            Records::Whole(whole) => whole.live == u32::MAX,
            Records::Short(_) => true,
        };
        let number = match self.open[stream] {
            Some(number) if !full(self.filled(number)) => number,
            full => {
                if let Some(full) = full {
                    self.close(full);
                }
                match self.look_for_vacant(queue) {
                    Some(number) => self.open_again(number, age),
                    None => self.open(queue, Records::Whole(Box::default()), age)?,
                }
            }
        };
        let vacant = self.filled(number).vacant();
        let segment = self.filled_mut(number);
        let Records::Whole(whole) = &mut segment.records else {
            return Err(Gone);
        };
        let at = (!whole.live).trailing_zeros();
        let bit = 1 << at;
        let cost = if whole.written & bit == 0 {
            WHOLE_COST
        } else {
            0
        };
        whole.words[at as usize] = segment.memory.write_page(at as usize, page);
        whole.slots[at as usize] = slot;
        whole.live |= bit;
        whole.written |= bit;
        whole.settled = whole.settled & !bit | u32::from(settled) << at;
        segment.live += 1;
        segment.charged += cost;
        segment.live_cost += WHOLE_COST;
        let vacant = vacant.count_ones() - segment.vacant().count_ones();
        let figures = &mut self.figures[queue as usize];
        figures.charged += cost;
        figures.live += WHOLE_COST;
        figures.raw += u64::from(!settled);
        figures.vacant -= u64::from(vacant);
        let place = Place {
            segment: number,
            record: at as u16,
        };
        Ok((place, cost))
    }

    fn append(
        &mut self,
        queue: Queue,
        age: u64,
        slot: u32,
        data: &[u8],
    ) -> Result<(Place, u64), Gone> {
        let stream = queue as usize * 2 + 1;
        let fits = |segment: &Filled| match &segment.records {
            Records::Short(records) => {
                segment.memory.room() >= data.len().next_multiple_of(ALIGNMENT)
                    && records.len() < MAX_RECORDS
            }
            Records::Whole(_) => false,
        };
        let number = match self.open[stream] {
            Some(number) if fits(self.filled(number)) => number,
            full => {
                if let Some(full) = full {
                    self.close(full);
                }
                self.open(queue, Records::Short(Vec::new()), age)?
            }
        };
        let segment = self.filled_mut(number);
        let Records::Short(records) = &mut segment.records else {
            return Err(Gone);
        };
        let begin = segment.memory.append(data);
        let filled = segment.memory.filled();
        let padding = filled.next_multiple_of(ALIGNMENT) - filled;
        segment.memory.append(&[0; ALIGNMENT][..padding]);
        let record = Record {
            slot,
            begin: (begin / ALIGNMENT) as u16,
            length: data.len() as u16,
        };
        let place = Place {
            segment: number,
            record: records.len() as u16,
        };
        records.push(record);
        let cost = record.cost();
        segment.live += 1;
        segment.charged += cost;
        segment.live_cost += cost;
        let figures = &mut self.figures[queue as usize];
        figures.charged += cost;
        figures.live += cost;
        Ok((place, cost))
    }

    fn open(&mut self, queue: Queue, records: Records, age: u64) -> Result<u32, Gone> {
        let filled = Box::new(Filled {
            memory: self.arena.segment()?,
            records,
            queue,
            age: self.free_age(queue, age),
            live: 0,
            charged: 0,
            live_cost: 0,
            leaving: false,
        });
        let (stream, age) = (filled.stream(), filled.age);
        self.figures[queue as usize].whole +=
            u64::from(matches!(filled.records, Records::Whole(_)));
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
        self.open[stream] = Some(number);
        Ok(number)
    }

    /// Opens a segment of whole pages whose vacant places are to be filled.
    fn open_again(&mut self, number: u32, age: u64) -> u32 {
        let queue = self.filled(number).queue;
        let age = self.free_age(queue, age);
        let segment = self.filled_mut(number);
        let old = std::mem::replace(&mut segment.age, age);
        self.order[queue as usize].remove(&old);
        self.order[queue as usize].insert(age, number);
        self.open[queue as usize * 2] = Some(number);
        number
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
        if figures.vacant * VACANT_SHARE <= figures.whole * SEGMENT_PAGES as u64 {
            return None;
        }
        let start = self.look % self.slots.len();
        let numbers = (start..self.slots.len()).chain(0..start);
        let mut looks = 0;
        let found = numbers
            .filter_map(|number| {
                let segment = self.slots[number].as_deref()?;
                let vacant = segment.vacant().count_ones();
                (segment.queue == queue && vacant > 0).then_some((vacant, number))
            })
            .inspect(|_| looks += 1)
            .take(LOOKS)
            .max();
        let (_, number) = found?;
        self.look = start + looks;
        Some(number as u32)
    }

    /// Seals the segment, if it is open.
    pub fn close(&mut self, number: u32) {
        let Some(open) = self.open.iter_mut().find(|open| **open == Some(number)) else {
            return;
        };
        *open = None;
        let segment = self.filled_mut(number);
        segment
            .memory
            .seal(segment.queue.kind() == PoolKind::Ephemeral);
        if let Records::Short(records) = &mut segment.records {
            records.shrink_to_fit();
        }
    }

    fn get(&self, id: SegmentId) -> Option<&Filled> {
        let segment = self.slots.get(id.number as usize)?.as_deref();
        segment.filter(|segment| segment.age == id.age)
    }

    fn filled(&self, number: u32) -> &Filled {
        self.slots[number as usize]
            .as_deref()
            .expect("entries name segments that are there")
    }

    fn filled_mut(&mut self, number: u32) -> &mut Filled {
        self.slots[number as usize]
            .as_deref_mut()
            .expect("entries name segments that are there")
    }

    pub fn queue(&self, place: Place) -> Queue {
        self.filled(place.segment).queue
    }

    /// Bytes of what is kept of a page.
    pub fn length(&self, place: Place) -> usize {
        match &self.filled(place.segment).records {
            Records::Whole(_) => PAGE_SIZE,
            Records::Short(records) => records[usize::from(place.record)].length.into(),
        }
    }

    /// Copies a page that is kept whole. An error if the kernel has taken it, or it is not kept whole.
    pub fn read_whole(&self, place: Place, page: &mut Page) -> Result<(), Gone> {
        let segment = self.filled(place.segment);
        let at = usize::from(place.record);
        match &segment.records {
            Records::Whole(whole) => segment.memory.read_page(at, whole.words[at], page),
            Records::Short(_) => Err(Gone),
        }
    }

    /// Copies what is kept of a page to the beginning of `data`, and returns how many bytes these are. An error if the
    /// kernel has taken a part of it, or it is kept whole.
    pub fn read_short(&self, place: Place, data: &mut [u8]) -> Result<usize, Gone> {
        let segment = self.filled(place.segment);
        match &segment.records {
            Records::Whole(_) => Err(Gone),
            Records::Short(records) => {
                let (begin, end) = records[usize::from(place.record)].range();
                let length = end - begin;
                segment.memory.read(begin, &mut data[..length])?;
                Ok(length)
            }
        }
    }

    /// A page has moved to another slot.
    pub fn set_slot(&mut self, place: Place, slot: u32) {
        *self.slot_mut(place) = slot;
    }

    fn slot_mut(&mut self, place: Place) -> &mut u32 {
        let at = usize::from(place.record);
        match &mut self.filled_mut(place.segment).records {
            Records::Whole(whole) => &mut whole.slots[at],
            Records::Short(records) => &mut records[at].slot,
        }
    }

    /// A whole page does not compress.
    pub fn settle(&mut self, place: Place) {
        let segment = self.filled_mut(place.segment);
        let queue = segment.queue;
        let before = segment.raw().count_ones();
        if let Records::Whole(whole) = &mut segment.records {
            whole.settled |= 1 << place.record;
        }
        let after = segment.raw().count_ones();
        self.figures[queue as usize].raw -= u64::from(before - after);
    }

    /// A page has gone. A segment without pages is free.
    pub fn remove(&mut self, place: Place) -> Option<Freed> {
        let at = usize::from(place.record);
        let segment = self.filled_mut(place.segment);
        let (raw, vacant) = (segment.raw().count_ones(), segment.vacant().count_ones());
        let cost = match &mut segment.records {
            Records::Whole(whole) => {
                whole.slots[at] = DEAD;
                whole.live &= !(1 << at);
                whole.settled &= !(1 << at);
                WHOLE_COST
            }
            Records::Short(records) => {
                records[at].slot = DEAD;
                records[at].cost()
            }
        };
        segment.live -= 1;
        segment.live_cost -= cost;
        let raw = raw - segment.raw().count_ones();
        let vacant = segment.vacant().count_ones() - vacant;
        let queue = segment.queue;
        let figures = &mut self.figures[queue as usize];
        figures.live -= cost;
        figures.raw -= u64::from(raw);
        figures.vacant += u64::from(vacant);
        self.free_if_empty(place.segment)
    }

    fn free_if_empty(&mut self, number: u32) -> Option<Freed> {
        let slot = &mut self.slots[number as usize];
        let segment = slot.take_if(|segment| segment.live == 0)?;
        self.free.push(number);
        self.order[segment.queue as usize].remove(&segment.age);
        let figures = &mut self.figures[segment.queue as usize];
        figures.charged -= segment.charged;
        figures.vacant -= u64::from(segment.vacant().count_ones());
        figures.whole -= u64::from(matches!(segment.records, Records::Whole(_)));
        if let Some(stream) = self.open.iter().position(|open| *open == Some(number)) {
            self.open[stream] = None;
        }
        Some(Freed {
            kind: segment.queue.kind(),
            cost: segment.charged,
            _memory: segment.memory,
        })
    }

    /// The age of the oldest segment of a queue.
    pub fn oldest_age(&self, queue: Queue) -> Option<u64> {
        self.order[queue as usize].keys().next().copied()
    }

    /// The oldest segment of a queue.
    pub fn oldest(&self, queue: Queue) -> Option<u32> {
        self.order[queue as usize].values().next().copied()
    }

    /// The pages in a segment from a record on.
    fn pages(&self, number: u32, from: u16) -> impl Iterator<Item = Found> {
        let segment = self.slots.get(number as usize).and_then(Option::as_deref);
        let (whole, short) = match segment.map(|segment| &segment.records) {
            Some(Records::Whole(whole)) => (Some(whole), None),
            Some(Records::Short(records)) => (None, Some(records)),
            None => (None, None),
        };
        let raw = segment.map_or(0, Filled::raw);
        let slots = whole.into_iter().flat_map(|whole| whole.slots);
        let records = short.into_iter().flatten().map(|record| record.slot);
        slots
            .chain(records)
            .enumerate()
            .skip(from.into())
            .filter(|(_, slot)| *slot != DEAD)
            .map(move |(record, slot)| Found {
                place: Place {
                    segment: number,
                    record: record as u16,
                },
                slot,
                raw: record < SEGMENT_PAGES && raw >> record & 1 != 0,
            })
    }

    /// The slots of the pages in a segment.
    pub fn slots_of(&self, number: u32) -> Vec<u32> {
        self.pages(number, 0).map(|found| found.slot).collect()
    }

    /// The slots of those pages in a segment that the kernel has taken a part of.
    pub fn slots_taken(&self, number: u32) -> Vec<u32> {
        let segment = self.filled(number);
        let taken = |found: &Found| match &segment.records {
            Records::Whole(_) => !segment.memory.has_page(found.place.record.into()),
            Records::Short(records) => {
                let (begin, end) = records[usize::from(found.place.record)].range();
                !segment.memory.is_there(begin, end)
            }
        };
        let pages = self.pages(number, 0).filter(taken);
        pages.map(|found| found.slot).collect()
    }

    /// The next page of a segment from a record on.
    pub fn next_page(&self, id: SegmentId, record: u16) -> Option<Found> {
        self.get(id)?;
        self.pages(id.number, record).next()
    }

    /// Nothing is added to the segment any more, and it is sealed.
    pub fn leave(&mut self, id: SegmentId) {
        if self.get(id).is_none() {
            return;
        }
        self.close(id.number);
        let segment = self.filled_mut(id.number);
        let vacant = segment.vacant().count_ones();
        segment.leaving = true;
        let queue = segment.queue;
        self.figures[queue as usize].vacant -= u64::from(vacant);
    }

    /// Returns the memory where whole pages of a segment have gone to the kernel. Returns what was charged for it.
    pub fn give_back(&mut self, id: SegmentId) -> u64 {
        if self.get(id).is_none() {
            return 0;
        }
        let segment = self.filled_mut(id.number);
        let vacant = segment.vacant();
        let Records::Whole(whole) = &mut segment.records else {
            return 0;
        };
        whole.written &= !vacant;
        segment.memory.discard(vacant);
        let pages = u64::from(vacant.count_ones());
        segment.charged -= pages * WHOLE_COST;
        let queue = segment.queue;
        let figures = &mut self.figures[queue as usize];
        figures.charged -= pages * WHOLE_COST;
        figures.vacant -= pages;
        pages * WHOLE_COST
    }

    /// What [`Segments::leave`] did is undone; false if the segment has gone.
    pub fn stay(&mut self, id: SegmentId) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        let segment = self.filled_mut(id.number);
        segment.leaving = false;
        let (queue, vacant) = (segment.queue, segment.vacant().count_ones());
        self.figures[queue as usize].vacant += u64::from(vacant);
        true
    }

    /// Of the segments with pages of a kind, open ones if asked for, the one with the largest part of what it is charged for
    /// pages that have gone, if that is a sixteenth at least.
    pub fn emptiest(&self, kind: PoolKind, open: bool) -> Option<SegmentId> {
        let segments = (0..).zip(&self.slots);
        let candidates = segments.filter_map(|(number, segment)| {
            let segment = segment.as_deref()?;
            let fits = segment.queue.kind() == kind
                && !segment.leaving
                && (open || !self.open.contains(&Some(number)));
            fits.then(|| {
                let live = segment.live_cost * 1024 / segment.charged.max(1);
                (live, number, segment.age)
            })
        });
        let (live, number, age) = candidates.min()?;
        (live <= 15 * 64).then_some(SegmentId { number, age })
    }

    /// The first segment of a queue with raw pages that is as old as `age` or younger, or else the oldest that there is.
    pub fn raw_from(&self, queue: Queue, age: u64) -> Option<SegmentId> {
        let order = &self.order[queue as usize];
        let mut candidates = order.range(age..).chain(order.range(..age));
        candidates
            .find(|(_, number)| {
                let segment = self.filled(**number);
                segment.raw() != 0 && !segment.leaving
            })
            .map(|(age, number)| SegmentId {
                number: *number,
                age: *age,
            })
    }

    /// The number of the next segment, from one number on, that the kernel may have taken pages of.
    pub fn next_reclaimable(&self, from: u32) -> Option<u32> {
        let rest = (from..).zip(self.slots.iter().skip(from as usize));
        let mut candidates = rest.filter(|(_, segment)| {
            let segment = segment.as_deref();
            segment.is_some_and(|segment| segment.queue.kind() == PoolKind::Ephemeral)
        });
        candidates.next().map(|(number, _)| number)
    }

    /// Whether all of a segment's pages are in memory; asks the kernel, and touches nothing.
    pub fn is_resident(&self, number: u32) -> bool {
        let segment = self.filled(number);
        let used = segment.used();
        used & !segment.memory.resident() == 0
    }

    /// How many segments there are.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Bytes of the segments' memory that was written to.
    pub fn arena_bytes(&self) -> u64 {
        let segments = self.slots.iter().flatten();
        let pages = segments.map(|segment| u64::from(segment.used().count_ones()));
        pages.sum::<u64>() * PAGE_SIZE as u64
    }

    /// Bytes that all of this takes besides the segments' memory.
    pub fn bytes(&self) -> usize {
        let segments = self.slots.iter().flatten();
        let own = segments.map(|segment| {
            size_of::<Filled>()
                + match &segment.records {
                    Records::Whole(_) => size_of::<Whole>(),
                    Records::Short(records) => records.capacity() * size_of::<Record>(),
                }
        });
        own.sum::<usize>()
            + self.slots.capacity() * size_of::<Option<Box<Filled>>>()
            + self.free.capacity() * size_of::<u32>()
            // A node of a tree has room for 11, and is half full at least.
            + self.count() * 2 * (size_of::<u64>() + size_of::<u32>())
    }
}

impl Filled {
    /// The pages of memory that were written to.
    fn used(&self) -> u32 {
        match &self.records {
            Records::Whole(whole) => whole.written,
            Records::Short(_) => {
                let pages = self.memory.filled().div_ceil(PAYLOAD);
                ((1u64 << pages) - 1) as u32
            }
        }
    }
}

impl Default for Whole {
    fn default() -> Self {
        Whole {
            slots: [DEAD; _],
            words: [[0; _]; _],
            live: 0,
            written: 0,
            settled: 0,
        }
    }
}

#[cfg(test)]
impl Segments {
    /// Recomputes all figures from the records, and compares; each live record is its page's.
    pub fn audit(&self, entries: &super::entries::Entries) {
        let mut figures = [Figures::default(); QUEUES];
        let mut live = 0;
        for (number, segment) in (0..).zip(&self.slots) {
            let Some(segment) = segment else { continue };
            assert_eq!(self.order[segment.queue as usize][&segment.age], number);
            assert!(segment.live > 0 && !segment.leaving);
            let figures = &mut figures[segment.queue as usize];
            figures.charged += segment.charged;
            figures.live += segment.live_cost;
            figures.whole += u64::from(matches!(segment.records, Records::Whole(_)));
            figures.vacant += u64::from(segment.vacant().count_ones());
            let mut pages = 0;
            let mut cost = 0;
            for found in self.pages(number, 0) {
                pages += 1;
                figures.raw += u64::from(found.raw);
                assert_eq!(entries.place(found.slot), found.place);
                cost += match &segment.records {
                    Records::Whole(_) => WHOLE_COST,
                    Records::Short(records) => records[usize::from(found.place.record)].cost(),
                };
            }
            assert_eq!((pages, cost), (segment.live, segment.live_cost));
            live += pages as usize;
        }
        assert_eq!(figures, self.figures);
        assert_eq!(live, entries.len());
        let ordered: usize = self.order.iter().map(BTreeMap::len).sum();
        assert_eq!(ordered, self.count());
    }

    /// The kernel takes a page of memory of every ephemeral segment that is not open.
    pub fn lose(&mut self, page: usize) {
        let open = self.open;
        for (number, segment) in (0..).zip(&mut self.slots) {
            if let Some(segment) = segment
                && segment.queue.kind() == PoolKind::Ephemeral
                && !open.contains(&Some(number))
            {
                segment.memory.discard(1 << page);
            }
        }
    }
}

const _: () = assert!(SEGMENT_PAYLOAD / ALIGNMENT <= u16::MAX as usize && SEGMENT_PAGES == 32);
