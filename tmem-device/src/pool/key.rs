//! How a page is named.

use std::hash::{BuildHasher, RandomState};

use crate::wire::OBJECT_SIZE;

/// Names an object within a pool.
pub type ObjectId = [u8; OBJECT_SIZE];

/// Names one object of one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectKey {
    pub pool: u32,
    pub object: ObjectWords,
}

/// Names one page of one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub object: ObjectKey,
    pub index: u64,
}

/// An object's id as numbers, which compare faster than bytes. Their order means nothing.
pub(super) type ObjectWords = [u64; OBJECT_SIZE / size_of::<u64>()];

pub(super) fn object_words(object: &ObjectId) -> ObjectWords {
    let (words, _) = object.as_chunks();
    std::array::from_fn(|at| u64::from_le_bytes(words[at]))
}

pub(super) fn object_bytes(words: &ObjectWords) -> ObjectId {
    let mut object = [0; OBJECT_SIZE];
    let (chunks, _) = object.as_chunks_mut();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    object
}

impl ObjectKey {
    /// A number that depends on every bit of the key and of `seed`. A guest that does not know the seed cannot choose objects whose numbers
    /// collide.
    pub fn hash(&self, seed: u64) -> u64 {
        let words = self.object.iter();
        words.fold(mix(seed ^ u64::from(self.pool)), |hash, word| {
            mix(hash ^ word)
        })
    }
}

/// Each bit of the result depends on each bit of `word` (the finalizer of MurmurHash3).
pub(super) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

/// A seed that nobody else knows.
pub(super) fn random_seed() -> u64 {
    RandomState::new().hash_one(0u64)
}
