//! Carrying transfers to a disk and telling when they are done.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::Disk;
use super::buffers::Buffers;
use super::plain::PlainEngine;
use super::uring::UringEngine;

/// Most transfers that an [`Engine`] is given at a time.
pub(crate) const MAX_IN_FLIGHT: usize = 256;

/// How often a transfer is tried again that the kernel has no room for just now.
const MAX_RETRIES: u8 = 100;

/// What to do on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Read from this byte on.
    Read { offset: u64 },
    /// Write from this byte on; `durable`: complete no earlier than the data is durable.
    Write { offset: u64, durable: bool },
    /// Make durable all that was completed before.
    Sync,
}

/// One operation and its memory.
#[derive(Debug)]
pub(crate) struct Transfer {
    /// The caller's name for it.
    pub token: u16,
    /// What to do; a read's or write's offset moves on with what is done.
    pub operation: Operation,
    /// Where the data is or goes.
    pub buffers: Buffers,
    /// How often it was tried again without progress.
    retries: u8,
}

/// What to do about a transfer after a system call.
pub(crate) enum Step {
    /// Hand it to the kernel again: interrupted, or done in part.
    Again,
    /// It is over.
    Done(io::Result<()>),
}

impl Transfer {
    pub fn new(token: u16, operation: Operation, buffers: Buffers) -> Self {
        Transfer {
            token,
            operation,
            buffers,
            retries: 0,
        }
    }

    /// Takes the kernel's answer: bytes moved, or a negative errno.
    pub fn step(&mut self, answer: i64) -> Step {
        if answer < 0 {
            let error = i32::try_from(-answer).unwrap_or(libc::EIO);
            let again = matches!(error, libc::EINTR | libc::EAGAIN) && self.retries < MAX_RETRIES;
            if again {
                self.retries += 1;
                return Step::Again;
            }
            return Step::Done(Err(io::Error::from_raw_os_error(error)));
        }
        let moved = answer as u64;
        match &mut self.operation {
            Operation::Sync => return Step::Done(Ok(())),
            Operation::Read { offset } | Operation::Write { offset, .. } => *offset += moved,
        }
        self.buffers.advance(moved);
        self.retries = 0;
        if self.buffers.remaining() == 0 {
            Step::Done(Ok(()))
        } else if moved == 0 {
            // The file was cut short behind our back, or its file system is full.
            Step::Done(Err(io::ErrorKind::UnexpectedEof.into()))
        } else {
            Step::Again
        }
    }
}

/// A transfer that is over.
#[derive(Debug)]
pub(crate) struct Completion {
    /// The transfer, with its memory.
    pub transfer: Transfer,
    /// All of it was done, or why not.
    pub result: io::Result<()>,
}

/// Carries transfers to one disk. Dropping an engine waits for what is in flight.
pub(crate) trait Engine: Send {
    /// Takes a transfer; at most [`MAX_IN_FLIGHT`] at a time.
    fn start(&mut self, transfer: Transfer);
    /// Hands what was started to the kernel; false when some of it has to be handed over again
    /// later.
    fn submit(&mut self) -> bool;
    /// Appends what is over.
    fn reap(&mut self, completions: &mut Vec<Completion>);
    /// Blocks until something is over; returns at once when nothing is in flight.
    fn wait(&mut self);
    /// Readable while something is over and not reaped; `None` when nothing is ever left in
    /// flight by [`Engine::submit`].
    fn event_fd(&self) -> Option<RawFd>;
}

/// The best engine that the host permits.
pub(crate) fn choose(disk: &Arc<Disk>, id: &str) -> Box<dyn Engine> {
    match UringEngine::new(Arc::clone(disk)) {
        Ok(engine) => Box::new(engine),
        Err(error) => {
            tracing::warn!("disk {id}: io_uring is not available ({error}); one request at a time");
            Box::new(PlainEngine::new(Arc::clone(disk)))
        }
    }
}
