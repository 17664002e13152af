//! A process that has its parent's memory.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use vtmem_workloads::workload::Outcome;

/// One that was forked off.
pub struct Forked {
    process: libc::pid_t,
    said: io::PipeReader,
}

impl Forked {
    /// Forks this process, which has a single thread; `work` runs in the child, and its outcome is the child's.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn start(work: impl FnOnce() -> Outcome) -> io::Result<Self> {
        let (said, mut say) = io::pipe()?;
        // SAFETY: with a single thread, no lock is held in the child that nobody there would release.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let outcome = work();
                let numbers = [outcome.bytes_verified, outcome.bytes_corrupt];
                let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
                let status = i32::from(say.write_all(&bytes).is_err());
                // SAFETY: ends this process, without what the parent registered to be done at its end.
                unsafe { libc::_exit(status) }
            }
            process => Ok(Self { process, said }),
        }
    }

    /// A descriptor of the process.
    ///
    /// # Errors
    /// The kernel's.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        // SAFETY: takes numbers alone.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.process, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor, which nobody else has.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// Gives the kernel advice on a range of the child's memory. Some of it may not be done.
    ///
    /// # Errors
    /// The kernel's, but for a child that has ended.
    pub fn advise(
        &self,
        to: &OwnedFd,
        address: usize,
        length: usize,
        advice: i32,
    ) -> io::Result<()> {
        let range = libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: length,
        };
        // SAFETY: the range is another process's; advices that change no content are all this is called with.
        let done = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                to.as_raw_fd(),
                &raw const range,
                1,
                advice,
                0,
            )
        };
        if done >= 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        }
    }

    /// Waits for its end, and adds what it found.
    ///
    /// # Errors
    /// It was killed, or failed.
    pub fn join(mut self, totals: &mut Outcome) -> io::Result<()> {
        let mut bytes = [0; 16];
        let said = self.said.read_exact(&mut bytes);
        let mut status = 0;
        // SAFETY: our own child, which nobody else waits for; the status is written to a number of ours.
        if unsafe { libc::waitpid(self.process, &raw mut status, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        if status != 0 || said.is_err() {
            return Err(io::Error::other(format!(
                "a forked process ended with wait status {status:#x}"
            )));
        }
        let (numbers, _) = bytes.as_chunks();
        totals.bytes_verified += u64::from_le_bytes(numbers[0]);
        totals.bytes_corrupt += u64::from_le_bytes(numbers[1]);
        Ok(())
    }
}
