//! One system call after the other: for hosts that forbid io_uring.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::Disk;
use super::engine::{Completion, Engine, Operation, Step, Transfer};

/// An engine whose transfers are over when they are submitted.
pub(crate) struct PlainEngine {
    disk: Arc<Disk>,
    done: Vec<Completion>,
}

impl PlainEngine {
    pub fn new(disk: Arc<Disk>) -> Self {
        PlainEngine {
            disk,
            done: Vec::new(),
        }
    }
}

impl Engine for PlainEngine {
    fn start(&mut self, mut transfer: Transfer) {
        let fd = self.disk.file().as_raw_fd();
        let result = loop {
            match transfer.step(call(fd, &transfer)) {
                Step::Again => {}
                Step::Done(result) => break result,
            }
        };
        self.done.push(Completion { transfer, result });
    }

    fn submit(&mut self) -> bool {
        true
    }

    fn reap(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.done);
    }

    fn wait(&mut self) {}

    fn event_fd(&self) -> Option<RawFd> {
        None
    }
}

/// One system call; the bytes it moved, or a negative errno.
fn call(fd: RawFd, transfer: &Transfer) -> i64 {
    let iovecs = transfer.buffers.iovecs();
    // At most UIO_MAXIOV.
    let count = iovecs.len() as libc::c_int;
    // SAFETY: the iovecs and the memory behind them live in `transfer`; no offset exceeds the
    // disk's size, which is an off_t.
    let answer = unsafe {
        match transfer.operation {
            Operation::Read { offset } => libc::preadv(fd, iovecs.as_ptr(), count, offset as i64),
            Operation::Write { offset, durable } => {
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                libc::pwritev2(fd, iovecs.as_ptr(), count, offset as i64, flags)
            }
            Operation::Sync => libc::fdatasync(fd) as isize,
        }
    };
    if answer < 0 {
        -i64::from(
            io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO),
        )
    } else {
        answer as i64
    }
}
