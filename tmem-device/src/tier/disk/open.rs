//! Opening the file or block device: what may be overwritten, who else has it, how it is addressed.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::file::FileMedium;
use super::medium::{BLOCK, Buffer};
use super::segments;

/// What a file or block device of ours begins with.
const MAGIC: &[u8; 16] = b"vtmem spill v1\n\0";

/// Bytes that a disk tier needs at least.
pub const MIN_SIZE: u64 = 8 << 20;

/// Which disk a tier uses, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// A regular file, which is made if there is none, or a block device.
    pub path: PathBuf,
    /// Bytes that may be used of it, [`MIN_SIZE`] at least; the room is taken as it is needed.
    pub size: u64,
    /// Whether a block device may be overwritten that does not look like one of ours.
    pub overwrite: bool,
    /// How long a store may take before it is refused.
    pub store_limit: Duration,
    /// How long a load of up to 64 records may take before it fails.
    pub load_limit: Duration,
}

impl DiskConfig {
    /// `size` bytes of the file or block device `path`. Overwrites no foreign device; a store is refused after two
    /// seconds, a load fails after thirty, as long as the kernel gives a disk for a command.
    pub fn new(path: impl Into<PathBuf>, size: u64) -> Self {
        DiskConfig {
            path: path.into(),
            size,
            overwrite: false,
            store_limit: Duration::from_secs(2),
            load_limit: Duration::from_secs(30),
        }
    }
}

/// Why a file or block device cannot hold spilled pages.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The host refused to open it.
    #[error("cannot open {} to spill to: {source}; check the path, and that this user may write there", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// It is neither a regular file nor a block device.
    #[error("cannot spill to {}: it is {what}; give a file or a block device", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// Somebody else uses it.
    #[error("cannot spill to {}: it is mounted, or open in another process; give another one, or stop what uses it", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be locked, so nothing would keep two processes from writing to it.
    #[error("cannot lock {}: {source}; spill to a file system with locks", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// A regular file that holds something else.
    #[error("{} holds something that is not spilled pages; give a new file, or remove it first", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
    },
    /// A block device that was not used for spilling before.
    #[error("{} may hold data, which spilling would destroy; if it may be lost, allow it to be overwritten", path.display())]
    ForeignDevice {
        /// The device.
        path: PathBuf,
    },
    /// Less was asked for than a tier can work with.
    #[error("{size} bytes are too few to spill to; give {MIN_SIZE} at least")]
    TooSmall {
        /// What was asked for.
        size: u64,
    },
    /// The block device is smaller than was asked for.
    #[error("{} has {capacity} bytes, fewer than the {size} asked for; give a size of {capacity} at most", path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// What was asked for.
        size: u64,
        /// Bytes on the device.
        capacity: u64,
    },
    /// It does not take or return blocks.
    #[error("{} does not hold what is written to it: {source}; look after the disk, or give another one", path.display())]
    Medium {
        /// The file.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
}

/// Opens and locks what the configuration names; the medium and how many segments it has. The medium's thread calls `enter`
/// first.
pub(super) fn open(
    config: &DiskConfig,
    enter: impl FnOnce() + Send + 'static,
) -> Result<(FileMedium, u32), OpenError> {
    if config.size < MIN_SIZE {
        return Err(OpenError::TooSmall { size: config.size });
    }
    let path = config.path.as_path();
    // Looked at before it is opened: opening a tape or a pipe has effects.
    let expected = match std::fs::metadata(path) {
        Ok(metadata) => Some(is_regular(path, &metadata)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(open_error(path, error)),
    };
    let file = open_file(path, expected)?;
    let metadata = file.metadata().map_err(|error| open_error(path, error))?;
    let regular = is_regular(path, &metadata)?;
    if expected.is_some_and(|expected| expected != regular) {
        return Err(OpenError::Busy {
            path: path.to_owned(),
        });
    }
    lock(&file, path)?;
    let medium = |source| OpenError::Medium {
        path: path.to_owned(),
        source,
    };
    let capacity = (&file).seek(SeekFrom::End(0)).map_err(medium)?;
    let begin = direct_or_not(&file, path, || begin_of(&file)).map_err(medium)?;
    let ours = begin.starts_with(MAGIC);
    if regular {
        if capacity > 0 && !ours {
            return Err(OpenError::ForeignFile {
                path: path.to_owned(),
            });
        }
        file.set_len(0).map_err(medium)?;
    } else {
        if !ours && !config.overwrite {
            return Err(OpenError::ForeignDevice {
                path: path.to_owned(),
            });
        }
        if capacity < config.size {
            return Err(OpenError::Device {
                path: path.to_owned(),
                size: config.size,
                capacity,
            });
        }
    }
    direct_or_not(&file, path, || mark(&file)).map_err(medium)?;
    let count = segments::count(config.size);
    let medium = FileMedium::new(file, regular, enter).map_err(medium)?;
    Ok((medium, count))
}

/// Whether it is a regular file, else a block device.
fn is_regular(path: &Path, metadata: &Metadata) -> Result<bool, OpenError> {
    let kind = metadata.file_type();
    let what = if kind.is_file() || kind.is_block_device() {
        return Ok(kind.is_file());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "something else"
    };
    Err(OpenError::Kind {
        path: path.to_owned(),
        what,
    })
}

/// Opens what is there, or makes a file that only its owner may read: it will hold guests' memory.
fn open_file(path: &Path, regular: Option<bool>) -> Result<File, OpenError> {
    // The kernel refuses a device that is mounted, or that somebody else has opened so.
    let exclusive = if regular == Some(false) {
        libc::O_EXCL
    } else {
        0
    };
    let open = |direct| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(regular.is_none())
            .mode(0o600)
            .custom_flags(direct | exclusive | libc::O_NOCTTY)
            .open(path)
    };
    let opened = match open(libc::O_DIRECT) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let file = open(0);
            if file.is_ok() {
                warn_buffered(path);
            }
            file
        }
        opened => opened,
    };
    opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY | libc::ETXTBSY) => OpenError::Busy {
            path: path.to_owned(),
        },
        _ => open_error(path, error),
    })
}

fn open_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Open {
        path: path.to_owned(),
        source,
    }
}

fn warn_buffered(path: &Path) {
    tracing::warn!(
        "{} has no direct I/O: pages spilled to it pass through the host's page cache",
        path.display()
    );
}

/// Does `io`; when direct I/O is what it fails for, once more without.
fn direct_or_not<T>(file: &File, path: &Path, io: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let result = io();
    let flags = rustix::fs::fcntl_getfl(file)?;
    match result {
        Err(error)
            if error.raw_os_error() == Some(libc::EINVAL) && flags.contains(OFlags::DIRECT) =>
        {
            rustix::fs::fcntl_setfl(file, flags.difference(OFlags::DIRECT))?;
            warn_buffered(path);
            io()
        }
        result => result,
    }
}

/// What the file begins with, as far as it goes.
fn begin_of(file: &File) -> io::Result<[u8; MAGIC.len()]> {
    let mut buffer = Buffer::new(BLOCK);
    loop {
        match file.read_at(buffer.bytes_mut(), 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    let mut begin = [0; MAGIC.len()];
    begin.copy_from_slice(&buffer.bytes()[..MAGIC.len()]);
    Ok(begin)
}

/// Marks the file as ours, and sees that it takes and returns blocks.
fn mark(file: &File) -> io::Result<()> {
    let mut buffer = Buffer::new(BLOCK);
    buffer.bytes_mut()[..MAGIC.len()].copy_from_slice(MAGIC);
    file.write_all_at(buffer.bytes(), 0)?;
    if begin_of(file)? == *MAGIC {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Locks the whole file. The lock belongs to the open file description: it ends with it, it excludes the
/// disks of guests, which are locked in the same way, and unlike flock(2) it does not meet udev,
/// which takes that for a moment whenever it looks at a block device.
fn lock(file: &File, path: &Path) -> Result<(), OpenError> {
    let range = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: F_OFD_SETLK reads one flock structure.
    let status = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
    if status == 0 {
        return Ok(());
    }
    let source = io::Error::last_os_error();
    let path = path.to_owned();
    Err(match source.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => OpenError::Busy { path },
        _ => OpenError::Lock { path, source },
    })
}

#[cfg(test)]
#[path = "open_test.rs"]
mod tests;
