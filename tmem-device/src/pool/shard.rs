//! One shard: the pages of some of the objects, behind one lock that is held briefly.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::codec::{Page, Stored};
use super::key::Key;
use super::lru::{Entries, Entry};

/// The stamp of a shard without ephemeral pages.
pub(super) const NO_STAMP: u64 = u64::MAX;

/// Pages in key order, and in order of age.
pub(super) struct Pages {
    slots: BTreeMap<Key, u32>,
    entries: Entries,
}

/// A raw page on its way to being compressed, which happens without a lock.
pub(super) struct RawPage {
    key: Key,
    stamp: u64,
    /// A copy.
    pub page: Page,
}

/// What a page saved by being compressed.
pub(super) struct Reformed {
    pub ephemeral: bool,
    /// Bytes of data less.
    pub saved: u64,
    /// For the caller to free without the lock.
    pub _old: Stored,
}

/// What is known of a shard without its lock, as of its last change.
struct Hints {
    /// The stamp of the oldest ephemeral page: where to evict next is decided by it.
    oldest: AtomicU64,
    raw_pages: AtomicU32,
}

pub(super) struct Shard {
    hints: Hints,
    pages: Mutex<Pages>,
}

impl Shard {
    pub fn new() -> Self {
        Shard {
            hints: Hints {
                oldest: AtomicU64::new(NO_STAMP),
                raw_pages: AtomicU32::new(0),
            },
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
        let oldest = pages.oldest_stamp();
        self.hints.oldest.store(oldest, Ordering::Release);
        let raw_pages = pages.entries.raw().len() as u32;
        self.hints.raw_pages.store(raw_pages, Ordering::Release);
        result
    }

    /// The stamp of the oldest ephemeral page, or [`NO_STAMP`]; a hint.
    pub fn oldest_stamp(&self) -> u64 {
        self.hints.oldest.load(Ordering::Acquire)
    }

    /// Raw pages that nobody has tried to compress; a hint.
    pub fn raw_pages(&self) -> u64 {
        self.hints.raw_pages.load(Ordering::Acquire).into()
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
        match self.slots.entry(key) {
            Slot::Occupied(slot) => Some(self.entries.replace(*slot.get(), stored, stamp)),
            Slot::Vacant(place) => {
                place.insert(self.entries.insert(key, stored, stamp, ephemeral));
                None
            }
        }
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

    /// Copies the raw page of that number, modulo how many there are. Nobody tries that page again.
    pub fn copy_raw(&mut self, number: u64) -> Option<RawPage> {
        let raw = self.entries.raw();
        let slot = raw[number.checked_rem(raw.len() as u64)? as usize];
        self.entries.settle(slot);
        let entry = self.entries.get(slot);
        let mut raw = RawPage {
            key: entry.key,
            stamp: entry.stamp,
            page: [0; _],
        };
        // A raw page is never found damaged.
        entry.stored.decode(&mut raw.page).ok()?;
        Some(raw)
    }

    /// Keeps a page, which was raw, as `stored`, unless it has gone or been replaced since.
    pub fn reform(&mut self, raw: &RawPage, stored: Stored) -> Option<Reformed> {
        let slot = *self.slots.get(&raw.key)?;
        let entry = self.entries.get(slot);
        if entry.stamp != raw.stamp {
            return None;
        }
        let ephemeral = entry.ephemeral;
        let saved = entry.stored.data_bytes() - stored.data_bytes();
        let _old = self.entries.reform(slot, stored);
        Some(Reformed {
            ephemeral,
            saved,
            _old,
        })
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
        if let Some(key) = moved
            && let Some(place) = self.slots.get_mut(&key)
        {
            *place = slot;
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
