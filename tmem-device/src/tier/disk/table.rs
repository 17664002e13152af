//! Which record lies where: twelve bytes for each record.
//!
//! A record has a slot, which others have after it, and a generation: how many had the slot before. A
//! slot that has had all generations is not used again, so slot and generation name one record
//! only. The table grows by [`CHUNK`] slots and never shrinks: it must remember the generations.

use crate::tier::{Handle, MAX_RECORD};

/// Slots that the table grows by.
const CHUNK: usize = 4096;

/// Slots are told apart by 32 bits in a handle, of which 0 is none.
const MAX_SLOTS: usize = u32::MAX as usize - 1;

/// `Entry::length` of a slot without a record.
const FREE: u16 = 0;

const _: () = assert!(MAX_RECORD <= u16::MAX as usize);

/// A record's name: never another's while the tier lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    pub slot: u32,
    pub generation: u32,
}

impl Id {
    /// The slot and the lower eight bits of the generation.
    pub fn handle(self) -> Handle {
        let bits = u64::from(self.generation & 0xff) << 32 | (u64::from(self.slot) + 1);
        Handle::from_bits(bits).expect("not zero, and 40 bits")
    }
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: u32,
    /// In units of [`UNIT`](super::record::UNIT) bytes from the segment's begin.
    pub unit: u16,
    /// Bytes of data, without the header.
    pub length: u16,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Of a free slot: the next free slot and 1, or 0.
    segment: u32,
    generation: u32,
    unit: u16,
    length: u16,
}

impl Entry {
    fn place(&self) -> Option<Place> {
        (self.length != FREE).then_some(Place {
            segment: self.segment,
            unit: self.unit,
            length: self.length,
        })
    }
}

/// All records.
#[derive(Debug, Default)]
pub(super) struct Table {
    chunks: Vec<Box<[Entry]>>,
    /// The first free slot and 1, or 0.
    free: u32,
    records: u64,
}

impl Table {
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.chunks.len() * (CHUNK * size_of::<Entry>() + size_of::<Box<[Entry]>>())
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        let slot = slot as usize;
        self.chunks.get_mut(slot / CHUNK)?.get_mut(slot % CHUNK)
    }

    /// The record that `handle` means, and where it lies.
    pub fn find(&self, handle: Handle) -> Option<(Id, Place)> {
        let slot = (handle.bits() as u32).checked_sub(1)?;
        let entry = self.entry(slot)?;
        let id = Id {
            slot,
            generation: entry.generation,
        };
        (id.handle() == handle).then_some((id, entry.place()?))
    }

    /// The record in `slot`, if it lies in `segment`.
    pub fn in_segment(&self, slot: u32, segment: u32) -> Option<(Id, Place)> {
        let entry = self.entry(slot)?;
        let id = Id {
            slot,
            generation: entry.generation,
        };
        let place = entry.place()?;
        (place.segment == segment).then_some((id, place))
    }

    /// Adds a record; `None` when there are as many as can be numbered.
    pub fn insert(&mut self, place: Place) -> Option<Id> {
        if self.free == 0 {
            self.grow()?;
        }
        let slot = self.free - 1;
        let entry = self.entry_mut(slot)?;
        let next = entry.segment;
        *entry = Entry {
            segment: place.segment,
            unit: place.unit,
            length: place.length,
            ..*entry
        };
        let generation = entry.generation;
        self.free = next;
        self.records += 1;
        Some(Id { slot, generation })
    }

    /// Adds a chunk of free slots, the first of which is used first.
    fn grow(&mut self) -> Option<()> {
        let first = self.chunks.len() * CHUNK;
        if first + CHUNK > MAX_SLOTS {
            return None;
        }
        let next_of = |at: usize| if at + 1 < CHUNK { first + at + 2 } else { 0 };
        self.chunks.push(
            (0..CHUNK)
                .map(|at| Entry {
                    segment: next_of(at) as u32,
                    generation: 0,
                    unit: 0,
                    length: FREE,
                })
                .collect(),
        );
        self.free = first as u32 + 1;
        Some(())
    }

    /// Takes out the record `id`; where it lay, unless it was taken out before.
    pub fn remove(&mut self, id: Id) -> Option<Place> {
        let free = self.free;
        let entry = self.entry_mut(id.slot)?;
        let place = entry.place()?;
        if entry.generation != id.generation {
            return None;
        }
        entry.length = FREE;
        entry.segment = free;
        if let Some(next) = entry.generation.checked_add(1) {
            entry.generation = next;
            self.free = id.slot + 1;
        }
        self.records -= 1;
        Some(place)
    }

    /// Moves the record `id`, if it still lies at `from`; else false.
    pub fn relocate(&mut self, id: Id, from: Place, to: Place) -> bool {
        match self.entry_mut(id.slot) {
            Some(entry) if entry.generation == id.generation && entry.place() == Some(from) => {
                entry.segment = to.segment;
                entry.unit = to.unit;
                true
            }
            _ => false,
        }
    }

    /// Every record.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = Place> {
        self.chunks.iter().flatten().filter_map(Entry::place)
    }
}

#[cfg(test)]
#[path = "table_test.rs"]
mod tests;
