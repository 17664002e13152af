//! What a guest asks of its pools, written to a file in the order in which it is served: a trace, to try eviction on
//! (`examples/eviction`).

use std::fs::File;
use std::io::{self, Write as _};

use twox_hash::XxHash3_64;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::wire::{self, Op, OpResult};

/// Bytes that a recording may take; what the guest asks for after that is served, and not recorded.
pub const RECORD_LIMIT: u64 = 32 << 20;

/// Records that are written by one system call: 64 KiB.
const WRITTEN_AT_ONCE: usize = 2048;

/// One or more operations that were served one after the other: puts, gets, or flushes of a page, of pages of one object next to
/// each other in ascending order, that were answered alike; or another operation.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Record {
    /// `OP_*` of [`wire`].
    pub kind: U16,
    /// `S_*`, the answer.
    pub status: U16,
    /// The pool's id; of a new pool, the one it was given.
    pub pool: U32,
    /// A hash of the object's id.
    pub object: U64,
    /// The first page's index in the object.
    pub index: U64,
    /// How many pages; of a new pool, its kind.
    pub count: U64,
}

impl Record {
    fn new(op: &Op, result: &OpResult) -> Self {
        let kind = op.kind.get();
        let pool = match kind {
            wire::OP_NEW_POOL => result.value,
            _ => op.pool,
        };
        let count = match kind {
            wire::OP_FLUSH_RANGE | wire::OP_NEW_POOL => op.arg,
            _ => 1.into(),
        };
        Record {
            kind: op.kind,
            status: U16::new(result.status.get() as u16),
            pool,
            object: XxHash3_64::oneshot(&op.object).into(),
            index: op.index,
            count,
        }
    }

    /// Adds what `next` says, if that goes on where this ends.
    fn absorb(&mut self, next: &Record) -> bool {
        let mergeable = matches!(
            self.kind.get(),
            wire::OP_PUT | wire::OP_GET | wire::OP_FLUSH_PAGE
        );
        let follows = self.index.get().checked_add(self.count.get()) == Some(next.index.get());
        let alike = (self.kind, self.status, self.pool, self.object)
            == (next.kind, next.status, next.pool, next.object);
        let absorbed = mergeable && follows && alike;
        if absorbed {
            self.count += next.count;
        }
        absorbed
    }
}

/// Writes records to a file until they take [`RECORD_LIMIT`] bytes, or the file cannot be written to.
#[derive(Debug)]
pub struct Recorder {
    /// `None` once nothing more is recorded.
    file: Option<File>,
    records: Vec<Record>,
    /// Bytes that may still be written.
    room: u64,
}

impl Recorder {
    /// Records to an empty file. What this keeps in memory is written when it is dropped.
    pub fn new(file: File) -> Self {
        Self::with_limit(file, RECORD_LIMIT)
    }

    fn with_limit(file: File, bytes: u64) -> Self {
        Recorder {
            file: Some(file),
            records: Vec::with_capacity(WRITTEN_AT_ONCE),
            room: bytes,
        }
    }

    /// Records operations of one chain, and what they were answered.
    pub(super) fn note(&mut self, ops: &[Op], results: &[OpResult]) {
        for (op, result) in ops.iter().zip(results) {
            let record = Record::new(op, result);
            if self
                .records
                .last_mut()
                .is_some_and(|last| last.absorb(&record))
            {
                continue;
            }
            if self.records.len() == WRITTEN_AT_ONCE {
                self.write();
            }
            if self.file.is_none() {
                return;
            }
            self.records.push(record);
        }
    }

    fn write(&mut self) {
        let written = self.try_write();
        self.records.clear();
        if let Err(error) = written {
            tracing::warn!(%error, "virtio-tmem: the recording ends here; the guest goes on");
            self.file = None;
        }
    }

    fn try_write(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let records = self.records.as_bytes();
        let fitting = (records.len() as u64).min(self.room) as usize;
        let whole = fitting - fitting % size_of::<Record>();
        file.write_all(&records[..whole])?;
        self.room -= whole as u64;
        if whole < records.len() {
            return Err(io::Error::other(format!(
                "a recording takes {} MiB at most",
                RECORD_LIMIT >> 20
            )));
        }
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.write();
    }
}

#[cfg(test)]
#[path = "record_test.rs"]
mod tests;
