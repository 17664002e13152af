//! The entries of a shard: a dense slab with an intrusive list through it.
//!
//! The slab has no holes (the last entry moves into the place of a removed one) and grows and
//! shrinks by chunks, so its memory follows the number of pages in both directions, and
//! nothing is copied when it grows.

use super::codec::Stored;
use super::key::Key;

/// Entries in a chunk.
const CHUNK: usize = 128;
/// The end of the list.
const NIL: u32 = u32::MAX;

/// One stored page.
pub(super) struct Entry {
    pub key: Key,
    pub stored: Stored,
    /// When the page was put; unique in the pool, rising.
    pub stamp: u64,
    /// Only ephemeral pages are in the list.
    pub ephemeral: bool,
    older: u32,
    newer: u32,
}

/// The slab and its list, from the oldest to the newest ephemeral page.
pub(super) struct Entries {
    chunks: Vec<Vec<Entry>>,
    len: u32,
    oldest: u32,
    newest: u32,
}

impl Entries {
    pub fn new() -> Self {
        Entries {
            chunks: Vec::new(),
            len: 0,
            oldest: NIL,
            newest: NIL,
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn get(&self, slot: u32) -> &Entry {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn get_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// The slot of the oldest ephemeral page.
    pub fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// Adds an entry, as the newest one when it is ephemeral.
    pub fn insert(&mut self, key: Key, stored: Stored, stamp: u64, ephemeral: bool) -> u32 {
        let slot = self.len;
        if slot as usize / CHUNK == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let entry = Entry {
            key,
            stored,
            stamp,
            ephemeral,
            older: NIL,
            newer: NIL,
        };
        self.chunks[slot as usize / CHUNK].push(entry);
        self.len += 1;
        if ephemeral {
            self.link(slot);
        }
        slot
    }

    /// Replaces an entry's page and makes it the newest; returns the old page.
    pub fn replace(&mut self, slot: u32, stored: Stored, stamp: u64) -> Stored {
        let ephemeral = self.get(slot).ephemeral;
        if ephemeral {
            self.unlink(slot);
            self.link(slot);
        }
        let entry = self.get_mut(slot);
        entry.stamp = stamp;
        std::mem::replace(&mut entry.stored, stored)
    }

    /// Takes an entry out. When another one had to move into its slot, its key is returned too:
    /// whoever knows slots must learn of it.
    pub fn remove(&mut self, slot: u32) -> (Entry, Option<Key>) {
        if self.get(slot).ephemeral {
            self.unlink(slot);
        }
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
        let key = moved.key;
        let (older, newer) = (moved.older, moved.newer);
        let ephemeral = moved.ephemeral;
        let removed = std::mem::replace(self.get_mut(slot), moved);
        if ephemeral {
            match older {
                NIL => self.oldest = slot,
                older => self.get_mut(older).newer = slot,
            }
            match newer {
                NIL => self.newest = slot,
                newer => self.get_mut(newer).older = slot,
            }
        }
        (removed, Some(key))
    }

    fn link(&mut self, slot: u32) {
        let newest = self.newest;
        let entry = self.get_mut(slot);
        entry.older = newest;
        entry.newer = NIL;
        match newest {
            NIL => self.oldest = slot,
            newest => self.get_mut(newest).newer = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let (older, newer) = (self.get(slot).older, self.get(slot).newer);
        match older {
            NIL => self.oldest = newer,
            older => self.get_mut(older).newer = newer,
        }
        match newer {
            NIL => self.newest = older,
            newer => self.get_mut(newer).older = older,
        }
    }
}

#[cfg(test)]
#[path = "lru_test.rs"]
mod tests;
