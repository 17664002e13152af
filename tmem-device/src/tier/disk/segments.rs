//! Which bytes of the medium are whose: segments of 1 MiB that are filled from the begin to the end and
//! used again as a whole.
//!
//! Records are appended to the one *open* segment. A block that holds an accepted record is never written
//! again until its segment holds none, so no write, torn or failed, can damage what was accepted
//! before. The price is the rest of each batch's last block, which cleaning wins back.
//!
//! A segment is *free* when it holds no record and no transfer reads or writes it. One free segment
//! is kept for the cleaner, which thereby always has somewhere to move records to.

use std::collections::BTreeSet;

use super::medium::BLOCK;
use super::record::UNIT;
use super::table::Place;

/// Bytes of a segment.
pub(super) const SEGMENT: usize = 1 << 20;

/// Only a segment with at most this many live bytes is cleaned: to free one byte, at most seven are
/// moved, and what is lost to dead bytes is at most one part in eight.
pub(super) const WORTH_CLEANING: usize = SEGMENT / 8 * 7;

/// Free segments that only the cleaner may take.
const RESERVE: usize = 1;

/// Segments that are looked at to find the emptiest; more when none of them is worth cleaning.
const LOOK: usize = 1 << 16;

// Places within a segment are numbered by 16 bits.
const _: () = assert!(SEGMENT / UNIT <= 1 << 16);

/// What room is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Store,
    Clean,
}

/// Why there is no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// The medium must set room aside for this segment; see [`Segments::grown`].
    Grow(u32),
    /// There is nothing left but to clean.
    Clean,
}

/// Blocks to be written in one transfer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub segment: u32,
    /// Bytes from the segment's begin.
    pub start: usize,
    /// Bytes, a multiple of [`BLOCK`].
    pub length: usize,
    /// How many of the records are in it.
    pub records: usize,
}

/// Records that go to one segment.
#[derive(Debug, Default)]
struct Part {
    bytes: usize,
    records: usize,
}

/// Where a segment begins on the medium, in bytes; the first block is not ours to use.
pub(super) fn offset(segment: u32) -> u64 {
    BLOCK as u64 + u64::from(segment) * SEGMENT as u64
}

/// How many segments fit into `size` bytes of the medium.
pub(super) fn count(size: u64) -> u32 {
    let count = size.saturating_sub(BLOCK as u64) / SEGMENT as u64;
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[derive(Debug, Default)]
struct Segment {
    /// Bytes of the records that lie here.
    live: usize,
    /// Slots of the records that were written here since it was free, which may be dead by now.
    slots: Vec<u32>,
    reads: u32,
    writes: u32,
    /// A write failed here: used again only when no other segment is free.
    suspect: bool,
    /// A record here cannot be read: not cleaned again before the segment is free.
    unreadable: bool,
}

impl Segment {
    fn is_quiet(&self) -> bool {
        self.live == 0 && self.reads == 0 && self.writes == 0
    }

    fn is_worth_cleaning(&self) -> bool {
        self.live > 0 && self.live <= WORTH_CLEANING && self.writes == 0 && !self.unreadable
    }
}

#[derive(Debug, Clone, Copy)]
struct Open {
    segment: u32,
    /// Bytes that are taken, a multiple of [`BLOCK`].
    taken: usize,
}

/// All segments.
#[derive(Debug)]
pub(super) struct Segments {
    /// Those that the medium was asked for so far.
    segments: Vec<Segment>,
    count: u32,
    /// By suspicion, then number: so a file grows no longer than it must.
    free: BTreeSet<(bool, u32)>,
    /// Of `segments`, those for which the medium had no room when asked.
    refused: Vec<u32>,
    open: Option<Open>,
    live: u64,
    /// Where to look for a segment to clean.
    look: usize,
}

impl Segments {
    pub fn new(count: u32) -> Self {
        Segments {
            segments: Vec::new(),
            count,
            free: BTreeSet::new(),
            refused: Vec::new(),
            open: None,
            live: 0,
            look: 0,
        }
    }

    /// Bytes of all records.
    pub fn live_bytes(&self) -> u64 {
        self.live
    }

    /// Bytes of the segments that are not free.
    pub fn used_bytes(&self) -> u64 {
        let used = self.segments.len() - self.free.len() - self.refused.len();
        (used * SEGMENT) as u64
    }

    /// Bytes of the segments that hold records that could not be read.
    pub fn unreadable_bytes(&self) -> u64 {
        let unreadable = self.segments.iter().filter(|one| one.unreadable).count();
        (unreadable * SEGMENT) as u64
    }

    pub fn capacity_bytes(&self) -> u64 {
        u64::from(self.count) * SEGMENT as u64
    }

    /// Bytes of memory, roughly.
    pub fn bytes(&self) -> usize {
        let slots: usize = self.segments.iter().map(|one| one.slots.capacity()).sum();
        self.segments.capacity() * size_of::<Segment>()
            + slots * size_of::<u32>()
            + self.free.len() * 2 * size_of::<(bool, u32)>()
    }

    /// Finds room for records of these sizes on the medium, in their order, and notes that it is being
    /// written. `grow`: more segments may be asked of the medium.
    pub fn reserve(
        &mut self,
        spaces: &[usize],
        purpose: Purpose,
        grow: bool,
    ) -> Result<Vec<Extent>, Short> {
        let (head, fresh) = self.plan(spaces);
        let kept = match purpose {
            Purpose::Store => RESERVE,
            Purpose::Clean => 0,
        };
        if !fresh.is_empty() && self.free.len() < fresh.len() + kept {
            return Err(self.short(grow));
        }
        let mut extents = Vec::with_capacity(1 + fresh.len());
        if head.records > 0 {
            extents.extend(self.append(&head));
        }
        for part in fresh {
            let opened = self
                .free
                .pop_first()
                .map(|(_, segment)| Open { segment, taken: 0 });
            let full = std::mem::replace(&mut self.open, opened);
            if let Some(full) = full {
                self.settle(full.segment);
            }
            extents.extend(self.append(&part));
        }
        Ok(extents)
    }

    /// Takes the next bytes of the open segment.
    fn append(&mut self, part: &Part) -> Option<Extent> {
        let open = self.open.as_mut()?;
        let (start, length) = (open.taken, part.bytes.next_multiple_of(BLOCK));
        open.taken += length;
        self.segments[open.segment as usize].writes += 1;
        Some(Extent {
            segment: open.segment,
            start,
            length,
            records: part.records,
        })
    }

    /// What goes to the open segment, and to each fresh one.
    fn plan(&self, spaces: &[usize]) -> (Part, Vec<Part>) {
        let mut left = self.open.map_or(0, |open| SEGMENT - open.taken);
        let (mut head, mut fresh) = (Part::default(), Vec::new());
        for &space in spaces {
            if fresh.last().unwrap_or(&head).bytes + space > left {
                left = SEGMENT;
                fresh.push(Part::default());
            }
            let part = fresh.last_mut().unwrap_or(&mut head);
            part.bytes += space;
            part.records += 1;
        }
        (head, fresh)
    }

    fn short(&mut self, grow: bool) -> Short {
        if !grow {
            return Short::Clean;
        }
        if let Some(segment) = self.refused.pop() {
            return Short::Grow(segment);
        }
        if self.segments.len() < self.count as usize {
            self.segments.push(Segment::default());
            return Short::Grow(self.segments.len() as u32 - 1);
        }
        Short::Clean
    }

    /// What the medium said when it was asked for a segment.
    pub fn grown(&mut self, segment: u32, granted: bool) {
        if granted {
            self.free.insert((false, segment));
        } else {
            self.refused.push(segment);
        }
    }

    /// Notes that a record lies at `place`.
    pub fn add(&mut self, slot: u32, place: Place, space: usize) {
        let segment = &mut self.segments[place.segment as usize];
        segment.slots.push(slot);
        segment.live += space;
        self.live += space as u64;
    }

    /// Notes that a record no longer lies in `segment`.
    pub fn remove(&mut self, segment: u32, space: usize) {
        self.segments[segment as usize].live -= space;
        self.live -= space as u64;
        self.settle(segment);
    }

    /// Notes that records of `segment` are being read.
    pub fn pin(&mut self, segment: u32) {
        self.segments[segment as usize].reads += 1;
    }

    /// Notes that a read or write of `segment` is over.
    pub fn unpin(&mut self, segment: u32, write: bool) {
        let one = &mut self.segments[segment as usize];
        if write {
            one.writes -= 1;
        } else {
            one.reads -= 1;
        }
        self.settle(segment);
    }

    /// A write to `segment` failed: nothing more is appended to it.
    pub fn write_failed(&mut self, segment: u32) {
        self.segments[segment as usize].suspect = true;
        if self.open.is_some_and(|open| open.segment == segment) {
            self.open = None;
            self.settle(segment);
        }
    }

    /// A record of `segment` cannot be read.
    pub fn read_failed(&mut self, segment: u32) {
        self.segments[segment as usize].unreadable = true;
    }

    /// Frees a segment that nobody needs any more.
    fn settle(&mut self, number: u32) {
        let segment = &mut self.segments[number as usize];
        if !segment.is_quiet() {
            return;
        }
        segment.slots = Vec::new();
        segment.unreadable = false;
        match &mut self.open {
            Some(open) if open.segment == number => open.taken = 0,
            _ => {
                self.free.insert((segment.suspect, number));
            }
        }
    }

    /// The emptiest segment that is worth cleaning, of those looked at this time.
    pub fn victim(&mut self) -> Option<u32> {
        let count = self.segments.len();
        let open = self.open.map(|open| open.segment as usize);
        let mut best: Option<(usize, usize)> = None;
        for step in 0..count {
            if step >= LOOK && best.is_some() {
                break;
            }
            let at = (self.look + step) % count;
            let segment = &self.segments[at];
            if Some(at) != open
                && segment.is_worth_cleaning()
                && best.is_none_or(|(live, _)| segment.live < live)
            {
                best = Some((segment.live, at));
            }
        }
        if count > LOOK {
            self.look = (self.look + LOOK) % count;
        }
        best.map(|(_, at)| at as u32)
    }

    /// Slots of the records that were written to `segment`, which may be elsewhere by now.
    pub fn slots(&self, segment: u32) -> &[u32] {
        &self.segments[segment as usize].slots
    }

    /// Live bytes by segment, and whether any transfer is under way.
    #[cfg(test)]
    pub fn audit(&self) -> (Vec<usize>, bool) {
        let live: Vec<usize> = self.segments.iter().map(|one| one.live).collect();
        for &(_, free) in &self.free {
            assert!(self.segments[free as usize].is_quiet(), "free and in use");
        }
        let open = self.open.map(|open| open.segment);
        for (at, segment) in self.segments.iter().enumerate() {
            let at = at as u32;
            let free = self.free.contains(&(segment.suspect, at));
            let known = free || self.refused.contains(&at) || open == Some(at);
            assert!(known || !segment.is_quiet(), "segment {at} is lost");
        }
        let busy = self.segments.iter().any(|one| one.reads + one.writes > 0);
        (live, busy)
    }
}

#[cfg(test)]
#[path = "segments_test.rs"]
mod tests;
