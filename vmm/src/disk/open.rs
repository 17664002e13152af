//! Opening a disk: what it is, who else has it, how big it is and how it must be addressed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Cache, DiskOptions, SECTOR, block_device, image_file};

/// The largest block that a guest with pages of 4 KiB can be asked to address.
const MAX_BLOCK: u32 = 4096;

/// Why a disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The host refused to open it.
    #[error("cannot open disk {}: {source}{hint}", path.display())]
    Open {
        /// The disk.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
        /// What to do, as a half sentence.
        hint: &'static str,
    },
    /// The host refused a thread that serves it.
    #[error("the host refuses a thread for disk {}: {source}", path.display())]
    Thread {
        /// The disk.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// It is neither a regular file nor a block device.
    #[error("disk {} is {what}; give a regular file or a block device", path.display())]
    NotADisk {
        /// The disk.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// Somebody else uses it.
    #[error(
        "disk {} is busy: mounted, open in another process, or given twice; unmount it or stop \
         what uses it (several users can share a disk only if all open it readonly)",
        path.display()
    )]
    Busy {
        /// The disk.
        path: PathBuf,
    },
    /// It cannot be locked, so nothing would keep two guests from writing to it.
    #[error("cannot lock disk {}: {source}; move it to a file system with locks", path.display())]
    Lock {
        /// The disk.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// Its size or its alignment cannot be found out.
    #[error("cannot read the geometry of disk {}: {source}", path.display())]
    Geometry {
        /// The disk.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// It has no bytes.
    #[error("disk {0} is empty; give it a size first, for instance: truncate -s 1G {0}", path.display())]
    Empty {
        /// The disk.
        path: PathBuf,
    },
    /// Its size is no multiple of its block size.
    #[error(
        "disk {0} has {size} bytes, no multiple of its block of {block} bytes; round it up: \
         truncate -s %{block} {0}",
        path.display()
    )]
    PartialBlock {
        /// The disk.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The block in bytes.
        block: u32,
    },
    /// Its file system has no direct I/O.
    #[error(
        "the file system of disk {} does not support O_DIRECT, which cache=none needs; use \
         cache=writethrough or cache=writeback",
        path.display()
    )]
    NoDirectIo {
        /// The disk.
        path: PathBuf,
    },
}

/// What direct I/O demands, in bytes, powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alignment {
    /// Of buffers' addresses.
    pub memory: u32,
    /// Of offsets on the disk and of each buffer's length.
    pub length: u32,
}

/// What the host's own block layer moved, since the disk was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HostCounters {
    /// Bytes read from storage.
    pub read_bytes: u64,
    /// Bytes written to storage.
    pub write_bytes: u64,
    /// Read operations; `None` for a regular file, for which the kernel counts none.
    pub read_ops: Option<u64>,
    /// Write operations; `None` for a regular file.
    pub write_ops: Option<u64>,
}

impl HostCounters {
    fn since(self, start: HostCounters) -> HostCounters {
        let ops = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then?));
        HostCounters {
            read_bytes: self.read_bytes.saturating_sub(start.read_bytes),
            write_bytes: self.write_bytes.saturating_sub(start.write_bytes),
            read_ops: ops(self.read_ops, start.read_ops),
            write_ops: ops(self.write_ops, start.write_ops),
        }
    }
}

/// What kind of thing the disk is on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    BlockDevice { major: u32, minor: u32 },
}

impl Kind {
    fn host_counters(self) -> io::Result<HostCounters> {
        match self {
            Kind::File => image_file::host_counters(),
            Kind::BlockDevice { major, minor } => block_device::host_counters(major, minor),
        }
    }
}

/// An open disk, locked against other users for as long as it lives.
#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    kind: Kind,
    size: u64,
    block_size: u32,
    direct: Option<Alignment>,
    cache: Cache,
    readonly: bool,
    /// The host's counters when the disk was opened; `None` when it does not show them.
    counters_at_open: Option<HostCounters>,
}

impl Disk {
    /// Opens, locks and measures the disk.
    pub fn open(options: &DiskOptions) -> Result<Disk, DiskError> {
        let path = options.path.as_path();
        let geometry = |source| DiskError::Geometry {
            path: path.to_owned(),
            source,
        };

        // Looked at before it is opened: opening a tape or a pipe has effects.
        let metadata = std::fs::metadata(path).map_err(|error| open_error(options, error))?;
        let expected = kind_of(path, &metadata)?;
        let file = open_file(options, expected)?;
        let metadata = file.metadata().map_err(geometry)?;
        let kind = kind_of(path, &metadata)?;
        if kind != expected {
            return Err(DiskError::Busy {
                path: path.to_owned(),
            });
        }
        lock(&file, options)?;

        let (size, logical_block) = match kind {
            Kind::File => (metadata.len(), SECTOR as u32),
            Kind::BlockDevice { .. } => (
                block_device::size(&file).map_err(geometry)?,
                block_device::logical_block_size(&file).map_err(geometry)?,
            ),
        };
        if size == 0 {
            return Err(DiskError::Empty {
                path: path.to_owned(),
            });
        }
        let direct = match (options.cache, kind) {
            (Cache::None, Kind::File) => Some(
                image_file::direct_alignment(&file)
                    .map_err(geometry)?
                    .ok_or_else(|| no_direct_io(path))?,
            ),
            (Cache::None, Kind::BlockDevice { .. }) => {
                let told = image_file::statx_alignment(&file).map_err(geometry)?;
                Some(told.filter(|told| told.length != 0).unwrap_or(Alignment {
                    memory: logical_block,
                    length: logical_block,
                }))
            }
            _ => None,
        };
        let block_size = logical_block.max(direct.map_or(0, |alignment| alignment.length));
        if direct.is_some_and(|a| a.length > MAX_BLOCK || a.memory > MAX_BLOCK) {
            return Err(no_direct_io(path));
        }
        if !size.is_multiple_of(u64::from(block_size)) {
            return Err(DiskError::PartialBlock {
                path: path.to_owned(),
                size,
                block: block_size,
            });
        }
        let counters_at_open = kind.host_counters().ok();
        Ok(Disk {
            file,
            kind,
            size,
            block_size,
            direct,
            cache: options.cache,
            readonly: options.readonly,
            counters_at_open,
        })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Bytes on the disk; a multiple of the block size.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the smallest unit that the guest should address.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// What transfers must be aligned to; `None` through the page cache.
    pub fn direct(&self) -> Option<Alignment> {
        self.direct
    }

    /// The cache mode.
    pub fn cache(&self) -> Cache {
        self.cache
    }

    /// Whether the disk must not be written.
    pub fn readonly(&self) -> bool {
        self.readonly
    }

    /// What the host's block layer moved for this disk (for a regular file: for this process)
    /// since it was opened; `None` where the host does not say.
    pub fn host_counters(&self) -> Option<HostCounters> {
        Some(
            self.kind
                .host_counters()
                .ok()?
                .since(self.counters_at_open?),
        )
    }
}

fn kind_of(path: &Path, metadata: &std::fs::Metadata) -> Result<Kind, DiskError> {
    let file_type = metadata.file_type();
    let what = if file_type.is_file() {
        return Ok(Kind::File);
    } else if file_type.is_block_device() {
        let device = metadata.rdev();
        return Ok(Kind::BlockDevice {
            major: libc::major(device),
            minor: libc::minor(device),
        });
    } else if file_type.is_dir() {
        "a directory"
    } else if file_type.is_char_device() {
        "a character device"
    } else if file_type.is_fifo() {
        "a pipe"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "something else"
    };
    Err(DiskError::NotADisk {
        path: path.to_owned(),
        what,
    })
}

fn open_file(options: &DiskOptions, kind: Kind) -> Result<File, DiskError> {
    let mut flags = match options.cache {
        Cache::None => libc::O_DIRECT,
        // The kernel itself then completes no write before it is durable.
        Cache::Writethrough => libc::O_DSYNC,
        Cache::Writeback => 0,
    };
    // Refused while the device is mounted or somebody else opened it so. Not for readers: two of
    // them would exclude each other.
    if matches!(kind, Kind::BlockDevice { .. }) && !options.readonly {
        flags |= libc::O_EXCL;
    }
    OpenOptions::new()
        .read(true)
        .write(!options.readonly)
        .custom_flags(flags | libc::O_NOCTTY)
        .open(&options.path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY | libc::ETXTBSY) => DiskError::Busy {
                path: options.path.clone(),
            },
            Some(libc::EINVAL) if options.cache == Cache::None => no_direct_io(&options.path),
            _ => open_error(options, error),
        })
}

fn open_error(options: &DiskOptions, source: io::Error) -> DiskError {
    let hint = match source.kind() {
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            if !options.readonly =>
        {
            "; make it writable for this user, or add ',readonly'"
        }
        io::ErrorKind::PermissionDenied => "; make it readable for this user",
        _ => "",
    };
    DiskError::Open {
        path: options.path.clone(),
        source,
        hint,
    }
}

fn no_direct_io(path: &Path) -> DiskError {
    DiskError::NoDirectIo {
        path: path.to_owned(),
    }
}

/// Locks the whole disk, shared for readers. The lock belongs to the open file description: it
/// ends with it, it also excludes another `--disk` of this process, and unlike flock(2) it does
/// not meet udev, which takes that for a moment whenever it looks at a block device.
fn lock(file: &File, options: &DiskOptions) -> Result<(), DiskError> {
    let kind = if options.readonly {
        libc::F_RDLCK
    } else {
        libc::F_WRLCK
    };
    let range = libc::flock {
        l_type: kind as libc::c_short,
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
    Err(match source.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => DiskError::Busy {
            path: options.path.clone(),
        },
        _ => DiskError::Lock {
            path: options.path.clone(),
            source,
        },
    })
}
