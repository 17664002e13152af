//! The entries of a shard: where each page is, in a slab that is searched by hash.
//!
//! The slab has no holes: the last entry moves into the place of a removed one.

use super::below::{At, PackedAt};
use super::chains::{Chains, Links, NIL};
use super::slab::Slab;

/// Names one page of a shard: its object's number, and the low half of its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageKey {
    pub object: u32,
    pub index: u32,
}

/// Where a page's data is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment's number in the shard.
    pub segment: u32,
    /// The record's number in the segment.
    pub record: u16,
}

#[derive(Clone, Copy)]
struct Entry {
    key: PageKey,
    at: PackedAt,
    next: u32,
}

/// The slab, and the table over it.
pub(super) struct Entries {
    slab: Hashed,
    chains: Chains,
}

struct Hashed {
    entries: Slab<Entry>,
    seed: u64,
}

/// A slot's page is elsewhere now.
pub(super) struct Moved {
    pub at: At,
    pub slot: u32,
}

impl Entries {
    /// None, of which nobody who does not know the seed can choose some that are found slowly.
    pub fn new(seed: u64) -> Self {
        Entries {
            slab: Hashed {
                entries: Slab::default(),
                seed,
            },
            chains: Chains::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.slab.entries.len()
    }

    /// The slot of a page.
    pub fn find(&self, key: PageKey) -> Option<u32> {
        let mut slot = self.chains.first(key.hash(self.slab.seed));
        while slot != NIL {
            let entry = self.slab.entries.get(slot);
            if entry.key == key {
                return Some(slot);
            }
            slot = entry.next;
        }
        None
    }

    pub fn key(&self, slot: u32) -> PageKey {
        self.slab.entries.get(slot).key
    }

    pub fn at(&self, slot: u32) -> At {
        self.slab.entries.get(slot).at.into()
    }

    pub fn set_at(&mut self, slot: u32, at: At) {
        self.slab.entries.get_mut(slot).at = at.into();
    }

    /// Adds a page that is not there. Its slot is [`Entries::next_slot`].
    pub fn insert(&mut self, key: PageKey, at: At) {
        let slot = self.next_slot();
        self.slab.entries.push(Entry {
            key,
            at: at.into(),
            next: NIL,
        });
        self.chains.insert(&mut self.slab, slot);
    }

    /// The slot of the page that is inserted next.
    pub fn next_slot(&self) -> u32 {
        self.slab.entries.len() as u32
    }

    /// Removes a page; the last one may move into its slot.
    pub fn remove(&mut self, slot: u32) -> Option<Moved> {
        self.chains.remove(&mut self.slab, slot);
        let last = self.next_slot() - 1;
        if slot == last {
            self.slab.entries.pop();
            return None;
        }
        self.chains.redirect(&mut self.slab, last, slot);
        let entry = self.slab.entries.pop();
        *self.slab.entries.get_mut(slot) = entry;
        Some(Moved {
            at: entry.at.into(),
            slot,
        })
    }

    /// Bytes that slab and table take.
    pub fn bytes(&self) -> usize {
        self.slab.entries.bytes() + self.chains.bytes()
    }
}

impl PageKey {
    fn hash(self, seed: u64) -> u64 {
        super::key::mix(seed ^ (u64::from(self.object) << 32 | u64::from(self.index)))
    }
}

impl Links for Hashed {
    fn hash(&self, slot: u32) -> u64 {
        self.entries.get(slot).key.hash(self.seed)
    }

    fn next(&self, slot: u32) -> u32 {
        self.entries.get(slot).next
    }

    fn set_next(&mut self, slot: u32, next: u32) {
        self.entries.get_mut(slot).next = next;
    }
}

#[cfg(test)]
#[path = "entries_test.rs"]
mod tests;
