//! Reads and writes by io_uring, through the page cache: what it finds there it takes without sleeping, for the rest it waits by
//! callback, or has threads of its own that do. A kernel that has none is asked plainly.

use io_uring::{IoUring, opcode, squeue, types};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// One request at a time. The kernel's part is there from the first one on.
#[derive(Default)]
pub struct Ring {
    ring: Option<IoUring>,
}

impl Ring {
    /// Reads until `to` is full.
    ///
    /// # Errors
    /// The kernel's; the file is too short.
    pub fn read_exact_at(&mut self, file: &File, start: u64, to: &mut [u8]) -> io::Result<()> {
        let fd = types::Fd(file.as_raw_fd());
        let mut done = 0;
        while done < to.len() {
            let rest = &mut to[done..];
            let request = opcode::Read::new(fd, rest.as_mut_ptr(), rest.len() as u32)
                .offset(start + done as u64)
                .build();
            // SAFETY: `rest` is writable, as long as said, and borrowed until the request has ended.
            match unsafe { self.run(&request) } {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    return file.read_exact_at(to, start);
                }
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read?,
            }
        }
        Ok(())
    }

    /// Writes all of `from`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_all_at(&mut self, file: &File, start: u64, from: &[u8]) -> io::Result<()> {
        let fd = types::Fd(file.as_raw_fd());
        let mut done = 0;
        while done < from.len() {
            let rest = &from[done..];
            let request = opcode::Write::new(fd, rest.as_ptr(), rest.len() as u32)
                .offset(start + done as u64)
                .build();
            // SAFETY: `rest` is as long as said, and borrowed until the request has ended.
            match unsafe { self.run(&request) } {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    return file.write_all_at(from, start);
                }
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                written => done += written?,
            }
        }
        Ok(())
    }

    /// Does a request and returns how many bytes it moved.
    ///
    /// # Safety
    /// Its memory and its descriptor stay as they are until this returns.
    unsafe fn run(&mut self, request: &squeue::Entry) -> io::Result<usize> {
        let mut ring = match self.ring.take() {
            Some(ring) => ring,
            None => IoUring::new(1)?,
        };
        // SAFETY: the caller's promise; nothing is under way when this returns.
        unsafe { ring.submission().push(request) }.map_err(io::Error::other)?;
        loop {
            match ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It was not taken, and never will be: the ring goes with it.
                Err(error) if !ring.submission().is_empty() => return Err(error),
                // It is under way, and its memory must not go.
                _ => {}
            }
            let ended = ring.completion().next();
            if let Some(ended) = ended {
                self.ring = Some(ring);
                return match ended.result() {
                    error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
                    bytes => Ok(bytes as usize),
                };
            }
        }
    }
}
