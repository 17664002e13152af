//! One shard: the pages of some of the objects, behind one lock that is held briefly.

use std::collections::BTreeMap;
#[cfg(test)]
use std::collections::BTreeSet;
use std::collections::btree_map::Entry as Slot;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::codec::{Page, Stored};
use super::key::{Key, ObjectKey};
use super::ledger::Load;
#[cfg(test)]
use super::lru::Entry;
use super::lru::{Entries, PageKey};
use super::objects::{Object, Objects};

/// The stamp of a shard without ephemeral pages.
pub(super) const NO_STAMP: u64 = u64::MAX;

/// Pages in key order, and in order of age.
pub(super) struct Pages {
    objects: Objects,
    slots: BTreeMap<PageKey, u32>,
    entries: Entries,
}

/// A raw page on its way to being compressed, which happens without a lock.
pub(super) struct RawPage {
    key: PageKey,
    stamp: u64,
    /// A copy.
    pub page: Page,
}

/// A page that was taken out. It no longer counts as one of its object's.
pub(super) struct Taken {
    pub key: Key,
    pub stored: Stored,
    /// It was the last one of its object.
    pub object_gone: bool,
}

impl Taken {
    pub fn load(&self) -> Load {
        Load::page(self.stored.data_bytes(), self.object_gone)
    }
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
                objects: Objects::default(),
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

    /// The object, if it has pages.
    pub fn object(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.objects.find(key).cloned()
    }

    fn page_key(&self, key: &Key) -> Option<PageKey> {
        let object = self.objects.find(&key.object)?;
        Some(PageKey {
            object: object.number,
            index: key.index,
        })
    }

    /// Looks a page up.
    pub fn get(&self, key: &Key) -> Option<&Stored> {
        let slot = self.slots.get(&self.page_key(key)?)?;
        Some(&self.entries.get(*slot).stored)
    }

    /// Stores a page; `object` is what [`Pages::object`] has found. Returns the page that it replaced.
    pub fn insert(
        &mut self,
        object: Option<Arc<Object>>,
        key: Key,
        stored: Stored,
        stamp: u64,
        ephemeral: bool,
    ) -> Option<Stored> {
        let object = object.unwrap_or_else(|| self.objects.add(key.object));
        let page_key = PageKey {
            object: object.number,
            index: key.index,
        };
        match self.slots.entry(page_key) {
            Slot::Occupied(slot) => Some(self.entries.replace(*slot.get(), stored, stamp)),
            Slot::Vacant(place) => {
                let page = (object, key.index);
                place.insert(self.entries.insert(page, stored, stamp, ephemeral));
                None
            }
        }
    }

    /// Takes a page out.
    pub fn remove(&mut self, key: &Key) -> Option<Taken> {
        let page_key = self.page_key(key)?;
        let slot = self.slots.remove(&page_key)?;
        Some(self.take(slot))
    }

    /// Takes the oldest ephemeral page out.
    pub fn remove_oldest(&mut self) -> Option<Taken> {
        let slot = self.entries.oldest()?;
        let key = self.entries.get(slot).page_key();
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
            key: entry.page_key(),
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

    /// Takes out up to `limit` pages of the object of `first`, from there to the index `last`.
    pub fn remove_range(&mut self, first: &Key, last: u64, limit: usize) -> Vec<Taken> {
        let Some(first) = self.page_key(first) else {
            return Vec::new();
        };
        let last = PageKey {
            index: last,
            ..first
        };
        let found = self.slots.range(first..=last).take(limit);
        let slots: Vec<PageKey> = found.map(|(key, _)| *key).collect();
        let slots = slots.iter();
        slots
            .filter_map(|key| {
                let slot = self.slots.remove(key)?;
                Some(self.take(slot))
            })
            .collect()
    }

    /// Takes out up to `limit` pages of a guest's pool.
    pub fn remove_pool(&mut self, guest: u32, pool: u32, limit: usize) -> Vec<Taken> {
        let first = ObjectKey {
            guest,
            pool,
            object: [0; _],
        };
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(object) = self.objects.first_from(&first)
            && (object.key.guest, object.key.pool) == (guest, pool)
        {
            let key = Key {
                object: object.key,
                index: 0,
            };
            taken.extend(self.remove_range(&key, u64::MAX, limit - taken.len()));
        }
        taken
    }

    fn take(&mut self, slot: u32) -> Taken {
        let (entry, moved) = self.entries.remove(slot);
        if let Some(key) = moved
            && let Some(place) = self.slots.get_mut(&key)
        {
            *place = slot;
        }
        Taken {
            key: entry.key(),
            object_gone: self.objects.page_goes(&entry.object),
            stored: entry.stored,
        }
    }

    /// Every page, checked against the indexes.
    #[cfg(test)]
    pub fn audit(&self) -> Vec<&Entry> {
        assert_eq!(self.slots.len(), self.entries.len());
        let check = |(key, slot): (&PageKey, &u32)| {
            let entry = self.entries.get(*slot);
            assert_eq!(entry.page_key(), *key);
            let object = self.objects.find(&entry.object.key).expect("it has a page");
            assert!(Arc::ptr_eq(object, &entry.object));
            entry
        };
        let entries: Vec<&Entry> = self.slots.iter().map(check).collect();
        let numbers: BTreeSet<u64> = entries.iter().map(|entry| entry.object.number).collect();
        assert_eq!(numbers.len(), self.objects.len());
        entries
    }
}
