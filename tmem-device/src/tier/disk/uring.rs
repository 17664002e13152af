//! Batches by io_uring.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, types};

use super::medium::{Batch, Direction, TimedOut};

/// Transfers that one ring has with the kernel at a time.
const ENTRIES: usize = 64;

/// How often a transfer is tried again that the kernel has no room for just now.
const MAX_RETRIES: u32 = 100;

/// How long to leave the kernel alone when it does not take transfers.
const PAUSE: Duration = Duration::from_millis(1);

/// A ring that carries one batch at a time.
pub(super) struct Ring {
    ring: IoUring,
    file: Arc<File>,
    /// What the kernel works on. Neither it nor its buffers are touched while `in_flight` is not 0.
    batch: Option<Batch>,
    /// Bytes done of each transfer.
    done: Vec<usize>,
    /// Transfers still to be handed to the kernel.
    waiting: Vec<usize>,
    in_flight: usize,
    retries: u32,
}

impl Ring {
    /// Sets the ring up; an error when the host does not permit one.
    pub fn new(file: Arc<File>) -> io::Result<Self> {
        let ring = IoUring::builder()
            .dontfork()
            .setup_r_disabled()
            .build(ENTRIES as u32)?;
        // System call filters do not see what a ring is asked for.
        let mut allowed = [
            Restriction::sqe_op(opcode::Read::CODE),
            Restriction::sqe_op(opcode::Write::CODE),
        ];
        ring.submitter().register_restrictions(&mut allowed)?;
        ring.submitter().register_enable_rings()?;
        if !ring.params().is_feature_ext_arg() {
            // Without it there is no waiting for a limited time.
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Ring {
            ring,
            file,
            batch: None,
            done: Vec::new(),
            waiting: Vec::new(),
            in_flight: 0,
            retries: 0,
        })
    }

    /// Carries out the batch. When time runs out, the ring keeps it, and [`Ring::finish`] waits for the rest.
    pub fn run(&mut self, batch: Batch, deadline: Instant) -> Result<Batch, TimedOut> {
        debug_assert_eq!(self.in_flight, 0);
        self.done = vec![0; batch.transfers.len()];
        self.waiting = (0..batch.transfers.len()).rev().collect();
        self.retries = 0;
        self.batch = Some(batch);
        while self.in_flight > 0 || !self.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.waiting.clear();
                return Err(TimedOut);
            }
            self.fill();
            self.wait(Some(left));
            self.reap();
        }
        self.batch.take().ok_or(TimedOut)
    }

    /// Waits until the kernel is done with the batch, however long that takes.
    fn finish(&mut self) {
        while !self.finish_within(Duration::MAX) {}
    }

    /// Waits until the kernel is done with the batch, or something of it, for about `limit`; whether it is done with all.
    pub fn finish_within(&mut self, limit: Duration) -> bool {
        // What would have to be tried again is not.
        self.waiting.clear();
        if self.in_flight > 0 {
            self.wait((limit != Duration::MAX).then_some(limit));
            self.reap();
            self.waiting.clear();
        }
        if self.in_flight == 0 {
            self.batch = None;
        }
        self.in_flight == 0
    }

    /// Hands over transfers while there is room.
    fn fill(&mut self) {
        let Some(batch) = &mut self.batch else { return };
        let direction = batch.direction;
        let fd = types::Fd(self.file.as_raw_fd());
        while self.in_flight < ENTRIES
            && let Some(at) = self.waiting.pop()
        {
            let transfer = &mut batch.transfers[at];
            let done = self.done[at];
            let offset = transfer.offset + done as u64;
            let rest = &mut transfer.buffer.bytes_mut()[done..];
            let length = rest.len() as u32;
            let entry = match direction {
                Direction::Read => opcode::Read::new(fd, rest.as_mut_ptr(), length)
                    .offset(offset)
                    .build(),
                Direction::Write => opcode::Write::new(fd, rest.as_ptr(), length)
                    .offset(offset)
                    .build(),
            };
            // SAFETY: the buffer belongs to `self.batch`, which is neither touched nor dropped before
            // the completion was reaped, by `run`, `finish` or `drop`; `self.file` is open as long.
            let pushed = unsafe { self.ring.submission().push(&entry.user_data(at as u64)) };
            if pushed.is_err() {
                self.waiting.push(at);
                return;
            }
            self.in_flight += 1;
        }
    }

    /// Submits what was handed over, and waits for one completion, for `limit` at most.
    fn wait(&mut self, limit: Option<Duration>) {
        let result = match limit {
            Some(limit) => {
                let limit = types::Timespec::from(limit);
                let args = types::SubmitArgs::new().timespec(&limit);
                self.ring.submitter().submit_with_args(1, &args)
            }
            None => self.ring.submit_and_wait(1),
        };
        match result.map_err(|error| error.raw_os_error()) {
            Ok(_) | Err(Some(libc::EINTR | libc::ETIME)) => {}
            // No memory for the requests just now, or completions to be reaped first.
            Err(_) => std::thread::sleep(PAUSE),
        }
    }

    /// Takes what the kernel is done with.
    fn reap(&mut self) {
        let Some(batch) = &mut self.batch else { return };
        for answer in self.ring.completion() {
            self.in_flight -= 1;
            let at = answer.user_data() as usize;
            let transfer = &mut batch.transfers[at];
            let moved = answer.result();
            if moved < 0 {
                let again = matches!(-moved, libc::EINTR | libc::EAGAIN);
                if again && self.retries < MAX_RETRIES {
                    self.retries += 1;
                    self.waiting.push(at);
                } else {
                    transfer.result = Err(io::Error::from_raw_os_error(-moved));
                }
                continue;
            }
            self.done[at] += moved as usize;
            if self.done[at] < transfer.buffer.len() {
                if moved == 0 {
                    // The file was cut short behind our back, or its file system is full.
                    transfer.result = Err(io::ErrorKind::UnexpectedEof.into());
                } else {
                    self.waiting.push(at);
                }
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.finish();
    }
}
