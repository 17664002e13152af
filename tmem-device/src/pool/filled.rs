//! One segment: which pages it has, and how each is kept.
//!
//! A segment has either whole pages, each in a page of memory of its own, or pages that are kept as something shorter, one
//! after the other. Where a whole page has gone, another can take its place. Where a shorter one has, there is a gap.

use super::PoolKind;
use super::arena::{FirstWord, Gone, PAYLOAD, SEGMENT_PAGES, SEGMENT_PAYLOAD, Segment};
use super::below::{PackedSpot, Spot};
use super::books::{CLEAN_METADATA, PAGE_METADATA, data_cost};
use super::codec::Page;
use crate::wire::PAGE_SIZE;

/// No slot: the record's page has gone.
const DEAD: u32 = u32::MAX;

/// Records that a segment may have: whoever empties it looks at each.
const MAX_RECORDS: usize = 2048;

/// Pages of memory behind the last record that are worth a system call.
const REST: u32 = 4;

/// Where a record may begin.
const ALIGNMENT: usize = 4;

/// Which pages are in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// Ephemeral pages that were not seen before.
    Small,
    /// Ephemeral pages that have been here before.
    Main,
    /// Persistent pages that memory alone has.
    Persistent,
    /// Persistent pages that a tier has too.
    Clean,
}

pub(super) const QUEUES: usize = 4;

impl Queue {
    pub const ALL: [Queue; QUEUES] = [Queue::Small, Queue::Main, Queue::Persistent, Queue::Clean];

    /// What the memory counts as: ephemeral is what may go at any time, as that of pages that a tier has too.
    pub fn account(self) -> PoolKind {
        match self {
            Queue::Small | Queue::Main | Queue::Clean => PoolKind::Ephemeral,
            Queue::Persistent => PoolKind::Persistent,
        }
    }

    /// What a page is charged for metadata with its data. A page that a tier has too is charged the rest by itself, whether
    /// it is in memory or not.
    fn metadata(self) -> u64 {
        match self {
            Queue::Small | Queue::Main | Queue::Persistent => PAGE_METADATA,
            Queue::Clean => CLEAN_METADATA,
        }
    }

    /// What a whole page is charged.
    fn whole_cost(self) -> u64 {
        PAGE_SIZE as u64 + self.metadata()
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

impl<'a> Data<'a> {
    /// What a tier has of a page: all of it where that does not compress.
    pub fn settled(kept: &'a [u8]) -> Self {
        match kept.first_chunk() {
            Some(page) => Data::Whole {
                page,
                settled: true,
            },
            None => Data::Short(kept),
        }
    }

    /// Bytes.
    pub fn length(&self) -> usize {
        match self {
            Data::Whole { .. } => PAGE_SIZE,
            Data::Short(data) => data.len(),
        }
    }
}

/// A page in a segment.
pub(super) struct Found {
    pub record: u16,
    pub slot: u32,
    /// Nobody has tried to compress it.
    pub raw: bool,
}

/// What can be summed up over segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// What is charged for all records, also of pages that have gone.
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

/// A page that is kept as something shorter.
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

    fn cost(self, queue: Queue) -> u64 {
        data_cost(self.length.into()) + queue.metadata()
    }
}

/// Whole pages, by the page of memory that each is in. Sets of these have a bit for each.
struct Whole {
    slots: [u32; SEGMENT_PAGES],
    words: [FirstWord; SEGMENT_PAGES],
    live: u32,
    /// Those that were written to, and whose memory was not given back.
    written: u32,
    /// Of the live ones, those that do not compress.
    settled: u32,
}

enum Records {
    Whole(Box<Whole>),
    Short(Vec<Record>),
}

/// A segment with pages.
pub(super) struct Filled {
    memory: Segment,
    records: Records,
    /// Where a tier has each page; empty where no tier does.
    spots: Vec<PackedSpot>,
    pub queue: Queue,
    /// When its first page was put, or since when it was filled up again; unique in the queue.
    pub age: u64,
    /// Unique in the shard, rising.
    pub serial: u64,
    live: u32,
    charged: u64,
    live_cost: u64,
    /// It is being emptied: nothing is added.
    pub leaving: bool,
}

impl Filled {
    pub fn new(memory: Segment, queue: Queue, whole: bool, age: u64, serial: u64) -> Self {
        Filled {
            memory,
            records: if whole {
                Records::Whole(Box::default())
            } else {
                Records::Short(Vec::new())
            },
            spots: Vec::new(),
            queue,
            age,
            serial,
            live: 0,
            charged: 0,
            live_cost: 0,
            leaving: false,
        }
    }

    pub fn figures(&self) -> Figures {
        Figures {
            charged: self.charged,
            live: self.live_cost,
            raw: self.raw().count_ones().into(),
            vacant: self.vacant().count_ones().into(),
            whole: self.is_whole().into(),
        }
    }

    pub fn is_whole(&self) -> bool {
        matches!(self.records, Records::Whole(_))
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    fn raw(&self) -> u32 {
        match &self.records {
            Records::Whole(whole) => whole.live & !whole.settled,
            Records::Short(_) => 0,
        }
    }

    pub fn has_raw(&self) -> bool {
        self.raw() != 0
    }

    fn vacant(&self) -> u32 {
        match &self.records {
            Records::Whole(whole) if !self.leaving => whole.written & !whole.live,
            _ => 0,
        }
    }

    /// Of 1024 parts of what is charged, how many are for pages that are there.
    pub fn live_parts(&self) -> u64 {
        self.live_cost * 1024 / self.charged.max(1)
    }

    /// Whether there is room for a page.
    pub fn fits(&self, data: Data<'_>) -> bool {
        match (&self.records, data) {
            (Records::Whole(whole), Data::Whole { .. }) => whole.live != u32::MAX,
            (Records::Short(records), Data::Short(data)) => {
                self.memory.room() >= data.len().next_multiple_of(ALIGNMENT)
                    && records.len() < MAX_RECORDS
            }
            _ => false,
        }
    }

    /// Adds a page. Returns its record's number, and what is charged for it anew.
    ///
    /// # Panics
    /// It does not fit.
    pub fn add(&mut self, slot: u32, data: Data<'_>) -> (u16, u64) {
        let (record, live, charged) = match (&mut self.records, data) {
            (Records::Whole(whole), Data::Whole { page, settled }) => {
                let at = (!whole.live).trailing_zeros() as usize;
                let new = whole.add(at, slot, settled);
                whole.words[at] = self.memory.write_page(at, page);
                let cost = self.queue.whole_cost();
                (at as u16, cost, if new { cost } else { 0 })
            }
            (Records::Short(records), Data::Short(data)) => {
                let begin = self.memory.append(data);
                let filled = self.memory.filled();
                let padding = filled.next_multiple_of(ALIGNMENT) - filled;
                self.memory.append(&[0; ALIGNMENT][..padding]);
                let record = Record {
                    slot,
                    begin: (begin / ALIGNMENT) as u16,
                    length: data.len() as u16,
                };
                records.push(record);
                let cost = record.cost(self.queue);
                ((records.len() - 1) as u16, cost, cost)
            }
            _ => panic!("whole and shorter pages have segments of their own"),
        };
        self.live += 1;
        self.live_cost += live;
        self.charged += charged;
        (record, charged)
    }

    /// A page has gone.
    pub fn remove(&mut self, record: u16) {
        let at = usize::from(record);
        self.live -= 1;
        self.live_cost -= match &mut self.records {
            Records::Whole(whole) => {
                whole.slots[at] = DEAD;
                whole.live &= !(1 << at);
                whole.settled &= !(1 << at);
                self.queue.whole_cost()
            }
            Records::Short(records) => {
                records[at].slot = DEAD;
                records[at].cost(self.queue)
            }
        };
    }

    /// A page has moved to another slot.
    pub fn set_slot(&mut self, record: u16, slot: u32) {
        let at = usize::from(record);
        match &mut self.records {
            Records::Whole(whole) => whole.slots[at] = slot,
            Records::Short(records) => records[at].slot = slot,
        }
    }

    /// Where a tier has a page too.
    pub fn spot(&self, record: u16) -> Option<Spot> {
        let packed = self.spots.get(usize::from(record));
        packed.and_then(|packed| Spot::unpack(*packed))
    }

    /// A tier has a page too.
    pub fn set_spot(&mut self, record: u16, spot: Spot) {
        let at = usize::from(record);
        if at >= self.spots.len() {
            self.spots.resize(at + 1, PackedSpot::default());
        }
        self.spots[at] = spot.pack();
    }

    /// A whole page does not compress.
    pub fn settle(&mut self, record: u16) {
        if let Records::Whole(whole) = &mut self.records {
            whole.settled |= 1 << record;
        }
    }

    /// Bytes of what is kept of a page.
    pub fn length(&self, record: u16) -> usize {
        match &self.records {
            Records::Whole(_) => PAGE_SIZE,
            Records::Short(records) => records[usize::from(record)].length.into(),
        }
    }

    /// Copies a page that is kept whole. An error if the kernel has taken it, or it is not kept whole.
    pub fn read_whole(&self, record: u16, page: &mut Page) -> Result<(), Gone> {
        let at = usize::from(record);
        match &self.records {
            Records::Whole(whole) => self.memory.read_page(at, whole.words[at], page),
            Records::Short(_) => Err(Gone),
        }
    }

    /// Copies what is kept of a page to the beginning of `data`, and returns how many bytes these are. An error if the
    /// kernel has taken a part of it, or it is kept whole.
    pub fn read_short(&self, record: u16, data: &mut [u8]) -> Result<usize, Gone> {
        match &self.records {
            Records::Whole(_) => Err(Gone),
            Records::Short(records) => {
                let (begin, end) = records[usize::from(record)].range();
                self.memory.read(begin, &mut data[..end - begin])?;
                Ok(end - begin)
            }
        }
    }

    /// Whether the kernel has taken a part of a page.
    pub fn is_taken(&self, record: u16) -> bool {
        match &self.records {
            Records::Whole(_) => !self.memory.has_page(record.into()),
            Records::Short(records) => {
                let (begin, end) = records[usize::from(record)].range();
                !self.memory.is_there(begin, end)
            }
        }
    }

    /// The pages from a record on.
    pub fn pages(&self, from: u16) -> impl Iterator<Item = Found> {
        let (whole, short) = match &self.records {
            Records::Whole(whole) => (&whole.slots[..], &[][..]),
            Records::Short(records) => (&[][..], &records[..]),
        };
        let raw = self.raw();
        let slots = whole.iter().copied();
        slots
            .chain(short.iter().map(|record| record.slot))
            .enumerate()
            .skip(from.into())
            .filter(|(_, slot)| *slot != DEAD)
            .map(move |(record, slot)| Found {
                record: record as u16,
                slot,
                raw: record < SEGMENT_PAGES && raw >> record & 1 != 0,
            })
    }

    /// Ends writing, until whole pages are put in the place of others.
    pub fn seal(&mut self) {
        // Where many pages are short as can be, most of the memory is not needed; it may be there from the segment before.
        let rest = !self.used();
        if !self.is_whole() && rest.count_ones() >= REST {
            self.memory.discard(rest);
        }
        self.memory
            .seal(self.queue.account() == PoolKind::Ephemeral);
        if let Records::Short(records) = &mut self.records {
            records.shrink_to_fit();
        }
        self.spots.shrink_to_fit();
    }

    /// Returns the memory where whole pages have gone to the kernel. Returns what was charged for it.
    pub fn give_back(&mut self) -> u64 {
        let vacant = self.vacant();
        let Records::Whole(whole) = &mut self.records else {
            return 0;
        };
        whole.written &= !vacant;
        self.memory.discard(vacant);
        let cost = u64::from(vacant.count_ones()) * self.queue.whole_cost();
        self.charged -= cost;
        cost
    }

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

    /// Whether all that was written to is in memory; asks the kernel, and touches nothing.
    pub fn is_resident(&self) -> bool {
        self.used() & !self.memory.resident() == 0
    }

    /// Bytes of memory that were written to.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.used().count_ones()) * PAGE_SIZE as u64
    }

    /// Bytes that all else takes.
    pub fn metadata_bytes(&self) -> usize {
        size_of::<Self>()
            + self.spots.capacity() * size_of::<PackedSpot>()
            + match &self.records {
                Records::Whole(_) => size_of::<Whole>(),
                Records::Short(records) => records.capacity() * size_of::<Record>(),
            }
    }

    /// The segment's memory, which is not needed any more.
    pub fn into_memory(self) -> Segment {
        self.memory
    }

    /// Recomputes the figures from the records, and compares.
    #[cfg(test)]
    pub fn audit(&self) {
        let costs = self.pages(0).map(|found| match &self.records {
            Records::Whole(_) => self.queue.whole_cost(),
            Records::Short(records) => records[usize::from(found.record)].cost(self.queue),
        });
        let (live, live_cost) = costs.fold((0, 0), |(pages, sum), cost| (pages + 1, sum + cost));
        assert_eq!((live, live_cost), (self.live, self.live_cost));
        let charged = match &self.records {
            Records::Whole(whole) => {
                u64::from(whole.written.count_ones()) * self.queue.whole_cost()
            }
            Records::Short(records) => {
                let costs = records.iter().map(|record| record.cost(self.queue));
                costs.sum()
            }
        };
        assert_eq!(charged, self.charged);
    }

    /// The kernel takes a page of memory.
    #[cfg(test)]
    pub fn lose(&mut self, page: usize) {
        self.memory.discard(1 << page);
    }
}

impl Whole {
    /// Notes a page; whether its memory was not in use.
    fn add(&mut self, at: usize, slot: u32, settled: bool) -> bool {
        let bit = 1 << at;
        let new = self.written & bit == 0;
        self.slots[at] = slot;
        self.live |= bit;
        self.written |= bit;
        self.settled = self.settled & !bit | u32::from(settled) << at;
        new
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

const _: () = assert!(SEGMENT_PAYLOAD / ALIGNMENT <= u16::MAX as usize && SEGMENT_PAGES == 32);
