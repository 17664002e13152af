//! The entries of a shard: a dense slab with two intrusive lists through it.
//!
//! The slab has no holes (the last entry moves into the place of a removed one) and grows and
//! shrinks by chunks, so its memory follows the number of pages in both directions, and
//! nothing is copied when it grows.

use super::codec::Stored;
use super::key::Key;

/// Entries in a chunk.
const CHUNK: usize = 128;
/// The end of a list.
const NIL: u32 = u32::MAX;

/// The lists, each from the page that was put longest ago to the newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum List {
    /// Ephemeral pages: the order of eviction.
    Ephemeral,
    /// Raw pages that nobody has tried to compress yet.
    Raw,
}

impl List {
    const ALL: [List; 2] = [List::Ephemeral, List::Raw];
}

#[derive(Clone, Copy)]
struct Links {
    older: u32,
    newer: u32,
}

/// One stored page.
pub(super) struct Entry {
    pub key: Key,
    pub stored: Stored,
    /// When the page was put; unique in the pool, rising.
    pub stamp: u64,
    /// Whether the page may be dropped at any time.
    pub ephemeral: bool,
    raw: bool,
    links: [Links; List::ALL.len()],
}

impl Entry {
    fn is_in(&self, list: List) -> bool {
        match list {
            List::Ephemeral => self.ephemeral,
            List::Raw => self.raw,
        }
    }
}

/// Both ends of a list.
#[derive(Clone, Copy)]
struct Ends {
    oldest: u32,
    newest: u32,
}

/// The slab and its lists.
pub(super) struct Entries {
    chunks: Vec<Vec<Entry>>,
    len: u32,
    raw: u32,
    ends: [Ends; List::ALL.len()],
}

impl Entries {
    pub fn new() -> Self {
        Entries {
            chunks: Vec::new(),
            len: 0,
            raw: 0,
            ends: [Ends {
                oldest: NIL,
                newest: NIL,
            }; _],
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Pages in [`List::Raw`].
    pub fn raw_pages(&self) -> u32 {
        self.raw
    }

    pub fn get(&self, slot: u32) -> &Entry {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn get_mut(&mut self, slot: u32) -> &mut Entry {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    /// The slot of the oldest page in a list.
    pub fn oldest(&self, list: List) -> Option<u32> {
        let slot = self.ends[list as usize].oldest;
        (slot != NIL).then_some(slot)
    }

    /// Adds an entry, as the newest one of the lists that it belongs to.
    pub fn insert(&mut self, key: Key, stored: Stored, stamp: u64, ephemeral: bool) -> u32 {
        let slot = self.len;
        if slot as usize / CHUNK == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let raw = stored.is_raw();
        let entry = Entry {
            key,
            stored,
            stamp,
            ephemeral,
            raw,
            links: [Links {
                older: NIL,
                newer: NIL,
            }; _],
        };
        self.chunks[slot as usize / CHUNK].push(entry);
        self.len += 1;
        self.link_all(slot);
        slot
    }

    /// Replaces an entry's page and makes it the newest; returns the old page.
    pub fn replace(&mut self, slot: u32, stored: Stored, stamp: u64) -> Stored {
        self.unlink_all(slot);
        let entry = self.get_mut(slot);
        entry.stamp = stamp;
        entry.raw = stored.is_raw();
        let old = std::mem::replace(&mut entry.stored, stored);
        self.link_all(slot);
        old
    }

    /// Takes an entry out of [`List::Raw`]: it is being compressed, or does not compress.
    pub fn settle(&mut self, slot: u32) {
        if self.get(slot).raw {
            self.unlink(List::Raw, slot);
            self.get_mut(slot).raw = false;
        }
    }

    /// Keeps a page in another form, as old as it is; returns the former one.
    pub fn reform(&mut self, slot: u32, stored: Stored) -> Stored {
        std::mem::replace(&mut self.get_mut(slot).stored, stored)
    }

    /// Takes an entry out. When another one had to move into its slot, its key is returned too:
    /// whoever knows slots must learn of it.
    pub fn remove(&mut self, slot: u32) -> (Entry, Option<Key>) {
        self.unlink_all(slot);
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
        for list in List::ALL {
            if moved.is_in(list) {
                let Links { older, newer } = moved.links[list as usize];
                *self.newer_of(list, older) = slot;
                *self.older_of(list, newer) = slot;
            }
        }
        let removed = std::mem::replace(self.get_mut(slot), moved);
        (removed, Some(key))
    }

    fn link_all(&mut self, slot: u32) {
        for list in List::ALL {
            if self.get(slot).is_in(list) {
                self.link(list, slot);
            }
        }
    }

    fn unlink_all(&mut self, slot: u32) {
        for list in List::ALL {
            if self.get(slot).is_in(list) {
                self.unlink(list, slot);
            }
        }
    }

    /// What follows `slot`; what comes first, when that is [`NIL`].
    fn newer_of(&mut self, list: List, slot: u32) -> &mut u32 {
        match slot {
            NIL => &mut self.ends[list as usize].oldest,
            slot => &mut self.get_mut(slot).links[list as usize].newer,
        }
    }

    /// What precedes `slot`; what comes last, when that is [`NIL`].
    fn older_of(&mut self, list: List, slot: u32) -> &mut u32 {
        match slot {
            NIL => &mut self.ends[list as usize].newest,
            slot => &mut self.get_mut(slot).links[list as usize].older,
        }
    }

    fn link(&mut self, list: List, slot: u32) {
        let older = self.ends[list as usize].newest;
        self.get_mut(slot).links[list as usize] = Links { older, newer: NIL };
        *self.newer_of(list, older) = slot;
        *self.older_of(list, NIL) = slot;
        self.raw += u32::from(list == List::Raw);
    }

    fn unlink(&mut self, list: List, slot: u32) {
        let Links { older, newer } = self.get(slot).links[list as usize];
        *self.newer_of(list, older) = newer;
        *self.older_of(list, newer) = older;
        self.raw -= u32::from(list == List::Raw);
    }
}

#[cfg(test)]
#[path = "lru_test.rs"]
mod tests;
