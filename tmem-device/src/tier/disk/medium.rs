//! What a disk tier asks of its medium. [`file`](super::file) is the real one; the tests have one
//! that fails in every way known (`fault`).

use std::io;
use std::time::Instant;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the smallest unit that is read and written: offsets, lengths and addresses of transfers are
/// multiples of it. No disk in use has larger logical blocks.
pub(super) const BLOCK: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

/// Memory for a transfer, zeroed at first.
pub(super) struct Buffer(Vec<Block>);

impl Buffer {
    /// `length` is a multiple of [`BLOCK`].
    pub fn new(length: usize) -> Self {
        debug_assert!(length.is_multiple_of(BLOCK));
        Buffer(vec![Block([0; BLOCK]); length / BLOCK])
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }

    pub fn len(&self) -> usize {
        self.0.len() * BLOCK
    }
}

/// Which way the data of a batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// One piece of the medium, read or written as a whole.
pub(super) struct Transfer {
    /// Bytes from the medium's begin.
    pub offset: u64,
    pub buffer: Buffer,
    /// Set by [`Medium::run`]: all of it was done, or why not.
    pub result: io::Result<()>,
}

impl Transfer {
    pub fn new(offset: u64, buffer: Buffer) -> Self {
        Transfer {
            offset,
            buffer,
            result: Ok(()),
        }
    }
}

/// Transfers that are done side by side.
pub(super) struct Batch {
    pub direction: Direction,
    pub transfers: Vec<Transfer>,
    /// Dropped with the batch, so when the medium no longer reads or writes what the batch names.
    pub _pins: Box<dyn Send>,
}

/// The medium has not done everything in time. It keeps the batch until it has.
#[derive(Debug)]
pub(super) struct TimedOut;

/// A place for blocks.
pub(super) trait Medium: Send + Sync {
    /// Carries out a batch and returns it with the result of each transfer; a transfer that was
    /// not carried out as a whole has an error.
    fn run(&self, batch: Batch, deadline: Instant) -> Result<Batch, TimedOut>;

    /// Has the medium set room aside, so that it runs out of it now rather than when data comes.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;
}
