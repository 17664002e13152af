//! The books of the pool: what is stored, what is promised, and what may still be taken, for each guest.
//!
//! Two rules hold at every moment:
//! - `persistent + promised * WORST_PAGE <= size`, so every promise can be kept, as long as the size is not made
//!   smaller than what is there;
//! - a page is only stored while `ephemeral + persistent <= size` covers it. A persistent put books its bytes first, and
//!   room is made afterwards: meanwhile no ephemeral put is admitted.
//!
//! What a tier has too may go at any time, and so counts as ephemeral, but for the page's [`PAGE_METADATA`], which stays, and
//! which is *noted*. Of persistent pages, what is not noted is in memory alone, *dirty*; above tiers it has a limit of its own:
//! - `dirty + promised * WORST_PAGE <= dirty_limit`, as long as the limit is not made smaller than what is there.
//!
//! Only the cleaner books beyond that: the copies of what it moves, one segment at a time, until the originals are free.
//!
//! Lock order: a shard's lock may be held when the books' is taken, never the reverse.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use super::PoolKind;
use crate::wire::PAGE_SIZE;

/// Bytes of metadata that each stored page is charged: an upper bound of what it really takes. Its entry 20, its share
/// of the table over entries 4 to 8, its record 8 or, with a first word, 12; its share of the segment's own figures, and
/// slack of these.
pub const PAGE_METADATA: u64 = 48;

/// Bytes of metadata that a page which a tier has too is charged besides, with its data: its record 8 or 12 again, where the tier
/// has it 6, and slack of these. Its [`PAGE_METADATA`] then covers the tier's own index, 17 bytes, in place of the record.
pub(super) const CLEAN_METADATA: u64 = 24;

/// Bytes of metadata that each object with pages is charged: its place 56, its share of two tables over objects, 8 to 16, and slack
/// of these.
pub const OBJECT_METADATA: u64 = 112;

/// What a whole page is charged.
pub(super) const WHOLE_COST: u64 = PAGE_SIZE as u64 + PAGE_METADATA;

/// The most that one page is charged: that of one that does not compress, and the first of its object.
pub const WORST_PAGE: u64 = WHOLE_COST + OBJECT_METADATA;

/// What something shorter than a page, of `length` bytes, takes in a segment: it begins at a multiple of 4, and each page of
/// memory has a header.
pub(super) const fn data_cost(length: usize) -> u64 {
    let padded = length.next_multiple_of(4) as u64;
    padded + padded / 256 + 2
}

/// The most that what memory keeps of a page besides its tier is charged, `length` bytes of data.
pub(super) const fn clean_cost(length: usize) -> u64 {
    let data = if length == PAGE_SIZE {
        PAGE_SIZE as u64
    } else {
        data_cost(length)
    };
    data + CLEAN_METADATA
}

/// What a guest may take of the pool, and how it ranks when room must be made: Xen's `tmem-set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Of two guests, one with twice the weight may hold twice as much before it is asked to make room. At least 1.
    pub weight: u32,
    /// Bytes that other guests cannot push this one below.
    pub minimum: u64,
    /// Bytes that this guest may take at most.
    pub maximum: u64,
}

impl Default for Share {
    fn default() -> Self {
        Share {
            weight: 1,
            minimum: 0,
            maximum: u64::MAX,
        }
    }
}

/// What a guest has of the pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// What it may have.
    pub share: Share,
    /// Bytes charged for its ephemeral pages.
    pub ephemeral_bytes: u64,
    /// Bytes charged for its persistent pages.
    pub persistent_bytes: u64,
    /// Persistent puts promised to it and not sent yet, in pages.
    pub promised_pages: u32,
}

/// The answer to a page that asks for admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Booked.
    Granted,
    /// Room for the page can be made, by evicting ephemeral pages of this guest.
    NeedsEviction(u32),
    /// Persistent pages, or what other guests are entitled to, take too much; or the pool is too small.
    Impossible,
}

/// What is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tightness {
    /// Less than the spare room is free.
    pub room: bool,
    /// The guest cannot be promised again all that it has put.
    pub promises: bool,
}

/// No guest has this number.
pub(super) const NO_GUEST: u32 = u32::MAX;

/// What is kept free by compression: room for a batch of 64 pages, but in small pools no more than one part in 64.
const SPARE_ROOM: u64 = 64 * WORST_PAGE;
const SPARE_PART: u64 = 64;

#[derive(Debug, Default)]
struct Account {
    share: Share,
    ephemeral: u64,
    persistent: u64,
    /// Pages.
    promised: u32,
}

impl Account {
    fn used(&self) -> u64 {
        self.ephemeral + self.persistent
    }

    /// Bytes of ephemeral pages that other guests may push out. Pages go by the segment: what is left must not fall
    /// below the minimum by that.
    fn spare(&self) -> u64 {
        match self.share.minimum {
            0 => self.ephemeral,
            minimum => self
                .used()
                .saturating_sub(minimum + SEGMENT_COST)
                .min(self.ephemeral),
        }
    }
}

/// The most that the pages of one segment are charged: they may be as short as a word.
const SEGMENT_COST: u64 = 1 << 20;

#[derive(Default)]
struct Totals {
    size: u64,
    ephemeral: u64,
    persistent: u64,
    /// Of `persistent`, bytes charged for pages that a tier has.
    noted: u64,
    /// What the rest of `persistent` and what is promised may come to.
    dirty_limit: u64,
    /// Pages promised to all guests together.
    promised: u64,
    accounts: BTreeMap<u32, Account>,
}

pub(super) struct Books {
    credit_limit: u32,
    totals: Mutex<Totals>,
}

/// The sums, as they are at one moment; bytes, and pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub ephemeral: u64,
    pub persistent: u64,
    /// Of `persistent`, for pages that a tier has.
    pub noted: u64,
    pub promised_pages: u64,
}

impl Books {
    /// Of a pool of `size` bytes.
    pub fn new(size: u64, dirty_limit: u64, credit_limit: u32) -> Self {
        Books {
            credit_limit,
            totals: Mutex::new(Totals {
                size,
                dirty_limit,
                ..Totals::default()
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.totals
            .lock()
            .expect("no thread panics while it holds the books")
    }

    /// Opens an account.
    pub fn open(&self, guest: u32) {
        self.lock().accounts.insert(guest, Account::default());
    }

    /// Closes an account, which has no pages any more.
    pub fn close(&self, guest: u32) {
        self.revoke(guest);
        let account = self.lock().accounts.remove(&guest);
        debug_assert!(account.is_none_or(|account| account.used() == 0));
    }

    pub fn set_share(&self, guest: u32, share: Share) {
        if let Some(account) = self.lock().accounts.get_mut(&guest) {
            account.share = Share {
                weight: share.weight.max(1),
                ..share
            };
        }
    }

    /// What a guest has, and may have.
    pub fn holding(&self, guest: u32) -> Holding {
        let totals = self.lock();
        let account = totals.accounts.get(&guest);
        account.map_or_else(Holding::default, |account| Holding {
            share: account.share,
            ephemeral_bytes: account.ephemeral,
            persistent_bytes: account.persistent,
            promised_pages: account.promised,
        })
    }

    pub fn size(&self) -> u64 {
        self.lock().size
    }

    /// Bytes that are not taken.
    pub fn free(&self) -> u64 {
        let totals = self.lock();
        let taken = totals.ephemeral + totals.persistent;
        totals.size.saturating_sub(taken)
    }

    pub fn set_size(&self, size: u64, dirty_limit: u64) {
        let mut totals = self.lock();
        totals.size = size;
        totals.dirty_limit = dirty_limit;
    }

    /// Bytes of persistent pages that may be in memory alone.
    pub fn dirty_limit(&self) -> u64 {
        self.lock().dirty_limit
    }

    /// Books what a persistent page is charged that a tier has from now on.
    pub fn note(&self, guest: u32, bytes: u64) {
        self.add(guest, PoolKind::Persistent, bytes);
        self.lock().noted += bytes;
    }

    /// Strikes out what [`Books::note`] has booked.
    pub fn forget(&self, guest: u32, bytes: u64) {
        self.lock().noted -= bytes;
        self.release(guest, PoolKind::Persistent, bytes);
    }

    pub fn sums(&self) -> Sums {
        let totals = self.lock();
        Sums {
            ephemeral: totals.ephemeral,
            persistent: totals.persistent,
            noted: totals.noted,
            promised_pages: totals.promised,
        }
    }

    /// Books an ephemeral page of `bytes`.
    pub fn admit_ephemeral(&self, guest: u32, bytes: u64) -> Admission {
        let mut totals = self.lock();
        let size = totals.size;
        let used = totals.ephemeral + totals.persistent;
        let Some(account) = totals.accounts.get_mut(&guest) else {
            return Admission::Impossible;
        };
        if account.used() + bytes > account.share.maximum {
            return match account.ephemeral {
                0 => Admission::Impossible,
                _ => Admission::NeedsEviction(guest),
            };
        }
        if used + bytes <= size {
            account.ephemeral += bytes;
            totals.ephemeral += bytes;
            Admission::Granted
        } else if totals.persistent + bytes > size {
            Admission::Impossible
        } else {
            totals
                .victim(guest)
                .map_or(Admission::Impossible, Admission::NeedsEviction)
        }
    }

    /// Books a persistent page of `bytes`, spending credit of the guest when it has some, and says whether
    /// there was room. The caller then evicts while [`Books::excess`], before it stores the page.
    pub fn admit_persistent(&self, guest: u32, bytes: u64) -> bool {
        let mut totals = self.lock();
        let promised = totals.promised * WORST_PAGE;
        let room = totals.size.saturating_sub(totals.persistent + promised);
        let dirty_room = totals.dirty_room();
        let entitled = totals.entitled(guest);
        let Some(account) = totals.accounts.get_mut(&guest) else {
            return false;
        };
        if account.promised > 0 {
            account.promised -= 1;
            totals.promised -= 1;
        } else if bytes + entitled > room
            || bytes > dirty_room
            || account.used() + bytes > account.share.maximum
        {
            return false;
        }
        if let Some(account) = totals.accounts.get_mut(&guest) {
            account.persistent += bytes;
        }
        totals.persistent += bytes;
        true
    }

    /// Books what is stored whether there is room or not.
    pub fn add(&self, guest: u32, kind: PoolKind, bytes: u64) {
        let mut totals = self.lock();
        *totals.sum_mut(kind) += bytes;
        if let Some(account) = totals.accounts.get_mut(&guest) {
            *account.sum_mut(kind) += bytes;
        }
    }

    /// Strikes out what is free again.
    pub fn release(&self, guest: u32, kind: PoolKind, bytes: u64) {
        let mut totals = self.lock();
        let strike = |sum: &mut u64| {
            debug_assert!(*sum >= bytes, "{bytes} bytes of {sum}");
            *sum = sum.saturating_sub(bytes);
        };
        strike(totals.sum_mut(kind));
        if let Some(account) = totals.accounts.get_mut(&guest) {
            strike(account.sum_mut(kind));
        }
    }

    /// Whether more is booked than the pool's size, and there are ephemeral pages that must go: those of this guest first.
    pub fn excess(&self, guest: u32) -> Option<u32> {
        let totals = self.lock();
        (totals.ephemeral + totals.persistent > totals.size && totals.ephemeral > 0)
            .then(|| totals.victim(guest).or_else(|| totals.largest()))?
    }

    /// Whose ephemeral pages go first.
    pub fn victim(&self) -> Option<u32> {
        let totals = self.lock();
        totals.victim(NO_GUEST)
    }

    /// What is short for a guest, and would be less so if pages took less.
    pub fn tightness(&self, guest: u32) -> Tightness {
        let totals = self.lock();
        let held = totals
            .accounts
            .get(&guest)
            .map_or(0, |account| account.promised);
        let promised = totals.promised + u64::from(self.credit_limit.saturating_sub(held));
        let spare = SPARE_ROOM.min(totals.size / SPARE_PART);
        Tightness {
            room: totals.ephemeral + totals.persistent + spare > totals.size,
            promises: totals.persistent + promised * WORST_PAGE > totals.size,
        }
    }

    /// Promises a guest as many further persistent puts as its limit and the pool allow.
    pub fn grant(&self, guest: u32) -> u32 {
        let mut totals = self.lock();
        let granted = self.room_for_promises(&totals, guest);
        if granted > 0
            && let Some(account) = totals.accounts.get_mut(&guest)
        {
            account.promised += granted;
            totals.promised += u64::from(granted);
        }
        granted
    }

    /// What [`Books::grant`] would promise.
    pub fn grantable(&self, guest: u32) -> u32 {
        self.room_for_promises(&self.lock(), guest)
    }

    fn room_for_promises(&self, totals: &Totals, guest: u32) -> u32 {
        let Some(account) = totals.accounts.get(&guest) else {
            return 0;
        };
        let taken = totals.persistent + totals.promised * WORST_PAGE + totals.entitled(guest);
        let own = account.used() + u64::from(account.promised) * WORST_PAGE;
        let room = totals
            .size
            .saturating_sub(taken)
            .min(totals.dirty_room())
            .min(account.share.maximum.saturating_sub(own));
        let wanted = self.credit_limit.saturating_sub(account.promised);
        wanted.min(u32::try_from(room / WORST_PAGE).unwrap_or(u32::MAX))
    }

    /// The puts that a guest was promised and has not sent yet.
    pub fn promised_to(&self, guest: u32) -> u32 {
        let totals = self.lock();
        totals
            .accounts
            .get(&guest)
            .map_or(0, |account| account.promised)
    }

    /// Strikes out promises for so many puts that are refused nevertheless: the guest has spent them by sending the puts.
    pub fn spend(&self, guest: u32, pages: u32) {
        let mut totals = self.lock();
        if let Some(account) = totals.accounts.get_mut(&guest) {
            let spent = account.promised.min(pages);
            account.promised -= spent;
            totals.promised -= u64::from(spent);
        }
    }

    /// Takes back all that a guest was promised.
    pub fn revoke(&self, guest: u32) {
        let mut totals = self.lock();
        if let Some(account) = totals.accounts.get_mut(&guest) {
            let promised = std::mem::take(&mut account.promised);
            totals.promised -= u64::from(promised);
        }
    }
}

impl Totals {
    fn sum_mut(&mut self, kind: PoolKind) -> &mut u64 {
        match kind {
            PoolKind::Ephemeral => &mut self.ephemeral,
            PoolKind::Persistent => &mut self.persistent,
        }
    }

    /// Bytes of persistent pages that may come to memory without being promised.
    fn dirty_room(&self) -> u64 {
        let dirty = self.persistent - self.noted + self.promised * WORST_PAGE;
        self.dirty_limit.saturating_sub(dirty)
    }

    /// Bytes of ephemeral pages that `guest` cannot push out, as their guests are entitled to them.
    fn entitled(&self, guest: u32) -> u64 {
        let others = self.accounts.iter().filter(|(other, _)| **other != guest);
        others
            .map(|(_, account)| account.ephemeral - account.spare())
            .sum()
    }

    /// Who is to make room for `guest`: of those with ephemeral pages beyond their minimum, the one that holds most for its
    /// weight.
    fn victim(&self, guest: u32) -> Option<u32> {
        let accounts = self.accounts.iter();
        let candidates = accounts.filter(|(other, account)| {
            account.ephemeral > 0 && (**other == guest || account.spare() > 0)
        });
        candidates
            .max_by_key(|(_, account)| {
                u128::from(account.used()) * u128::from(u32::MAX) / u128::from(account.share.weight)
            })
            .map(|(other, _)| *other)
    }

    fn largest(&self) -> Option<u32> {
        let accounts = self.accounts.iter();
        accounts
            .max_by_key(|(_, account)| account.ephemeral)
            .map(|(guest, _)| *guest)
    }
}

impl Account {
    fn sum_mut(&mut self, kind: PoolKind) -> &mut u64 {
        match kind {
            PoolKind::Ephemeral => &mut self.ephemeral,
            PoolKind::Persistent => &mut self.persistent,
        }
    }
}

#[cfg(test)]
#[path = "books_test.rs"]
mod tests;
