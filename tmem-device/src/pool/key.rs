//! How a page is named.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::wire::OBJECT_SIZE;

/// Names an object within a pool.
pub type ObjectId = [u8; OBJECT_SIZE];

/// Names one page of one guest. The order puts all pages of an object, all objects of a pool and
/// all pools of a guest next to each other, so that each of them is one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub guest: u32,
    pub pool: u32,
    pub object: ObjectId,
    pub index: u64,
}

impl Key {
    /// A number that is the same for all pages of an object, and the same in every run.
    pub fn object_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.guest, self.pool, self.object).hash(&mut hasher);
        hasher.finish()
    }
}
