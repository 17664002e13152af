//! The entries of a shard: a dense slab with a list of the ephemeral pages through it, in order of age, and a table
//! of the raw ones, in none.
//!
//! The slab has no holes (the last entry moves into the place of a removed one) and grows and
//! shrinks by chunks, so its memory follows the number of pages in both directions, and
//! nothing is copied when it grows.

use std::sync::Arc;

use super::codec::Stored;
use super::key::Key;
use super::objects::Object;

/// Entries in a chunk.
const CHUNK: usize = 128;
/// The end of a list.
const NIL: u32 = u32::MAX;

/// Names one page of a shard: its object's number, and its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PageKey {
    pub object: u64,
    pub index: u64,
}

/// One stored page.
pub(super) struct Entry {
    pub object: Arc<Object>,
    pub index: u64,
    pub stored: Stored,
    /// When the page was put; unique in the pool, rising.
    pub stamp: u64,
    /// Whether the page may be dropped at any time.
    pub ephemeral: bool,
    /// Where the page is in [`Entries::raw`], or [`NIL`].
    raw_at: u32,
    /// Neighbours in order of age, of an ephemeral page.
    older: u32,
    newer: u32,
}

impl Entry {
    pub fn page_key(&self) -> PageKey {
        PageKey {
            object: self.object.number,
            index: self.index,
        }
    }

    pub fn key(&self) -> Key {
        Key {
            object: self.object.key,
            index: self.index,
        }
    }
}

/// The slab, the list and the table.
pub(super) struct Entries {
    chunks: Vec<Vec<Entry>>,
    len: u32,
    /// Slots of raw pages that nobody has tried to compress yet.
    raw: Vec<u32>,
    oldest: u32,
    newest: u32,
}

impl Entries {
    pub fn new() -> Self {
        Entries {
            chunks: Vec::new(),
            len: 0,
            raw: Vec::new(),
            oldest: NIL,
            newest: NIL,
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// The slots of raw pages that nobody has tried to compress yet.
    pub fn raw(&self) -> &[u32] {
        &self.raw
    }

    pub fn get(&self, slot: u32) -> &Entry {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn get_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// The slot of the ephemeral page that was put longest ago: the next to be evicted.
    pub fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// Adds an entry, as the newest one.
    pub fn insert(
        &mut self,
        (object, index): (Arc<Object>, u64),
        stored: Stored,
        stamp: u64,
        ephemeral: bool,
    ) -> u32 {
        let slot = self.len;
        if slot as usize / CHUNK == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let entry = Entry {
            object,
            index,
            stored,
            stamp,
            ephemeral,
            raw_at: NIL,
            older: NIL,
            newer: NIL,
        };
        self.chunks[slot as usize / CHUNK].push(entry);
        self.len += 1;
        self.link(slot);
        self.note_raw(slot);
        slot
    }

    /// Replaces an entry's page and makes it the newest; returns the old page.
    pub fn replace(&mut self, slot: u32, stored: Stored, stamp: u64) -> Stored {
        self.unlink(slot);
        self.settle(slot);
        let entry = self.get_mut(slot);
        entry.stamp = stamp;
        let old = std::mem::replace(&mut entry.stored, stored);
        self.link(slot);
        self.note_raw(slot);
        old
    }

    /// Takes an entry out of the table of raw ones, if it is there: it is being compressed, or does not compress.
    pub fn settle(&mut self, slot: u32) {
        let at = std::mem::replace(&mut self.get_mut(slot).raw_at, NIL);
        if at == NIL {
            return;
        }
        self.raw.swap_remove(at as usize);
        if let Some(&moved) = self.raw.get(at as usize) {
            self.get_mut(moved).raw_at = at;
        }
        if self.raw.len() < self.raw.capacity() / 4 {
            self.raw.shrink_to(self.raw.capacity() / 2);
        }
    }

    /// Keeps a page in another form, as old as it is; returns the former one.
    pub fn reform(&mut self, slot: u32, stored: Stored) -> Stored {
        std::mem::replace(&mut self.get_mut(slot).stored, stored)
    }

    /// Takes an entry out. When another one had to move into its slot, its key is returned too:
    /// whoever knows slots must learn of it.
    pub fn remove(&mut self, slot: u32) -> (Entry, Option<PageKey>) {
        self.unlink(slot);
        self.settle(slot);
        let last = self.len - 1;
        let chunk = &mut self.chunks[last as usize / CHUNK];
        let moved = chunk.pop().expect("the last chunk is never empty");
        self.len = last;
        // One spare chunk is kept, so that one page coming and going costs no allocation.
        if self.chunks.len() * CHUNK >= last as usize + 2 * CHUNK {
            self.chunks.pop();
        }
        if slot == last {
            return (moved, None);
        }
        let key = moved.page_key();
        if moved.ephemeral {
            *self.newer_of(moved.older) = slot;
            *self.older_of(moved.newer) = slot;
        }
        if moved.raw_at != NIL {
            self.raw[moved.raw_at as usize] = slot;
        }
        let removed = std::mem::replace(self.get_mut(slot), moved);
        (removed, Some(key))
    }

    fn note_raw(&mut self, slot: u32) {
        if self.get(slot).stored.is_raw() {
            self.get_mut(slot).raw_at = self.raw.len() as u32;
            self.raw.push(slot);
        }
    }

    /// What follows `slot`; what comes first, when that is [`NIL`].
    fn newer_of(&mut self, slot: u32) -> &mut u32 {
        match slot {
            NIL => &mut self.oldest,
            slot => &mut self.get_mut(slot).newer,
        }
    }

    /// What precedes `slot`; what comes last, when that is [`NIL`].
    fn older_of(&mut self, slot: u32) -> &mut u32 {
        match slot {
            NIL => &mut self.newest,
            slot => &mut self.get_mut(slot).older,
        }
    }

    fn link(&mut self, slot: u32) {
        if !self.get(slot).ephemeral {
            return;
        }
        let older = self.newest;
        let entry = self.get_mut(slot);
        (entry.older, entry.newer) = (older, NIL);
        *self.newer_of(older) = slot;
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let &Entry {
            ephemeral,
            older,
            newer,
            ..
        } = self.get(slot);
        if ephemeral {
            *self.newer_of(older) = newer;
            *self.older_of(newer) = older;
        }
    }
}

#[cfg(test)]
#[path = "lru_test.rs"]
mod tests;
