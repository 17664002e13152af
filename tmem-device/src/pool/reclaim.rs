//! How memory goes back to the kernel: offered, so that it may take it when it wants (`MADV_FREE`), or returned at once
//! (`MADV_DONTNEED`).
//!
//! Either makes every processor that runs the process forget what it knows of the pages' addresses, which it is told by an
//! interrupt; where processors are virtual, that is an exit. Since Linux 6.13 a process may advise on many ranges of its own by one
//! `process_madvise`, and since 6.16 that interrupts once for all of them (`mm/madvise.c`). So segments are offered several at
//! once. Older kernels are asked range by range.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

/// Ranges that are offered together. So many but one may wait: 896 KiB of segments that the kernel cannot take yet.
pub(super) const TOGETHER: usize = 8;

/// A range of memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub begin: NonNull<u8>,
    /// Bytes; a multiple of a page, as the beginning is.
    pub length: usize,
}

// SAFETY: no more than an address and a number; who reads or writes there says why that is sound.
unsafe impl Send for Range {}

/// What goes between the pool and the kernel.
pub(super) struct Reclaim {
    /// What is to be offered. The lock is held while the kernel is told, so what was withdrawn is not offered any more.
    waiting: Mutex<Vec<Range>>,
    /// Names this process to the kernel.
    own: Option<OwnedFd>,
    /// The kernel must be asked range by range.
    one_by_one: AtomicBool,
}

impl Reclaim {
    pub fn new() -> Self {
        // SAFETY: plain numbers; a descriptor that is returned is new, and nobody else's.
        let own = unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
        };
        Reclaim {
            waiting: Mutex::new(Vec::with_capacity(TOGETHER)),
            one_by_one: AtomicBool::new(own.is_none()),
            own,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Range>> {
        self.waiting
            .lock()
            .expect("no thread panics while it holds what is to be offered")
    }

    /// Lets the kernel take memory, now or with what is offered next, until it is written to.
    ///
    /// # Safety
    /// It stays mapped as long as this lives; it is withdrawn before anyone writes to it who reckons with reading the same
    /// again; and whoever reads from it meanwhile reckons with zeros.
    pub unsafe fn offer(&self, range: Range) {
        let mut waiting = self.lock();
        waiting.push(range);
        if waiting.len() >= TOGETHER || self.one_by_one.load(Relaxed) {
            // SAFETY: as the caller says, of each of them. If it fails, the pages stay as they are.
            unsafe { self.advise(&waiting, libc::MADV_FREE) };
            waiting.clear();
        }
    }

    /// Memory will be written to: from now on nothing makes the kernel take it that was asked for before.
    pub fn withdraw(&self, range: Range) {
        self.lock().retain(|waiting| *waiting != range);
    }

    /// Returns memory to the kernel at once; it reads as zeros then.
    ///
    /// # Safety
    /// It is mapped, and what is in it is not needed any more.
    pub unsafe fn discard(&self, ranges: &[Range]) {
        // SAFETY: as the caller says. It cannot fail for memory that is mapped and not locked; and if it did, the pages would
        // stay, with what is in them.
        unsafe { self.advise(ranges, libc::MADV_DONTNEED) }
    }

    /// # Safety
    /// The advice may be given on all ranges.
    unsafe fn advise(&self, ranges: &[Range], advice: i32) {
        // SAFETY: as the caller says.
        let mut advised = unsafe { self.advise_together(ranges, advice) };
        for range in ranges {
            match advised.checked_sub(range.length) {
                Some(rest) => advised = rest,
                None => {
                    advised = 0;
                    // SAFETY: as above.
                    unsafe { libc::madvise(range.begin.as_ptr().cast(), range.length, advice) };
                }
            }
        }
    }

    /// Advises on ranges, from the first on, by one call if that is possible; on how many bytes.
    ///
    /// # Safety
    /// As for [`Reclaim::advise`].
    unsafe fn advise_together(&self, ranges: &[Range], advice: i32) -> usize {
        let Some(own) = &self.own else { return 0 };
        if ranges.len() < 2 || self.one_by_one.load(Relaxed) {
            return 0;
        }
        let vectors: Vec<_> = ranges
            .iter()
            .map(|range| libc::iovec {
                iov_base: range.begin.as_ptr().cast(),
                iov_len: range.length,
            })
            .collect();
        // SAFETY: as the caller says; the vectors outlive the call.
        let advised = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                own.as_raw_fd(),
                vectors.as_ptr(),
                vectors.len(),
                advice,
                0,
            )
        };
        if advised <= 0 {
            self.one_by_one.store(true, Relaxed);
        }
        usize::try_from(advised).unwrap_or(0)
    }
}

#[cfg(test)]
#[path = "reclaim_test.rs"]
mod tests;
