//! The objects of a shard that have pages.
//!
//! Pages name their object by a number, which makes the index of pages half as large as whole keys would, and
//! looking a page up twice as fast.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::key::ObjectKey;

/// An object that has pages. Each of them holds a reference to it.
#[derive(Debug)]
pub(super) struct Object {
    pub key: ObjectKey,
    /// Unique in the shard, and never used again.
    pub number: u64,
}

/// In the order of keys.
#[derive(Debug)]
struct ByKey(Arc<Object>);

#[derive(Default)]
pub(super) struct Objects {
    by_key: BTreeSet<ByKey>,
    next: u64,
}

impl Objects {
    pub fn find(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.by_key.get(key).map(|object| &object.0)
    }

    /// The first object from `key` on.
    pub fn first_from(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.by_key
            .range::<ObjectKey, _>(key..)
            .next()
            .map(|object| &object.0)
    }

    /// Adds an object that is not there.
    pub fn add(&mut self, key: ObjectKey) -> Arc<Object> {
        let object = Arc::new(Object {
            key,
            number: self.next,
        });
        self.next += 1;
        self.by_key.insert(ByKey(Arc::clone(&object)));
        object
    }

    /// A page of the object, which holds `object`, is about to go. Whether the object goes with it.
    pub fn page_goes(&mut self, object: &Arc<Object>) -> bool {
        // One reference is the page's, one the set's.
        Arc::strong_count(object) == 2 && self.by_key.remove(&object.key)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }
}

impl Borrow<ObjectKey> for ByKey {
    fn borrow(&self) -> &ObjectKey {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

#[cfg(test)]
#[path = "objects_test.rs"]
mod tests;
