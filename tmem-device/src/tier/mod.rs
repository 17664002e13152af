//! Places below the pool that hold pages: a disk now, another machine's memory next.
//!
//! A tier keeps opaque records, the stored form of a page, and knows nothing of pools, guests and
//! keys. It answers a record with a [`Handle`], which the pool keeps in its index where it would
//! keep the data. What a tier holds is gone with the process: nothing is made durable, nothing
//! recovered.
//!
//! # What holds for every tier
//! - [`Tier::store`] takes all of its records or none, and returns only when the medium has them.
//!   Until then the caller keeps them, so a refusal or failure loses nothing.
//! - [`Tier::load`] returns a record exactly as it was stored, or an error for that record alone.
//! - A record that was taken is kept until it is discarded, whatever fails in between; it can be
//!   loaded for as long as its medium reads back.
//! - No call waits for a medium longer than the tier's configuration says, and [`Tier::discard`]
//!   and [`Tier::stats`] never wait for it.

pub mod disk;

use std::fmt;
use std::io;
use std::num::NonZeroU64;

use serde::Serialize;

/// Bytes of the longest record: a page that does not compress, and what the pool says about it.
pub const MAX_RECORD: usize = 4096 + 64;

/// What a tier answers for a record. Meaningful to the tier that made it, and until it is
/// discarded there; copies name the same record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(NonZeroU64);

impl Handle {
    /// Bits that a handle takes at most, so that an index can keep it in five bytes.
    pub const BITS: u32 = 40;

    /// The handle of this number; `None` for 0 and for more than [`Handle::BITS`] bits.
    pub fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits)
            .filter(|bits| bits.get() >> Self::BITS == 0)
            .map(Handle)
    }

    /// The handle as a number: not 0, less than 2 to the power of [`Handle::BITS`].
    pub fn bits(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:#x})", self.bits())
    }
}

/// One record that is wanted back.
#[derive(Debug)]
pub struct Load<'a> {
    /// Which one.
    pub handle: Handle,
    /// Where it goes; [`MAX_RECORD`] bytes hold any.
    pub buffer: &'a mut [u8],
    /// Set by [`Tier::load`]: the bytes of the record, which begin `buffer`; or why there are none.
    /// What `buffer` then holds is not data.
    pub result: Result<usize, LoadError>,
}

impl<'a> Load<'a> {
    /// Asks for a record; until [`Tier::load`] was called, its result is [`LoadError::Unknown`].
    pub fn new(handle: Handle, buffer: &'a mut [u8]) -> Self {
        Load {
            handle,
            buffer,
            result: Err(LoadError::Unknown),
        }
    }
}

/// A place that holds records. Every method may be called from any thread.
pub trait Tier: Send + Sync {
    /// Stores the records, each of 1 to [`MAX_RECORD`] bytes, and returns their handles in the same
    /// order. Cheapest with many at a time, and records that are stored together are loaded
    /// together cheaply.
    ///
    /// # Errors
    /// Nothing was stored: see [`StoreError`].
    fn store(&self, records: &[&[u8]]) -> Result<Vec<Handle>, StoreError>;

    /// Loads the records and sets each one's result. They stay stored.
    fn load(&self, wanted: &mut [Load<'_>]);

    /// Drops the records. A handle that is not known (any more) is passed over.
    fn discard(&self, handles: &[Handle]);

    /// Figures of the tier.
    fn stats(&self) -> TierStats;
}

/// Why nothing of a batch was stored. The caller keeps the pages or refuses them further up.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The tier holds as much as it may.
    #[error("the tier is full; keep the pages where they are, or give the tier a larger size")]
    Full,
    /// The medium has not taken them in time, or has not finished earlier writes that took too long.
    #[error("the tier's medium is too slow; keep the pages where they are and try again later")]
    Slow,
    /// The medium failed, or the file system that it lies on is full.
    #[error(
        "the tier's medium failed: {0}; keep the pages where they are, and look after the medium"
    )]
    Medium(#[from] io::Error),
    /// A record is empty or longer than [`MAX_RECORD`].
    #[error("a record of {0} bytes cannot be stored; give 1 to {MAX_RECORD} bytes")]
    Length(usize),
}

/// Why a record cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The tier holds no such record: it was discarded, or the handle is another tier's.
    #[error("the tier holds no such record")]
    Unknown,
    /// The medium returned something else than was written; treat it as a read error of the page.
    #[error("the record is damaged on its medium")]
    Damaged,
    /// The medium cannot be read; a later load may succeed.
    #[error("the tier's medium cannot be read: {0}")]
    Medium(io::ErrorKind),
    /// The medium has not answered in time; a later load may succeed.
    #[error("the tier's medium has not answered in time")]
    Slow,
    /// The record is longer than the buffer given for it.
    #[error("the record has {0} bytes, more than its buffer")]
    Buffer(usize),
}

/// Figures of one tier: what it holds now, and what it did since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TierStats {
    /// Records stored now.
    pub records: u64,
    /// Bytes of the medium that the readable records take, with all that surrounds them.
    pub live_bytes: u64,
    /// Bytes of the medium that are in use, live or not yet free again.
    pub used_bytes: u64,
    /// Of these, bytes that cannot be used again before some records there are discarded, which could not be
    /// read when they were to be moved.
    pub unreadable_bytes: u64,
    /// Bytes that the tier may use of its medium.
    pub capacity_bytes: u64,
    /// Bytes of memory that the tier's index takes.
    pub index_bytes: u64,
    /// Records taken.
    pub stored: u64,
    /// Records not taken because the tier was full, slow or failing.
    pub refused: u64,
    /// Records loaded well.
    pub loaded: u64,
    /// Loads that ended in an error, whatever it was.
    pub load_errors: u64,
    /// Bytes written to the medium, cleaning included.
    pub written_bytes: u64,
    /// Bytes read from the medium, cleaning included.
    pub read_bytes: u64,
    /// Bytes of records that cleaning moved.
    pub moved_bytes: u64,
}
