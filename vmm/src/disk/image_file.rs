//! Disks that are regular files.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use super::buffers::BounceBuffer;
use super::open::{Alignment, HostCounters};

/// The alignment that direct I/O on `file` needs, or `None` when the file system has none.
pub(super) fn direct_alignment(file: &File) -> io::Result<Option<Alignment>> {
    match statx_alignment(file)? {
        Some(Alignment { length: 0, .. }) => Ok(None),
        Some(alignment) => Ok(Some(alignment)),
        None => Ok(probe_alignment(file)),
    }
}

/// What statx(2) says: all zeros when there is no direct I/O, `None` when it says nothing (kernels
/// before 6.1, and many file systems).
pub(super) fn statx_alignment(file: &File) -> io::Result<Option<Alignment>> {
    let mut statx = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a NUL-terminated string and `statx` is valid for one struct.
    let status: c_int = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            statx.as_mut_ptr(),
        )
    };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every bit pattern is a valid `statx`, and the kernel filled it in.
    let statx = unsafe { statx.assume_init() };
    if statx.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Ok(None);
    }
    Ok(Some(Alignment {
        memory: statx.stx_dio_mem_align,
        length: statx.stx_dio_offset_align,
    }))
}

/// The smallest read that the file system takes, tried out at the start of the file.
fn probe_alignment(file: &File) -> Option<Alignment> {
    let mut buffer = BounceBuffer::new();
    [512, 1024, 2048, 4096].into_iter().find_map(|size| {
        let target = buffer.bytes(size as usize);
        // SAFETY: `target` is valid for writes of its length.
        let n = unsafe {
            libc::pread(
                file.as_raw_fd(),
                target.as_mut_ptr().cast(),
                target.len(),
                0,
            )
        };
        (n > 0).then_some(Alignment {
            memory: size,
            length: size,
        })
    })
}

/// What this process read from and wrote to storage, all disks together: the kernel keeps no such
/// count for one file.
pub(super) fn host_counters() -> io::Result<HostCounters> {
    /// Opened with the first disk: a process that can not be dumped may not open it, unless it is root.
    static COUNTERS: OnceLock<File> = OnceLock::new();
    let file = match COUNTERS.get() {
        Some(file) => file,
        None => {
            let file = File::open("/proc/self/io")?;
            COUNTERS.get_or_init(|| file)
        }
    };
    let mut bytes = [0; 1024];
    let length = file.read_at(&mut bytes, 0)?;
    let text = std::str::from_utf8(&bytes[..length]).map_err(io::Error::other)?;
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .ok_or(io::ErrorKind::InvalidData)
    };
    Ok(HostCounters {
        read_bytes: field("read_bytes:")?,
        write_bytes: field("write_bytes:")?,
        read_ops: None,
        write_ops: None,
    })
}
