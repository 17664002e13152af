//! Ghosts: which pages were here lately.
//!
//! A page that comes again after it was got back, or after it was evicted as a new one, is worth more than one that is put for
//! the first time. Of each such page 16 bits of its hash are remembered, four in a bucket, the oldest goes. A page that was
//! never here is taken for one by chance 1 time in 16384.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::key::{Key, mix};

/// Pages in a bucket.
const BUCKET: u64 = 4;

/// The table. It is evidence only: an update that is lost in a race costs a little of it.
pub(super) struct Ghosts {
    buckets: Box<[AtomicU64]>,
}

impl Ghosts {
    /// A table for `pages` pages at least, 2 to 4 bytes each.
    pub fn new(pages: u64) -> Self {
        let buckets = pages.div_ceil(BUCKET).next_power_of_two();
        Ghosts {
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether the page was here lately.
    pub fn knows(&self, guest: u32, key: &Key) -> bool {
        let hash = hash(guest, key);
        has(self.bucket(hash).load(Relaxed), short(hash))
    }

    /// Remembers a page.
    pub fn add(&self, guest: u32, key: &Key) {
        let hash = hash(guest, key);
        let bucket = self.bucket(hash);
        let four = bucket.load(Relaxed);
        if !has(four, short(hash)) {
            bucket.store(four << 16 | u64::from(short(hash)), Relaxed);
        }
    }

    /// Bytes that the table takes.
    pub fn bytes(&self) -> u64 {
        size_of_val(&*self.buckets) as u64
    }

    fn bucket(&self, hash: u64) -> &AtomicU64 {
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }
}

fn hash(guest: u32, key: &Key) -> u64 {
    // Without a seed: who makes pages be taken for others here gains nothing, and a trace gives the same hits in each pool.
    mix(key.object.hash(0) ^ mix(key.index) ^ u64::from(guest) << 48)
}

fn has(mut four: u64, short: u16) -> bool {
    while four != 0 {
        if four as u16 == short {
            return true;
        }
        four >>= 16;
    }
    false
}

/// Never 0, which stands for none.
fn short(hash: u64) -> u16 {
    ((hash >> 48) as u16).max(1)
}

#[cfg(test)]
#[path = "ghosts_test.rs"]
mod tests;
