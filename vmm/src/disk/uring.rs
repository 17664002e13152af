//! Many transfers in flight, by io_uring.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};

use super::Disk;
use super::engine::{Completion, Engine, MAX_IN_FLIGHT, Operation, Step, Transfer};

/// An engine with a ring of its own.
pub(crate) struct UringEngine {
    ring: IoUring,
    /// What the kernel was or will be handed, by the entry's user data. It stays here, and so
    /// does its memory, until the kernel is done with it.
    slots: Vec<Option<Transfer>>,
    free: Vec<usize>,
    disk: Arc<Disk>,
}

impl UringEngine {
    /// Sets the ring up; an error when the host does not permit one.
    pub fn new(disk: Arc<Disk>) -> io::Result<Self> {
        // One entry a transfer: the submission queue can never be full.
        let ring = IoUring::builder()
            .dontfork()
            .setup_r_disabled()
            .build(MAX_IN_FLIGHT as u32)?;
        // System call filters do not see what a ring is asked for: this ring takes nothing else.
        let mut allowed = [
            Restriction::sqe_op(opcode::Readv::CODE),
            Restriction::sqe_op(opcode::Writev::CODE),
            Restriction::sqe_op(opcode::Fsync::CODE),
        ];
        ring.submitter().register_restrictions(&mut allowed)?;
        ring.submitter().register_enable_rings()?;
        Ok(UringEngine {
            ring,
            slots: (0..MAX_IN_FLIGHT).map(|_| None).collect(),
            free: (0..MAX_IN_FLIGHT).rev().collect(),
            disk,
        })
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn push(&mut self, slot: usize) {
        let Some(transfer) = &self.slots[slot] else {
            return;
        };
        let entry = entry(self.disk.file().as_raw_fd(), transfer).user_data(slot as u64);
        // SAFETY: the iovecs and the memory behind them stay in the slot until the completion
        // was reaped; the file is open for as long as `disk` lives.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        debug_assert!(pushed.is_ok(), "more entries than transfers");
    }
}

fn entry(fd: RawFd, transfer: &Transfer) -> squeue::Entry {
    let fd = types::Fd(fd);
    let iovecs = transfer.buffers.iovecs();
    // At most UIO_MAXIOV.
    let count = iovecs.len() as u32;
    match transfer.operation {
        Operation::Read { offset } => opcode::Readv::new(fd, iovecs.as_ptr(), count)
            .offset(offset)
            .build(),
        Operation::Write { offset, durable } => opcode::Writev::new(fd, iovecs.as_ptr(), count)
            .offset(offset)
            .rw_flags(if durable { libc::RWF_DSYNC } else { 0 })
            .build(),
        Operation::Sync => opcode::Fsync::new(fd)
            .flags(types::FsyncFlags::DATASYNC)
            .build(),
    }
}

impl Engine for UringEngine {
    fn start(&mut self, transfer: Transfer) {
        let slot = self.free.pop().expect("more than MAX_IN_FLIGHT transfers");
        self.slots[slot] = Some(transfer);
        self.push(slot);
    }

    fn submit(&mut self) -> bool {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // No memory for the requests just now, or completions to be reaped first.
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
        true
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) {
        loop {
            let answer = self.ring.completion().next();
            let Some(answer) = answer else { return };
            let slot = answer.user_data() as usize;
            let Some(mut transfer) = self.slots[slot].take() else {
                continue;
            };
            match transfer.step(i64::from(answer.result())) {
                Step::Again => {
                    self.slots[slot] = Some(transfer);
                    self.push(slot);
                }
                Step::Done(result) => {
                    self.free.push(slot);
                    completions.push(Completion { transfer, result });
                }
            }
        }
    }

    fn wait(&mut self) {
        if self.in_flight() == 0 || !self.ring.completion().is_empty() {
            return;
        }
        match self.ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                std::thread::sleep(Duration::from_millis(1));
            }
            _ => {}
        }
    }

    fn event_fd(&self) -> Option<RawFd> {
        Some(self.ring.as_raw_fd())
    }
}

impl Drop for UringEngine {
    fn drop(&mut self) {
        // The kernel may write to the memory of a transfer until its completion is there.
        let mut completions = Vec::new();
        while self.in_flight() > 0 {
            self.wait();
            self.reap(&mut completions);
        }
    }
}

#[cfg(test)]
#[path = "uring_test.rs"]
mod tests;
