//! The objects of a shard that have pages.
//!
//! Entries name their object by a number, and their page by the low half of its index: an object with pages in several
//! parts of 2^32 pages is several here.

use std::cell::Cell;

use super::chains::{Chains, Links, NIL};
use super::key::{ObjectKey, mix};
use super::slab::Slab;

/// An object that has pages, or a part of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object {
    pub key: ObjectKey,
    /// Names it for as long as it has pages.
    number: u32,
    /// The high half of the indexes.
    pub part: u32,
    /// How many pages.
    pages: u32,
    /// No page has a larger index, in its low half.
    pub highest: u32,
    next_by_key: u32,
    next_by_number: u32,
}

/// Objects are found by key and part, and by number. The numbers are not places: those that are left move together, or a
/// few of them would hold the memory of all that there ever were.
pub(super) struct Objects {
    slab: Slab<Object>,
    seed: u64,
    /// How many are not the first part of theirs.
    later_parts: usize,
    by_key: Chains,
    by_number: Chains,
    /// The number that is tried next.
    next: u32,
    /// The place that was looked up last: most often, it is the next one too.
    last: Cell<u32>,
    tally: Tally,
}

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
    /// None, of which nobody who does not know the seed can choose some that are found slowly.
    pub fn new(seed: u64) -> Self {
        Objects {
            slab: Slab::default(),
            seed,
            later_parts: 0,
            by_key: Chains::default(),
            by_number: Chains::default(),
            next: 0,
            last: Cell::new(0),
            tally: Tally::default(),
        }
    }

    /// The number of an object's part.
    pub fn find(&self, key: &ObjectKey, part: u32) -> Option<u32> {
        let slot = self.slot_of(key, part)?;
        Some(self.slab.get(slot).number)
    }

    fn slot_of(&self, key: &ObjectKey, part: u32) -> Option<u32> {
        if let Some(slot) = self.last(|object| object.part == part && object.key == *key) {
            return Some(slot);
        }
        let mut slot = self.by_key.first(hash_part(key, part, self.seed));
        while slot != NIL {
            let object = self.slab.get(slot);
            if object.part == part && object.key == *key {
                self.last.set(slot);
                return Some(slot);
            }
            slot = object.next_by_key;
        }
        None
    }

    /// Whether objects may have parts but the first.
    pub fn has_later_parts(&self) -> bool {
        self.later_parts > 0
    }

    /// The place that was looked up last, if it is the one.
    fn last(&self, is: impl FnOnce(&Object) -> bool) -> Option<u32> {
        let slot = self.last.get();
        ((slot as usize) < self.slab.len() && is(self.slab.get(slot))).then_some(slot)
    }

    fn place(&self, number: u32) -> Option<u32> {
        if let Some(slot) = self.last(|object| object.number == number) {
            return Some(slot);
        }
        let mut slot = self.by_number.first(hash_number(number, self.seed));
        while slot != NIL {
            let object = self.slab.get(slot);
            if object.number == number {
                self.last.set(slot);
                return Some(slot);
            }
            slot = object.next_by_number;
        }
        None
    }

    /// # Panics
    /// There is no object of this number.
    pub fn get(&self, number: u32) -> &Object {
        let slot = self
            .place(number)
            .expect("entries name objects that are there");
        self.slab.get(slot)
    }

    /// Whether it is still there: a number may be another object's later.
    pub fn is(&self, number: u32, key: &ObjectKey) -> bool {
        let slot = self.place(number);
        slot.is_some_and(|slot| self.slab.get(slot).key == *key)
    }

    /// Adds a page at `index` to an object that may not be there yet; returns its number, and whether it is new.
    pub fn add_page(&mut self, key: &ObjectKey, part: u32, index: u32) -> (u32, bool) {
        self.tally.comes(key.pool);
        if let Some(slot) = self.slot_of(key, part) {
            let object = self.slab.get_mut(slot);
            object.pages += 1;
            object.highest = object.highest.max(index);
            return (object.number, false);
        }
        let number = self.free_number();
        self.later_parts += usize::from(part != 0);
        let slot = self.slab.len() as u32;
        self.slab.push(Object {
            key: *key,
            number,
            part,
            pages: 1,
            highest: index,
            next_by_key: NIL,
            next_by_number: NIL,
        });
        self.by_key
            .insert(&mut ByKey(&mut self.slab, self.seed), slot);
        self.by_number
            .insert(&mut ByNumber(&mut self.slab, self.seed), slot);
        self.last.set(slot);
        (number, true)
    }

    /// A number that names nothing. They rise; where one is taken, after 2^32 of them, the search goes on anywhere else, as
    /// those that follow may be taken too.
    fn free_number(&mut self) -> u32 {
        let mut number = self.next;
        let mut tries = 0;
        while self.place(number).is_some() {
            tries += 1;
            number = mix(u64::from(self.next) << 32 | tries) as u32;
        }
        self.next = number.wrapping_add(1);
        number
    }

    /// A page of the object goes. Whether the object goes with it.
    ///
    /// # Panics
    /// There is no object of this number.
    pub fn page_goes(&mut self, number: u32) -> bool {
        let slot = self
            .place(number)
            .expect("entries name objects that are there");
        let object = self.slab.get_mut(slot);
        self.tally.goes(object.key.pool);
        object.pages -= 1;
        if object.pages > 0 {
            return false;
        }
        self.later_parts -= usize::from(object.part != 0);
        self.by_key
            .remove(&mut ByKey(&mut self.slab, self.seed), slot);
        self.by_number
            .remove(&mut ByNumber(&mut self.slab, self.seed), slot);
        let last = self.slab.len() as u32 - 1;
        if slot != last {
            self.by_key
                .redirect(&mut ByKey(&mut self.slab, self.seed), last, slot);
            self.by_number
                .redirect(&mut ByNumber(&mut self.slab, self.seed), last, slot);
        }
        let object = self.slab.pop();
        if slot != last {
            *self.slab.get_mut(slot) = object;
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
        self.slab.len()
    }

    /// Bytes that slab and tables take.
    pub fn bytes(&self) -> usize {
        self.slab.bytes()
            + self.by_key.bytes()
            + self.by_number.bytes()
            + self.tally.pools.capacity() * size_of::<(u32, u64)>()
    }
}

fn hash_number(number: u32, seed: u64) -> u64 {
    mix(seed ^ u64::from(number))
}

fn hash_part(key: &ObjectKey, part: u32, seed: u64) -> u64 {
    mix(key.hash(seed) ^ u64::from(part))
}

/// The chains through objects with keys alike.
struct ByKey<'a>(&'a mut Slab<Object>, u64);

/// Those through objects with numbers alike.
struct ByNumber<'a>(&'a mut Slab<Object>, u64);

impl Links for ByKey<'_> {
    fn hash(&self, slot: u32) -> u64 {
        let object = self.0.get(slot);
        hash_part(&object.key, object.part, self.1)
    }

    fn next(&self, slot: u32) -> u32 {
        self.0.get(slot).next_by_key
    }

    fn set_next(&mut self, slot: u32, next: u32) {
        self.0.get_mut(slot).next_by_key = next;
    }
}

impl Links for ByNumber<'_> {
    fn hash(&self, slot: u32) -> u64 {
        hash_number(self.0.get(slot).number, self.1)
    }

    fn next(&self, slot: u32) -> u32 {
        self.0.get(slot).next_by_number
    }

    fn set_next(&mut self, slot: u32, next: u32) {
        self.0.get_mut(slot).next_by_number = next;
    }
}

#[cfg(test)]
#[path = "objects_test.rs"]
mod tests;
