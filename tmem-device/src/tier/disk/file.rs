//! The medium that is a file or block device.
//!
//! Each call takes a ring from a small stock, carries out its batch on the caller's own thread and gives
//! the ring back: nobody else has to wake up for it. Writes never take more than half of the
//! rings, so loads find one however slow a write is. A batch that is not done in time is waited for by a
//! thread of its own, with its ring, its buffers and its place on the medium; until that is over,
//! nothing more is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::medium::{Batch, Direction, Medium, TimedOut};
use super::uring::Ring;

/// Batches of reads under way at a time.
const READERS: usize = 8;

/// Batches of writes under way at a time.
const WRITERS: usize = 4;

/// A file or block device, open for reading and writing.
pub(super) struct FileMedium {
    file: Arc<File>,
    /// Whether it is a regular file.
    regular: bool,
    rings: Arc<Rings>,
}

impl FileMedium {
    /// `file` is locked and may be written to anywhere.
    pub fn new(file: File, regular: bool) -> Self {
        let file = Arc::new(file);
        let first = Ring::new(Arc::clone(&file));
        if let Err(error) = &first {
            tracing::warn!(
                "spilled pages are read one after the other and without a limit of time: io_uring \
                 is not available ({error})"
            );
        }
        let stock = Stock {
            forbidden: first.is_err(),
            idle: first.into_iter().collect(),
            ..Stock::default()
        };
        FileMedium {
            file,
            regular,
            rings: Arc::new(Rings {
                stock: Mutex::new(stock),
                changed: Condvar::new(),
            }),
        }
    }

    /// One system call after the other, for hosts that forbid io_uring.
    fn run_plain(&self, batch: &mut Batch) {
        for transfer in &mut batch.transfers {
            let buffer = &mut transfer.buffer;
            transfer.result = match batch.direction {
                Direction::Read => self.file.read_exact_at(buffer.bytes_mut(), transfer.offset),
                Direction::Write => self.file.write_all_at(buffer.bytes(), transfer.offset),
            };
        }
    }
}

impl Medium for FileMedium {
    fn run(&self, mut batch: Batch, deadline: Instant) -> Result<Batch, TimedOut> {
        let permit = self.rings.permit(batch.direction, deadline)?;
        let Some(mut ring) = self.rings.take(&self.file) else {
            self.run_plain(&mut batch);
            return Ok(batch);
        };
        let outcome = ring.run(batch, deadline);
        match outcome {
            Ok(_) => self.rings.give_back(ring),
            Err(TimedOut) => permit.abandon(ring),
        }
        outcome
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        if !self.regular {
            return Ok(());
        }
        loop {
            match rustix::fs::fallocate(&*self.file, FallocateFlags::empty(), offset, length) {
                Err(Errno::INTR) => {}
                // Then the writes will find out.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                result => return result.map_err(io::Error::from),
            }
        }
    }
}

impl Drop for FileMedium {
    /// Gives the room back, and leaves nothing of the guests behind. No transfer is under way: its pins
    /// would hold the tier that holds this.
    fn drop(&mut self) {
        if self.regular
            && let Err(error) = self.file.set_len(0)
        {
            tracing::warn!("the spill file keeps its room: {error}; remove it by hand");
        }
    }
}

/// The rings of one medium.
struct Rings {
    stock: Mutex<Stock>,
    changed: Condvar,
}

#[derive(Default)]
struct Stock {
    idle: Vec<Ring>,
    /// No ring could be made.
    forbidden: bool,
    readers: usize,
    writers: usize,
    /// Batches of writes that are waited for by threads of their own.
    late_writes: usize,
}

impl Rings {
    fn lock(&self) -> MutexGuard<'_, Stock> {
        self.stock
            .lock()
            .expect("no thread panics while it holds the rings")
    }

    /// Waits until a batch may begin.
    fn permit(
        self: &Arc<Self>,
        direction: Direction,
        deadline: Instant,
    ) -> Result<Permit, TimedOut> {
        let mut stock = self.lock();
        loop {
            let (count, limit) = match direction {
                Direction::Read => (&mut stock.readers, READERS),
                Direction::Write => (&mut stock.writers, WRITERS),
            };
            if *count < limit && (direction == Direction::Read || stock.late_writes == 0) {
                match direction {
                    Direction::Read => stock.readers += 1,
                    Direction::Write => stock.writers += 1,
                }
                return Ok(Permit {
                    rings: Arc::clone(self),
                    direction,
                    late: false,
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || (direction == Direction::Write && stock.late_writes > 0) {
                return Err(TimedOut);
            }
            stock = self
                .changed
                .wait_timeout(stock, left)
                .expect("no thread panics while it holds the rings")
                .0;
        }
    }

    /// A ring without work; `None` when there is none and none can be made.
    fn take(&self, file: &Arc<File>) -> Option<Ring> {
        let mut stock = self.lock();
        if stock.forbidden {
            return None;
        }
        match stock.idle.pop() {
            Some(ring) => Some(ring),
            None => {
                drop(stock);
                Ring::new(Arc::clone(file)).ok()
            }
        }
    }

    fn give_back(&self, ring: Ring) {
        self.lock().idle.push(ring);
    }
}

/// Leave to have one batch under way.
struct Permit {
    rings: Arc<Rings>,
    direction: Direction,
    late: bool,
}

impl Permit {
    /// Has a thread wait for what is left of the ring's batch.
    fn abandon(mut self, mut ring: Ring) {
        self.late = true;
        if self.direction == Direction::Write {
            self.rings.lock().late_writes += 1;
        }
        let spawned = std::thread::Builder::new()
            .name("spill-late".to_owned())
            .spawn(move || {
                ring.finish();
                self.rings.give_back(ring);
            });
        if let Err(error) = spawned {
            // Then this thread has waited for the ring when it was dropped.
            tracing::warn!(
                "a slow spill disk held up its caller: no thread to wait for it: {error}"
            );
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut stock = self.rings.lock();
        match self.direction {
            Direction::Read => stock.readers -= 1,
            Direction::Write => {
                stock.writers -= 1;
                stock.late_writes -= usize::from(self.late);
            }
        }
        drop(stock);
        self.rings.changed.notify_all();
    }
}

#[cfg(test)]
#[path = "file_test.rs"]
mod tests;
