//! A medium in memory that fails as it is told to.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::medium::{BLOCK, Batch, Direction, Medium, TimedOut, Transfer};
use super::segments::{SEGMENT, offset};
use super::{DiskConfig, DiskTier};

/// What goes wrong with one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteFault {
    None,
    /// Fails with this errno; half of it may have landed.
    Error(i32),
    /// Only this many bytes land, and success is reported.
    Torn(usize),
    /// Lands this many blocks further on, and success is reported.
    Misdirected(usize),
    /// This bit, counted from the begin of the transfer, lands flipped.
    Flipped(usize),
    /// Is not over in time, nor before [`FaultyMedium::finish_late`].
    Late,
}

/// What goes wrong with one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFault {
    None,
    /// Fails with this errno.
    Error(i32),
    /// Only this many bytes are read, and success is reported.
    Short(usize),
    /// This bit, counted from the begin of the transfer, arrives flipped.
    Flipped(usize),
    /// Is not over in time, nor before [`FaultyMedium::finish_late`].
    Late,
}

/// What is on the medium, and what will go wrong.
pub(crate) struct Inside {
    /// What reads return.
    pub actual: Vec<u8>,
    /// What reads would return had all writes done what they reported.
    pub intended: Vec<u8>,
    /// Of the next writes, in turn; afterwards all goes well.
    pub writes: VecDeque<WriteFault>,
    /// Of the next reads, in turn.
    pub reads: VecDeque<ReadFault>,
    /// Reads that touch this fail.
    pub unreadable: Range<u64>,
    /// Bytes that the medium has room for.
    pub room: u64,
    /// Batches that are not over.
    late: Vec<Batch>,
    /// Where data was written to, in turn.
    pub written: Vec<Range<u64>>,
    /// Faults of reads so far.
    pub read_faults: u64,
}

/// Shared, so that a test can change it while a tier uses it.
#[derive(Clone)]
pub(crate) struct FaultyMedium(Arc<Mutex<Inside>>);

/// A tier of so many segments on a medium like this.
pub(crate) fn tier(segments: u32) -> (DiskTier, FaultyMedium) {
    let medium = FaultyMedium::new(segments);
    let config = DiskConfig {
        store_limit: Duration::from_secs(600),
        load_limit: Duration::from_secs(600),
        ..DiskConfig::new("", 0)
    };
    let tier = DiskTier::on(Box::new(medium.clone()), segments, &config);
    (tier, medium)
}

impl FaultyMedium {
    pub fn new(segments: u32) -> Self {
        let bytes = offset(segments) as usize;
        FaultyMedium(Arc::new(Mutex::new(Inside {
            actual: vec![0; bytes],
            intended: vec![0; bytes],
            writes: VecDeque::new(),
            reads: VecDeque::new(),
            unreadable: 0..0,
            room: bytes as u64,
            late: Vec::new(),
            written: Vec::new(),
            read_faults: 0,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().expect("no test panics while it holds it")
    }

    /// Whether these bytes differ from what was written.
    pub fn is_damaged(&self, bytes: Range<u64>) -> bool {
        let bytes = bytes.start as usize..bytes.end as usize;
        let inside = self.lock();
        inside.actual[bytes.clone()] != inside.intended[bytes]
    }

    /// Carries out what is late.
    pub fn finish_late(&self) {
        let mut inside = self.lock();
        let late = std::mem::take(&mut inside.late);
        for batch in &late {
            if batch.direction == Direction::Write {
                for transfer in &batch.transfers {
                    let bytes = transfer.buffer.bytes();
                    let at = transfer.offset as usize;
                    inside.actual[at..at + bytes.len()].copy_from_slice(bytes);
                    inside.intended[at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        // Pins take the tier's lock, under which no test calls the medium.
        drop(inside);
        drop(late);
    }
}

impl Inside {
    fn write(&mut self, transfer: &mut Transfer) {
        let fault = self.writes.pop_front().unwrap_or(WriteFault::None);
        let bytes = transfer.buffer.bytes();
        let at = transfer.offset as usize;
        self.written.push(at as u64..(at + bytes.len()) as u64);
        let mut landed = bytes.to_vec();
        let mut target = at;
        match fault {
            WriteFault::None | WriteFault::Late => {}
            WriteFault::Error(errno) => {
                transfer.result = Err(io::Error::from_raw_os_error(errno));
                landed.truncate(bytes.len() / 2);
                self.intended[at..at + landed.len()].copy_from_slice(&landed);
            }
            WriteFault::Torn(kept) => landed.truncate(kept),
            WriteFault::Misdirected(blocks) => {
                let last = self.actual.len() - bytes.len();
                target = (at + blocks * BLOCK).min(last);
            }
            WriteFault::Flipped(bit) => {
                let bit = bit % (bytes.len() * 8);
                landed[bit / 8] ^= 1 << (bit % 8);
            }
        }
        self.actual[target..target + landed.len()].copy_from_slice(&landed);
        if transfer.result.is_ok() {
            self.intended[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn read(&mut self, transfer: &mut Transfer) {
        let fault = self.reads.pop_front().unwrap_or(ReadFault::None);
        self.read_faults += u64::from(fault != ReadFault::None);
        let begin = transfer.offset;
        let bytes = transfer.buffer.bytes_mut();
        let end = begin + bytes.len() as u64;
        if begin < self.unreadable.end && self.unreadable.start < end {
            self.read_faults += 1;
            transfer.result = Err(io::Error::from_raw_os_error(libc::EIO));
            return;
        }
        let stored = &self.actual[begin as usize..end as usize];
        match fault {
            ReadFault::None | ReadFault::Late => bytes.copy_from_slice(stored),
            ReadFault::Error(errno) => {
                transfer.result = Err(io::Error::from_raw_os_error(errno));
            }
            ReadFault::Short(kept) => {
                let kept = kept.min(bytes.len());
                bytes[..kept].copy_from_slice(&stored[..kept]);
            }
            ReadFault::Flipped(bit) => {
                bytes.copy_from_slice(stored);
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

impl Medium for FaultyMedium {
    fn run(&self, mut batch: Batch, _deadline: Instant) -> Result<Batch, TimedOut> {
        let mut guard = self.lock();
        let inside = &mut *guard;
        let count = batch.transfers.len();
        let late = match batch.direction {
            Direction::Read => {
                let late = inside
                    .reads
                    .iter()
                    .take(count)
                    .any(|one| *one == ReadFault::Late);
                if late {
                    inside.reads.drain(..count.min(inside.reads.len()));
                    inside.read_faults += 1;
                }
                late
            }
            Direction::Write => {
                let late = inside
                    .writes
                    .iter()
                    .take(count)
                    .any(|one| *one == WriteFault::Late);
                if late {
                    inside.writes.drain(..count.min(inside.writes.len()));
                    for transfer in &batch.transfers {
                        let end = transfer.offset + transfer.buffer.len() as u64;
                        inside.written.push(transfer.offset..end);
                    }
                }
                late
            }
        };
        if late {
            inside.late.push(batch);
            return Err(TimedOut);
        }
        for transfer in &mut batch.transfers {
            assert!(
                transfer.offset >= BLOCK as u64,
                "the first block is not ours"
            );
            assert!(transfer.offset.is_multiple_of(BLOCK as u64), "unaligned");
            match batch.direction {
                Direction::Read => inside.read(transfer),
                Direction::Write => inside.write(transfer),
            }
        }
        Ok(batch)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        assert_eq!(length, SEGMENT as u64);
        if offset + length > self.lock().room {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        Ok(())
    }
}
