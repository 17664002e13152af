//! The objects of a shard that have pages.
//!
//! Entries name their object by a number, and their page by the low half of its index: an object with pages in several
//! parts of 2^32 pages is several here.

use super::chains::{Chains, Links, NIL};
use super::key::ObjectKey;

/// An object that has pages, or a part of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object {
    pub key: ObjectKey,
    /// The high half of the indexes.
    pub part: u32,
    /// How many pages; 0 marks a free place.
    pub pages: u32,
    /// No page has a larger index, in its low half.
    pub highest: u32,
    next: u32,
}

/// In the order of numbers.
#[derive(Default)]
pub(super) struct Objects {
    slab: Slab,
    chains: Chains,
    free: Vec<u32>,
    tally: Tally,
}

#[derive(Default)]
struct Slab(Vec<Object>);

/// How many pages each of the guest's pools has, by id. Pools without pages are not in it.
#[derive(Default)]
struct Tally {
    pools: Vec<(u32, u64)>,
    /// Where the last one was: most often, it is the next one too.
    last: usize,
}

impl Tally {
    /// The place of a pool, or where it would be.
    fn place(&mut self, pool: u32) -> Result<usize, usize> {
        if self.pools.get(self.last).is_some_and(|(id, _)| *id == pool) {
            return Ok(self.last);
        }
        let place = self.pools.binary_search_by_key(&pool, |(id, _)| *id);
        self.last = place.unwrap_or_else(|place| place);
        place
    }

    fn comes(&mut self, pool: u32) {
        match self.place(pool) {
            Ok(place) => self.pools[place].1 += 1,
            Err(place) => self.pools.insert(place, (pool, 1)),
        }
    }

    fn goes(&mut self, pool: u32) {
        if let Ok(place) = self.place(pool) {
            self.pools[place].1 -= 1;
            if self.pools[place].1 == 0 {
                self.pools.remove(place);
            }
        }
    }
}

impl Objects {
    /// The number of an object's part.
    pub fn find(&self, key: &ObjectKey, part: u32) -> Option<u32> {
        let mut number = self.chains.first(key.hash());
        while number != NIL {
            let object = self.get(number);
            if object.part == part && object.key == *key {
                return Some(number);
            }
            number = object.next;
        }
        None
    }

    /// The numbers of all parts of an object from one to another.
    pub fn parts(&self, key: &ObjectKey, first: u32, last: u32) -> Vec<u32> {
        let mut number = self.chains.first(key.hash());
        let mut parts = Vec::new();
        while number != NIL {
            let object = self.get(number);
            if (first..=last).contains(&object.part) && object.key == *key {
                parts.push(number);
            }
            number = object.next;
        }
        parts
    }

    pub fn get(&self, number: u32) -> &Object {
        &self.slab.0[number as usize]
    }

    /// Whether it is still there: a number may be another object's later.
    pub fn is(&self, number: u32, key: &ObjectKey) -> bool {
        let object = self.slab.0.get(number as usize);
        object.is_some_and(|object| object.pages > 0 && object.key == *key)
    }

    /// Adds a page at `index` to an object that may not be there yet; returns its number, and whether it is new.
    pub fn add_page(&mut self, key: &ObjectKey, part: u32, index: u32) -> (u32, bool) {
        self.tally.comes(key.pool);
        if let Some(number) = self.find(key, part) {
            let object = &mut self.slab.0[number as usize];
            object.pages += 1;
            object.highest = object.highest.max(index);
            return (number, false);
        }
        let object = Object {
            key: *key,
            part,
            pages: 1,
            highest: index,
            next: NIL,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.slab.0[number as usize] = object;
                number
            }
            None => {
                self.slab.0.push(object);
                (self.slab.0.len() - 1) as u32
            }
        };
        self.chains.insert(&mut self.slab, number);
        (number, true)
    }

    /// A page of the object goes. Whether the object goes with it.
    pub fn page_goes(&mut self, number: u32) -> bool {
        let object = &mut self.slab.0[number as usize];
        self.tally.goes(object.key.pool);
        if object.pages > 1 {
            object.pages -= 1;
            return false;
        }
        self.chains.remove(&mut self.slab, number);
        self.slab.0[number as usize].pages = 0;
        self.free.push(number);
        while let Some(last) = self.slab.0.len().checked_sub(1)
            && self.free.last() == Some(&(last as u32))
        {
            self.free.pop();
            self.slab.0.pop();
        }
        true
    }

    /// How many pages a pool has.
    pub fn pages_of(&self, pool: u32) -> u64 {
        let pools = &self.tally.pools;
        let place = pools.binary_search_by_key(&pool, |(id, _)| *id);
        place.map_or(0, |place| pools[place].1)
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.slab.0.len() - self.free.len()
    }

    /// Bytes that slab and table take.
    pub fn bytes(&self) -> usize {
        self.slab.0.capacity() * size_of::<Object>()
            + self.free.capacity() * size_of::<u32>()
            + self.chains.bytes()
            + self.tally.pools.capacity() * size_of::<(u32, u64)>()
    }
}

impl Links for Slab {
    fn hash(&self, slot: u32) -> u64 {
        self.0[slot as usize].key.hash()
    }

    fn next(&self, slot: u32) -> u32 {
        self.0[slot as usize].next
    }

    fn set_next(&mut self, slot: u32, next: u32) {
        self.0[slot as usize].next = next;
    }
}

#[cfg(test)]
#[path = "objects_test.rs"]
mod tests;
