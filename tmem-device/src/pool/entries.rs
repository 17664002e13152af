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
#[derive(Default)]
pub(super) struct Entries {
    slab: Slab<Entry>,
    chains: Chains,
}

/// A slot's page is elsewhere now.
pub(super) struct Moved {
    pub at: At,
    pub slot: u32,
}

impl Entries {
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// The slot of a page.
    pub fn find(&self, key: PageKey) -> Option<u32> {
        let mut slot = self.chains.first(key.hash());
        while slot != NIL {
            let entry = self.slab.get(slot);
            if entry.key == key {
                return Some(slot);
            }
            slot = entry.next;
        }
        None
    }

    pub fn key(&self, slot: u32) -> PageKey {
        self.slab.get(slot).key
    }

    pub fn at(&self, slot: u32) -> At {
        self.slab.get(slot).at.into()
    }

    pub fn set_at(&mut self, slot: u32, at: At) {
        self.slab.get_mut(slot).at = at.into();
    }

    /// Adds a page that is not there. Its slot is [`Entries::next_slot`].
    pub fn insert(&mut self, key: PageKey, at: At) {
        let slot = self.next_slot();
        self.slab.push(Entry {
            key,
            at: at.into(),
            next: NIL,
        });
        self.chains.insert(&mut self.slab, slot);
    }

    /// The slot of the page that is inserted next.
    pub fn next_slot(&self) -> u32 {
        self.slab.len() as u32
    }

    /// Removes a page; the last one may move into its slot.
    pub fn remove(&mut self, slot: u32) -> Option<Moved> {
        self.chains.remove(&mut self.slab, slot);
        let last = self.next_slot() - 1;
        if slot == last {
            self.slab.pop();
            return None;
        }
        self.chains.redirect(&mut self.slab, last, slot);
        let entry = self.slab.pop();
        *self.slab.get_mut(slot) = entry;
        Some(Moved {
            at: entry.at.into(),
            slot,
        })
    }

    /// Bytes that slab and table take.
    pub fn bytes(&self) -> usize {
        self.slab.bytes() + self.chains.bytes()
    }
}

impl PageKey {
    fn hash(self) -> u64 {
        super::key::mix(u64::from(self.object) << 32 | u64::from(self.index))
    }
}

impl Links for Slab<Entry> {
    fn hash(&self, slot: u32) -> u64 {
        self.get(slot).key.hash()
    }

    fn next(&self, slot: u32) -> u32 {
        self.get(slot).next
    }

    fn set_next(&mut self, slot: u32, next: u32) {
        self.get_mut(slot).next = next;
    }
}

#[cfg(test)]
#[path = "entries_test.rs"]
mod tests;
