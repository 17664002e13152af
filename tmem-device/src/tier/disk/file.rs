//! The medium that is a file or block device.
//!
//! Each call takes a ring from a small stock, carries out its batch on the caller's own thread and gives
//! the ring back: nobody else has to wake up for it. Some rings are for reads alone, so loads find one however slow a
//! write is. A batch that is not done in time goes to a thread that waits for such, with its ring, its buffers and its
//! place on the medium; until that is over, nothing more is written.
//!
//! All rings are made, and that thread is started, when the file is opened: later a VMM's threads may be forbidden to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::medium::{Batch, Direction, Medium, TimedOut};
use super::uring::Ring;

/// Batches of reads under way at a time.
const READERS: usize = 8;

/// Batches of writes under way at a time.
const WRITERS: usize = 4;

/// How long one late batch is waited for before the next has its turn.
const LOOK: Duration = Duration::from_millis(20);

/// A file or block device, open for reading and writing.
pub(super) struct FileMedium {
    file: Arc<File>,
    /// Whether it is a regular file.
    regular: bool,
    rings: Arc<Rings>,
    late: Late,
}

impl FileMedium {
    /// `file` is locked and may be written to anywhere. `enter` is called by the thread that waits for late batches.
    ///
    /// # Errors
    /// The host gives no thread.
    pub fn new(
        file: File,
        regular: bool,
        enter: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let file = Arc::new(file);
        let mut idle = Vec::with_capacity(READERS + WRITERS);
        while idle.len() < READERS + WRITERS {
            match Ring::new(Arc::clone(&file)) {
                Ok(ring) => idle.push(ring),
                Err(error) => {
                    tracing::warn!(
                        "some spilled pages are read one after the other and without a limit of time: io_uring is not \
                         available, or not often enough ({error})"
                    );
                    break;
                }
            }
        }
        let rings = Arc::new(Rings {
            stock: Mutex::new(Stock {
                idle,
                ..Stock::default()
            }),
            changed: Condvar::new(),
        });
        Ok(FileMedium {
            file,
            regular,
            rings,
            late: Late::start(enter)?,
        })
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
        let Some(mut ring) = self.rings.take() else {
            self.run_plain(&mut batch);
            return Ok(batch);
        };
        let outcome = ring.run(batch, deadline);
        match outcome {
            Ok(_) => self.rings.give_back(ring),
            Err(TimedOut) => self.late.wait_for(permit, ring),
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
    readers: usize,
    writers: usize,
    /// Batches of writes that are late.
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

    /// A ring without work; `None` where the host gave fewer than may be used at a time.
    fn take(&self) -> Option<Ring> {
        self.lock().idle.pop()
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

/// A batch that was not done in time. Its permit is dropped when it is.
struct LateBatch {
    permit: Permit,
    ring: Ring,
}

/// The thread that waits for late batches. It ends when this is dropped, and none is left.
struct Late(Sender<LateBatch>);

impl Late {
    fn start(enter: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new()
            .name("spill-late".to_owned())
            .spawn(move || {
                enter();
                wait_for_late(&receiver);
            })?;
        Ok(Late(sender))
    }

    fn wait_for(&self, mut permit: Permit, ring: Ring) {
        permit.late = true;
        if permit.direction == Direction::Write {
            permit.rings.lock().late_writes += 1;
        }
        // If the thread is gone, dropping the ring waits for it.
        let _ = self.0.send(LateBatch { permit, ring });
    }
}

/// Waits for late batches, all side by side.
fn wait_for_late(receiver: &Receiver<LateBatch>) {
    let mut late: Vec<LateBatch> = Vec::new();
    loop {
        let next = if late.is_empty() {
            receiver.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            receiver.try_recv()
        };
        match next {
            Ok(batch) => late.push(batch),
            Err(TryRecvError::Disconnected) if late.is_empty() => return,
            Err(_) => {}
        }
        for mut batch in std::mem::take(&mut late) {
            if batch.ring.finish_within(LOOK) {
                batch.permit.rings.give_back(batch.ring);
            } else {
                late.push(batch);
            }
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
