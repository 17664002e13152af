//! Slots of a slab by hash: a table that grows and shrinks by one bucket at a time.
//!
//! Linear hashing (W. Litwin, VLDB 1980): with each slot beyond one a bucket, the next bucket in turn is split in two, so no
//! insertion moves more than one chain, and the table is never more than twice as large as it needs to be. The chains go
//! through the slab itself.

use super::heap::MAPPED;
use super::slab;

/// No slot: the end of a chain.
pub(super) const NIL: u32 = u32::MAX;

/// Buckets that are allocated together.
const CHUNK: usize = MAPPED / size_of::<u32>();

/// What the chains go through.
pub(super) trait Links {
    fn hash(&self, slot: u32) -> u64;
    fn next(&self, slot: u32) -> u32;
    fn set_next(&mut self, slot: u32, next: u32);
}

/// The table.
#[derive(Default)]
pub(super) struct Chains {
    heads: Vec<Box<[u32]>>,
    buckets: usize,
    slots: usize,
}

impl Chains {
    /// The first slot of the chain that a slot with this hash is in.
    pub fn first(&self, hash: u64) -> u32 {
        if self.buckets == 0 {
            return NIL;
        }
        self.head(self.bucket(hash))
    }

    /// Adds a slot that is in no chain.
    pub fn insert(&mut self, links: &mut impl Links, slot: u32) {
        if self.slots == self.buckets {
            self.grow(links);
        }
        self.slots += 1;
        self.push(links, slot);
    }

    /// Removes a slot.
    ///
    /// # Panics
    /// It is in no chain.
    pub fn remove(&mut self, links: &mut impl Links, slot: u32) {
        self.redirect(links, slot, links.next(slot));
        self.slots -= 1;
        // At most two turns, as the slots are one less.
        while self.slots < self.buckets / 2 {
            self.shrink(links);
        }
    }

    /// A slot moves to another place in the slab, where it already is, with its hash and its link.
    ///
    /// # Panics
    /// It is in no chain.
    pub fn redirect(&mut self, links: &mut impl Links, slot: u32, to: u32) {
        let bucket = self.bucket(links.hash(slot));
        let mut at = self.head(bucket);
        if at == slot {
            *self.head_mut(bucket) = to;
            return;
        }
        loop {
            assert_ne!(at, NIL, "the slot is in no chain");
            let next = links.next(at);
            if next == slot {
                links.set_next(at, to);
                return;
            }
            at = next;
        }
    }

    /// Bytes that the table takes.
    pub fn bytes(&self) -> usize {
        self.heads.len() * CHUNK * size_of::<u32>()
            + self.heads.capacity() * size_of::<Box<[u32]>>()
    }

    fn push(&mut self, links: &mut impl Links, slot: u32) {
        let bucket = self.bucket(links.hash(slot));
        let head = self.head_mut(bucket);
        links.set_next(slot, std::mem::replace(head, slot));
    }

    fn bucket(&self, hash: u64) -> usize {
        let mask = self.buckets.next_power_of_two() - 1;
        let bucket = hash as usize & mask;
        if bucket < self.buckets {
            bucket
        } else {
            bucket & mask >> 1
        }
    }

    fn head(&self, bucket: usize) -> u32 {
        self.heads[bucket / CHUNK][bucket % CHUNK]
    }

    fn head_mut(&mut self, bucket: usize) -> &mut u32 {
        &mut self.heads[bucket / CHUNK][bucket % CHUNK]
    }

    fn grow(&mut self, links: &mut impl Links) {
        if self.buckets == self.heads.len() * CHUNK {
            self.heads.push(vec![NIL; CHUNK].into_boxed_slice());
        }
        let new = self.buckets;
        self.buckets += 1;
        if new > 0 {
            // What is in the new bucket now was in the one without its highest bit.
            let old = new & !(1 << new.ilog2());
            self.deal(links, old);
        }
    }

    fn shrink(&mut self, links: &mut impl Links) {
        let last = self.buckets - 1;
        let chain = std::mem::replace(self.head_mut(last), NIL);
        self.buckets = last;
        self.deal_chain(links, chain);
        // A chunk stays until the one before it is half empty, or what comes and goes at its end would cost system calls.
        if self.buckets.div_ceil(CHUNK / 2) + 2 < 2 * self.heads.len() {
            self.heads.pop();
            slab::shrink(&mut self.heads);
        }
    }

    fn deal(&mut self, links: &mut impl Links, bucket: usize) {
        let chain = std::mem::replace(self.head_mut(bucket), NIL);
        self.deal_chain(links, chain);
    }

    fn deal_chain(&mut self, links: &mut impl Links, chain: u32) {
        let mut slot = chain;
        while slot != NIL {
            let next = links.next(slot);
            self.push(links, slot);
            slot = next;
        }
    }
}

#[cfg(test)]
impl Chains {
    /// How many slots the longest chain has.
    pub fn longest(&self, links: &impl Links) -> usize {
        let length = |bucket| {
            let next = |slot: &u32| Some(links.next(*slot)).filter(|slot| *slot != NIL);
            let first = Some(self.head(bucket)).filter(|slot| *slot != NIL);
            std::iter::successors(first, next).count()
        };
        (0..self.buckets).map(length).max().unwrap_or(0)
    }
}

#[cfg(test)]
#[path = "chains_test.rs"]
mod tests;
