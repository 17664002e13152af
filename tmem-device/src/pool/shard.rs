//! One shard: the pages of some of the objects, behind one lock that is held briefly.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::codec::Stored;
use super::key::Key;
use super::lru::{Entries, Entry};

/// The stamp of a shard without ephemeral pages.
pub(super) const NO_STAMP: u64 = u64::MAX;

/// Pages in key order, and in order of age.
pub(super) struct Pages {
    slots: BTreeMap<Key, u32>,
    entries: Entries,
}

pub(super) struct Shard {
    /// The stamp of the oldest ephemeral page as of the last change: where to evict next is
    /// decided by it, without taking the locks of all shards.
    oldest: AtomicU64,
    pages: Mutex<Pages>,
}

impl Shard {
    pub fn new() -> Self {
        Shard {
            oldest: AtomicU64::new(NO_STAMP),
            pages: Mutex::new(Pages {
                slots: BTreeMap::new(),
                entries: Entries::new(),
            }),
        }
    }

    /// Calls `f` with the shard locked. `f` may take the ledger's lock, and no other shard's.
    pub fn with<R>(&self, f: impl FnOnce(&mut Pages) -> R) -> R {
        let mut pages = self
            .pages
            .lock()
            .expect("no thread panics while it holds a shard");
        let result = f(&mut pages);
        self.oldest.store(pages.oldest_stamp(), Ordering::Release);
        result
    }

    /// The stamp of the oldest ephemeral page, or [`NO_STAMP`]; a hint.
    pub fn oldest_stamp(&self) -> u64 {
        self.oldest.load(Ordering::Acquire)
    }
}

impl Pages {
    fn oldest_stamp(&self) -> u64 {
        self.entries
            .oldest()
            .map_or(NO_STAMP, |slot| self.entries.get(slot).stamp)
    }

    /// Looks a page up.
    pub fn get(&self, key: &Key) -> Option<&Stored> {
        self.slots
            .get(key)
            .map(|slot| &self.entries.get(*slot).stored)
    }

    /// Stores a page; returns the one that it replaced.
    pub fn insert(
        &mut self,
        key: Key,
        stored: Stored,
        stamp: u64,
        ephemeral: bool,
    ) -> Option<Stored> {
        if let Some(slot) = self.slots.get(&key) {
            return Some(self.entries.replace(*slot, stored, stamp));
        }
        let slot = self.entries.insert(key, stored, stamp, ephemeral);
        self.slots.insert(key, slot);
        None
    }

    /// Takes a page out.
    pub fn remove(&mut self, key: &Key) -> Option<Entry> {
        let slot = self.slots.remove(key)?;
        Some(self.take(slot))
    }

    /// Takes the oldest ephemeral page out.
    pub fn remove_oldest(&mut self) -> Option<Entry> {
        let slot = self.entries.oldest()?;
        let key = self.entries.get(slot).key;
        self.slots.remove(&key);
        Some(self.take(slot))
    }

    /// Takes out up to `limit` pages whose keys are in the range.
    pub fn remove_range(&mut self, range: RangeInclusive<Key>, limit: usize) -> Vec<Entry> {
        let keys: Vec<Key> = self
            .slots
            .range(range)
            .take(limit)
            .map(|(key, _)| *key)
            .collect();
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }

    fn take(&mut self, slot: u32) -> Entry {
        let (entry, moved) = self.entries.remove(slot);
        if let Some(key) = moved {
            self.slots.insert(key, slot);
        }
        entry
    }

    /// Every page, checked against the index.
    #[cfg(test)]
    pub fn audit(&self) -> Vec<&Entry> {
        assert_eq!(self.slots.len(), self.entries.len());
        self.slots
            .iter()
            .map(|(key, slot)| {
                let entry = self.entries.get(*slot);
                assert_eq!(entry.key, *key);
                entry
            })
            .collect()
    }
}
