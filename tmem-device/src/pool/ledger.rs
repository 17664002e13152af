//! The books of the pool: what is stored, what is promised, and what may still be taken.
//!
//! Two rules hold at every moment:
//! - `persistent + promised * WORST_PAGE <= size`, so every promise can be kept;
//! - a page is only inserted while `ephemeral + persistent <= size` covers it, so the memory in
//!   use never exceeds the cap. A persistent put books its bytes first and evicts afterwards:
//!   meanwhile no ephemeral put is admitted, and the page itself is not inserted yet.
//!
//! Lock order: a shard's lock may be held when the ledger's is taken, never the reverse.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::sync::{Mutex, MutexGuard};

use super::PoolKind;
use super::codec::WORST_DATA;
use super::pieces::PIECE_COST;
use super::stats::PoolStats;

/// Bytes of metadata that each stored page is charged, whatever it compresses to: an upper bound
/// of what it really takes. Slab entry 56; table of raw pages 16 at its emptiest; B-tree of pages 60 at
/// the lowest occupancy that its nodes can have.
pub const PAGE_METADATA: u64 = 132;

/// Bytes of metadata that each object with pages is charged: the object 64, B-tree of objects 29 at its emptiest;
/// rounded up.
pub const OBJECT_METADATA: u64 = 96;

/// The most that one page is charged: that of one that does not compress, and the first of its object.
pub const WORST_PAGE: u64 = WORST_DATA + PAGE_METADATA + OBJECT_METADATA;

/// What is kept free by compression: room for a batch of 64 pages, but in small pools no more than one part in 64.
const SPARE_ROOM: u64 = 64 * WORST_PAGE;
const SPARE_PART: u64 = 64;

/// The answer to an ephemeral page that asks for admission.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Booked.
    Granted,
    /// Room for the page can be made by evicting ephemeral pages.
    NeedsEviction,
    /// Persistent pages take too much of the pool, or the pool is too small.
    Impossible,
}

/// What is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tightness {
    /// Less than [`SPARE_ROOM`] is free.
    pub room: bool,
    /// The guest cannot be promised again all that it has put.
    pub promises: bool,
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Load::default(), |sum, load| Load {
            pages: sum.pages + load.pages,
            objects: sum.objects + load.objects,
            data_bytes: sum.data_bytes + load.data_bytes,
        })
    }
}

#[derive(Default)]
pub(super) struct Books {
    pub ephemeral: u64,
    pub persistent: u64,
    /// Pages promised to all guests together.
    pub promised: u64,
    /// Pages promised to each guest.
    promises: BTreeMap<u32, u32>,
    pub stats: PoolStats,
}

pub(super) struct Ledger {
    size: u64,
    credit_limit: u32,
    books: Mutex<Books>,
}

/// What is taken out of the pool, or put into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub pages: u64,
    /// Of these pages, first or last ones of their objects.
    pub objects: u64,
    /// Of all pages together.
    pub data_bytes: u64,
}

impl Load {
    pub fn page(data_bytes: u64, with_object: bool) -> Self {
        Load {
            pages: 1,
            objects: with_object.into(),
            data_bytes,
        }
    }

    fn cost(self) -> u64 {
        self.data_bytes + self.pages * PAGE_METADATA + self.objects * OBJECT_METADATA
    }
}

impl Ledger {
    pub fn new(size: u64, credit_limit: u32) -> Self {
        Ledger {
            size,
            credit_limit,
            books: Mutex::new(Books::default()),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Books> {
        self.books
            .lock()
            .expect("no thread panics while it holds the ledger")
    }

    /// Books an ephemeral page. The caller holds the lock of the shard that gets it, and keeps it
    /// until the page is inserted: so whoever must evict finds every page that is booked.
    pub fn admit_ephemeral(&self, page: Load) -> Admission {
        let mut books = self.lock();
        let cost = page.cost();
        if books.ephemeral + books.persistent + cost <= self.size {
            books.ephemeral += cost;
            books.stats.add(page.data_bytes);
            Admission::Granted
        } else if books.persistent + cost <= self.size {
            Admission::NeedsEviction
        } else {
            Admission::Impossible
        }
    }

    /// Books a persistent page, spending credit of the guest when it has some, and says whether
    /// there was room. The caller then evicts while [`Ledger::is_over`], before it inserts. The page
    /// is booked as the first of its object; when it is not, [`Ledger::object_was_there`] corrects that.
    pub fn admit_persistent(&self, guest: u32, data_bytes: u64) -> bool {
        let mut books = self.lock();
        let cost = Load::page(data_bytes, true).cost();
        match books.promises.get_mut(&guest) {
            Some(promise) if *promise > 0 => {
                *promise -= 1;
                books.promised -= 1;
            }
            _ => {
                if books.persistent + books.promised * WORST_PAGE + cost > self.size {
                    return false;
                }
            }
        }
        books.persistent += cost;
        books.stats.add(data_bytes);
        books.stats.persistent_pages += 1;
        true
    }

    /// Strikes out the object that was booked with a persistent page.
    pub fn object_was_there(&self) {
        self.lock().persistent -= OBJECT_METADATA;
    }

    /// Whether there is room for a page of a guest, if it compresses well.
    pub fn has_room(&self, kind: PoolKind) -> bool {
        let books = self.lock();
        let promised = match kind {
            PoolKind::Ephemeral => 0,
            PoolKind::Persistent => books.promised * WORST_PAGE,
        };
        books.persistent + promised + Load::page(PIECE_COST, true).cost() <= self.size
    }

    /// Whether booked pages exceed the cap, so that ephemeral ones must go.
    pub fn is_over(&self) -> bool {
        let books = self.lock();
        books.ephemeral + books.persistent > self.size
    }

    /// What is short for a guest, and would be less so if pages took less.
    pub fn tightness(&self, guest: u32) -> Tightness {
        let books = self.lock();
        let held = books.promises.get(&guest).copied().unwrap_or(0);
        let promised = books.promised + u64::from(self.credit_limit.saturating_sub(held));
        let spare = SPARE_ROOM.min(self.size / SPARE_PART);
        Tightness {
            room: books.ephemeral + books.persistent + spare > self.size,
            promises: books.persistent + promised * WORST_PAGE > self.size,
        }
    }

    /// Strikes out what a page saved by being compressed, in bytes of data.
    pub fn squeezed(&self, kind: PoolKind, data_bytes: u64) {
        let mut books = self.lock();
        match kind {
            PoolKind::Ephemeral => books.ephemeral -= data_bytes,
            PoolKind::Persistent => books.persistent -= data_bytes,
        }
        books.stats.stored_bytes -= data_bytes;
    }

    /// Strikes pages out.
    pub fn release(&self, kind: PoolKind, load: Load) {
        self.lock().release(kind, load);
    }

    /// Strikes out an evicted page.
    pub fn evicted(&self, page: Load) {
        let mut books = self.lock();
        books.release(PoolKind::Ephemeral, page);
        books.stats.evictions += 1;
    }

    /// Promises a guest as many further persistent puts as its limit and the pool allow.
    pub fn grant(&self, guest: u32) -> u32 {
        let mut books = self.lock();
        let granted = self.room_for_promises(&books, guest);
        if granted > 0 {
            *books.promises.entry(guest).or_insert(0) += granted;
            books.promised += u64::from(granted);
        }
        granted
    }

    /// What [`Ledger::grant`] would promise.
    pub fn grantable(&self, guest: u32) -> u32 {
        self.room_for_promises(&self.lock(), guest)
    }

    fn room_for_promises(&self, books: &Books, guest: u32) -> u32 {
        let held = books.promises.get(&guest).copied().unwrap_or(0);
        let taken = books.persistent + books.promised * WORST_PAGE;
        let room = self.size.saturating_sub(taken) / WORST_PAGE;
        let wanted = self.credit_limit.saturating_sub(held);
        wanted.min(u32::try_from(room).unwrap_or(u32::MAX))
    }

    /// The puts that a guest was promised and has not sent yet.
    pub fn promised_to(&self, guest: u32) -> u32 {
        self.lock().promises.get(&guest).copied().unwrap_or(0)
    }

    /// Takes back all that a guest was promised.
    pub fn revoke(&self, guest: u32) {
        let mut books = self.lock();
        if let Some(promise) = books.promises.remove(&guest) {
            books.promised -= u64::from(promise);
        }
    }

    /// The figures as they are now.
    pub fn stats(&self) -> PoolStats {
        let books = self.lock();
        PoolStats {
            used_bytes: books.ephemeral + books.persistent,
            promised_pages: books.promised,
            ..books.stats
        }
    }
}

impl Books {
    fn release(&mut self, kind: PoolKind, load: Load) {
        match kind {
            PoolKind::Ephemeral => self.ephemeral -= load.cost(),
            PoolKind::Persistent => {
                self.persistent -= load.cost();
                self.stats.persistent_pages -= load.pages;
            }
        }
        self.stats.stored_pages -= load.pages;
        self.stats.stored_bytes -= load.data_bytes;
    }
}

#[cfg(test)]
#[path = "ledger_test.rs"]
mod tests;
