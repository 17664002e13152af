//! `idle-splice`: a splice from a pipe that nobody writes to, into a file. It holds the file system's protection against freezing
//! for as long as it waits, as any user's program may.

use crate::context::about;
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::AsRawFd as _;
use std::path::Path;

/// Waits in vain, until this process is killed.
///
/// # Errors
/// The file cannot be made, or the kernel refuses.
pub fn run(path: &Path) -> io::Result<()> {
    let file = File::create(path).map_err(about(path.display()))?;
    let (idle, _open) = io::pipe()?;
    println!("splicing");
    splice(&idle, &file)
}

/// Splices a byte into the file as soon as there is one, or the pipe's other end is closed.
///
/// # Errors
/// The kernel refuses.
pub fn splice(idle: &PipeReader, file: &File) -> io::Result<()> {
    // SAFETY: descriptors of ours, and no offsets.
    let spliced = unsafe {
        libc::splice(
            idle.as_raw_fd(),
            std::ptr::null_mut(),
            file.as_raw_fd(),
            std::ptr::null_mut(),
            1,
            0,
        )
    };
    match spliced {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
