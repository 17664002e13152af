//! System calls that the standard library does not have.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use vtmem_workloads::content::PAGE_SIZE;

/// `_IOWR('f', 15, struct move_extent)`.
const EXT4_IOC_MOVE_EXT: libc::c_ulong = 0xc028_660f;
/// `_IOW(0x94, 13, struct file_clone_range)`.
const FICLONERANGE: libc::c_ulong = 0x4020_940d;
/// `_IOWR(0x94, 54, struct file_dedupe_range)`.
const FIDEDUPERANGE: libc::c_ulong = 0xc018_9436;
/// `_IOR('f', 1, long)` and `_IOW('f', 2, long)`, which read and write an int.
const FS_IOC_GETFLAGS: libc::c_ulong = 0x8008_6601;
const FS_IOC_SETFLAGS: libc::c_ulong = 0x4008_6602;
/// Data go through the journal, as metadata do.
const FS_JOURNAL_DATA_FL: u32 = 0x4000;
/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
/// `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)`.
const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;
/// `_IOWR('f', 11, struct fiemap)`.
const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
/// Extents whose blocks hold no data of the file yet, or those of others too, or not as they are read: UNKNOWN, DELALLOC, ENCODED,
/// DATA_INLINE, UNWRITTEN, SHARED.
const FIEMAP_ELSEWHERE: u32 = 0x2 | 0x4 | 0x8 | 0x200 | 0x800 | 0x2000;
/// `_IO(0, 1)`.
const FIBMAP: libc::c_ulong = 1;
/// `_IO(0x12, 127)`.
const BLKZEROOUT: libc::c_ulong = 0x127f;
/// `SG_IO`.
const SG_IO: libc::c_ulong = 0x2285;
/// `_IO(0x12, 97)`.
const BLKFLSBUF: libc::c_ulong = 0x1261;
/// Use DAX where the device can. Changing it has the inode leave memory when it is closed.
const FS_XFLAG_DAX: u32 = 0x8000;
/// Which of the requests of an aio context is a write; opcode of `struct iocb`.
const IOCB_CMD_PREAD: u16 = 0;
const IOCB_CMD_PWRITE: u16 = 1;

/// A system call's result as the standard library has it.
fn checked(result: impl Into<i64>) -> io::Result<i64> {
    match result.into() {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

fn ioctl<T>(file: &File, request: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: every caller passes the structure that the request reads and writes.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), request, std::ptr::from_mut(argument)) })
        .map(drop)
}

/// `fallocate` on bytes.
pub fn fallocate(file: &File, mode: i32, start: u64, length: u64) -> io::Result<()> {
    // SAFETY: an open file; no memory is involved.
    checked(unsafe { libc::fallocate(file.as_raw_fd(), mode, start as i64, length as i64) })
        .map(drop)
}

/// Asks the kernel to drop the file's pages from its page cache.
pub fn forget(file: &File) -> io::Result<()> {
    // SAFETY: an open file; no memory is involved.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Swaps the blocks of `count` pages from `first` on between two files of ext4. What `to` had goes to `from`, unless
/// less than all was done.
///
/// # Errors
/// The kernel's; pages may have moved nonetheless, but the content of `to` is unchanged.
pub fn move_extent(to: &File, from: &File, first: u32, count: u32) -> io::Result<u64> {
    #[repr(C)]
    struct MoveExtent {
        reserved: u32,
        donor_fd: u32,
        orig_start: u64,
        donor_start: u64,
        len: u64,
        moved_len: u64,
    }
    let mut argument = MoveExtent {
        reserved: 0,
        donor_fd: from.as_raw_fd() as u32,
        orig_start: u64::from(first),
        donor_start: u64::from(first),
        len: u64::from(count),
        moved_len: 0,
    };
    ioctl(to, EXT4_IOC_MOVE_EXT, &mut argument)?;
    Ok(argument.moved_len)
}

/// Has `to` share blocks of `from`: bytes from `start` on.
pub fn clone_range(to: &File, from: &File, start: u64, length: u64) -> io::Result<()> {
    let mut argument = [from.as_raw_fd() as u64, start, length, start];
    ioctl(to, FICLONERANGE, &mut argument)
}

/// Has `to` share blocks of `from` where both have the same content: bytes from `start` on. Whether they have.
pub fn share_same(to: &File, from: &File, start: u64, length: u64) -> io::Result<bool> {
    #[repr(C)]
    struct DedupeRange {
        src_offset: u64,
        src_length: u64,
        dest_count: u16,
        reserved: [u16; 3],
        dest_fd: i64,
        dest_offset: u64,
        bytes_deduped: u64,
        status: i32,
        reserved2: u32,
    }
    let mut argument = DedupeRange {
        src_offset: start,
        src_length: length,
        dest_count: 1,
        reserved: [0; 3],
        dest_fd: i64::from(to.as_raw_fd()),
        dest_offset: start,
        bytes_deduped: 0,
        status: 0,
        reserved2: 0,
    };
    ioctl(from, FIDEDUPERANGE, &mut argument)?;
    match argument.status {
        error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
        same => Ok(same == 0),
    }
}

/// Has the file's data go through the journal of ext4 or not; `None`: changes that.
pub fn journal_data(file: &File, wanted: Option<bool>) -> io::Result<()> {
    let mut flags = 0_u64;
    ioctl(file, FS_IOC_GETFLAGS, &mut flags)?;
    let now = flags & u64::from(FS_JOURNAL_DATA_FL) != 0;
    if wanted == Some(now) {
        return Ok(());
    }
    flags ^= u64::from(FS_JOURNAL_DATA_FL);
    ioctl(file, FS_IOC_SETFLAGS, &mut flags)
}

/// Has the file's inode leave memory with its last descriptor, its pages still in the page cache.
pub fn uncache(file: &File) -> io::Result<()> {
    // struct fsxattr: flags first.
    let mut attributes = [0_u32; 7];
    ioctl(file, FS_IOC_FSGETXATTR, &mut attributes)?;
    attributes[0] ^= FS_XFLAG_DAX;
    ioctl(file, FS_IOC_FSSETXATTR, &mut attributes)
}

/// Freezes or thaws the file's file system.
pub fn freeze(file: &File, frozen: bool) -> io::Result<()> {
    ioctl(file, if frozen { FIFREEZE } else { FITHAW }, &mut 0_i32)
}

/// Where on the disk a page of the file, and of no other, is; none for a hole, and for what is not written yet.
pub fn block_of(file: &File, page: u32) -> io::Result<Option<u32>> {
    // struct fiemap with room for one extent.
    #[repr(C)]
    #[derive(Default)]
    struct Fiemap {
        start: u64,
        length: u64,
        flags: u32,
        mapped_extents: u32,
        extent_count: u32,
        reserved: u32,
        logical: u64,
        physical: u64,
        extent_length: u64,
        reserved64: [u64; 2],
        extent_flags: u32,
        reserved32: [u32; 3],
    }
    let start = u64::from(page) * PAGE_SIZE as u64;
    let mut map = Fiemap {
        start,
        length: PAGE_SIZE as u64,
        extent_count: 1,
        ..Fiemap::default()
    };
    ioctl(file, FS_IOC_FIEMAP, &mut map)?;
    if map.mapped_extents == 0 || map.extent_flags & FIEMAP_ELSEWHERE != 0 || map.logical > start {
        return Ok(None);
    }
    let place = map.physical + (start - map.logical);
    Ok(Some((place / PAGE_SIZE as u64) as u32))
}

/// Zeroes a page of a block device, past who has mounted it.
pub fn zero_out(device: &File, start: u64) -> io::Result<()> {
    let mut range = [start, PAGE_SIZE as u64];
    ioctl(device, BLKZEROOUT, &mut range)
}

/// Sends a disk a command of its own kind that has data for it; most disks know none.
pub fn send_command(device: &File) -> io::Result<()> {
    // struct sg_io_hdr: 'S', and the direction from here to the disk.
    let mut header = [0_i32; 22];
    header[0] = i32::from(b'S');
    header[1] = -2;
    ioctl(device, SG_IO, &mut header)
}

/// Asks where on the disk the first page of the file is, as who then writes there does.
pub fn ask_block(file: &File) -> io::Result<()> {
    ioctl(file, FIBMAP, &mut 0_u32)
}

/// What `quotactl` is asked for, of users' quotas.
#[derive(Clone, Copy, Debug)]
pub enum Quota {
    /// Keep them in a file from now on.
    On = 0x80_0002,
    /// No longer.
    Off = 0x80_0003,
}

/// Asks for it, of the file system on `device`; they are kept in `file`.
pub fn quota(what: Quota, device: &Path, file: &Path) -> io::Result<()> {
    const USERS: i32 = 0;
    /// The format of version 1, by which numbers have 64 bits.
    const QFMT_VFS_V1: i32 = 4;
    let (device, file) = (c_string(device)?, c_string(file)?);
    let command = ((what as u32) << 8) as i32 | USERS;
    // SAFETY: strings that end with zero.
    checked(unsafe {
        libc::quotactl(
            command,
            device.as_ptr(),
            QFMT_VFS_V1,
            file.as_ptr().cast_mut().cast(),
        )
    })
    .map(drop)
}

/// Tells the kernel to forget what it cached of a block device.
pub fn flush_device(device: &File) -> io::Result<()> {
    // SAFETY: the request takes no argument.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), BLKFLSBUF, 0) }).map(drop)
}

/// A request of the network block device: `_IO(0xab, number)`, and a number.
pub fn network_block_device(device: &File, number: u8, argument: u64) -> io::Result<()> {
    let request = 0xab00 | libc::c_ulong::from(number);
    // SAFETY: no request that takes a number has the kernel touch memory of this process.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), request, argument) }).map(drop)
}

/// The number of the thread that asks.
pub fn thread_id() -> i32 {
    // SAFETY: takes no argument, and cannot fail.
    unsafe { libc::gettid() }
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other)
}

/// Gives a file without a name this one.
pub fn link(file: &File, path: &Path) -> io::Result<()> {
    let from =
        CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(io::Error::other)?;
    let to = c_string(path)?;
    let (dir, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
    // SAFETY: two strings that end with zero.
    checked(unsafe { libc::linkat(dir, from.as_ptr(), dir, to.as_ptr(), follow) }).map(drop)
}

/// Swaps to the file, before everything else.
pub fn swapon(path: &Path) -> io::Result<()> {
    const PREFER: i32 = 0x8000 | 0x7fff;
    let path = c_string(path)?;
    // SAFETY: a string that ends with zero.
    checked(unsafe { libc::swapon(path.as_ptr(), PREFER) }).map(drop)
}

/// No longer swaps to the file.
pub fn swapoff(path: &Path) -> io::Result<()> {
    let path = c_string(path)?;
    // SAFETY: a string that ends with zero.
    checked(unsafe { libc::swapoff(path.as_ptr()) }).map(drop)
}

/// Mounts `device` at `directory`; `readonly` and `anew` as the flags of mount(2).
pub fn mount(
    device: &Path,
    directory: &Path,
    fs: &str,
    readonly: bool,
    anew: bool,
) -> io::Result<()> {
    mount_with(device, directory, fs, readonly, anew, "")
}

/// The same, with the file system's own `options`.
pub fn mount_with(
    device: &Path,
    directory: &Path,
    fs: &str,
    readonly: bool,
    anew: bool,
    options: &str,
) -> io::Result<()> {
    let (device, directory) = (c_string(device)?, c_string(directory)?);
    let fs = CString::new(fs).map_err(io::Error::other)?;
    let options = CString::new(options).map_err(io::Error::other)?;
    let flags = libc::MS_NOATIME
        | if readonly { libc::MS_RDONLY } else { 0 }
        | if anew { libc::MS_REMOUNT } else { 0 };
    let (device, directory) = (device.as_ptr(), directory.as_ptr());
    // SAFETY: strings that end with zero.
    checked(unsafe {
        libc::mount(
            device,
            directory,
            fs.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    })
    .map(drop)
}

/// Unmounts what is mounted at `directory`.
pub fn unmount(directory: &Path) -> io::Result<()> {
    let directory = c_string(directory)?;
    // SAFETY: a string that ends with zero.
    checked(unsafe { libc::umount(directory.as_ptr()) }).map(drop)
}

/// A pipe, and the pages that are on their way through it.
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    /// A pipe with room for a stripe.
    pub fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        checked(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
        // SAFETY: two new descriptors that nobody else has.
        let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let pipe = Self { read, write };
        // SAFETY: an open descriptor; no memory is involved.
        checked(unsafe {
            libc::fcntl(
                pipe.write.as_raw_fd(),
                libc::F_SETPIPE_SZ,
                64 * PAGE_SIZE as i32,
            )
        })?;
        Ok(pipe)
    }

    /// Reads the file's bytes from `start` on into `to`: the pipe holds the page cache's own pages.
    pub fn read_file(&self, file: &File, start: u64, to: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < to.len() {
            let mut place = (start + done as u64) as i64;
            let (from, into) = (file.as_raw_fd(), self.write.as_raw_fd());
            // SAFETY: open descriptors, and an offset that is read and written.
            let moved = checked(unsafe {
                libc::splice(
                    from,
                    &raw mut place,
                    into,
                    std::ptr::null_mut(),
                    to.len() - done,
                    0,
                ) as i64
            })? as usize;
            if moved == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut taken = 0;
            while taken < moved {
                let rest = &mut to[done + taken..done + moved];
                // SAFETY: `rest` is writable and as long as said.
                taken += checked(unsafe {
                    libc::read(self.read.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len()) as i64
                })? as usize;
            }
            done += moved;
        }
        Ok(())
    }

    /// Writes whole pages of `from` to the file from `start` on: the pipe holds our own pages.
    pub fn write_file(&self, file: &File, start: u64, from: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < from.len() {
            let rest = &from[done..];
            let piece = libc::iovec {
                iov_base: rest.as_ptr().cast_mut().cast(),
                iov_len: rest.len(),
            };
            // SAFETY: the pages stay as they are until they are out of the pipe, below.
            let given = checked(unsafe {
                libc::vmsplice(self.write.as_raw_fd(), &raw const piece, 1, 0) as i64
            })? as usize;
            let mut taken = 0;
            while taken < given {
                let mut place = (start + (done + taken) as u64) as i64;
                let (out, to) = (self.read.as_raw_fd(), file.as_raw_fd());
                // SAFETY: open descriptors, and an offset that is read and written.
                taken += checked(unsafe {
                    libc::splice(
                        out,
                        std::ptr::null_mut(),
                        to,
                        &raw mut place,
                        given - taken,
                        0,
                    ) as i64
                })? as usize;
            }
            done += given;
        }
        Ok(())
    }
}

/// `struct iocb` of the kernel, on little-endian machines.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    reqprio: i16,
    fildes: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    resfd: u32,
}

/// One asynchronous request at a time, by the kernel's own aio.
pub struct Asynchronous {
    context: u64,
}

impl Asynchronous {
    /// Room for one request.
    pub fn new() -> io::Result<Self> {
        let mut context = 0_u64;
        // SAFETY: a context that is written.
        checked(unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut context) })?;
        Ok(Self { context })
    }

    /// Begins to write `buffer`, or to read into it, does `meanwhile`, and waits for the end. Returns how many bytes.
    pub fn run(
        &self,
        file: &File,
        write: bool,
        start: u64,
        buffer: &mut [u8],
        meanwhile: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<usize> {
        let mut request = Iocb {
            opcode: if write {
                IOCB_CMD_PWRITE
            } else {
                IOCB_CMD_PREAD
            },
            fildes: file.as_raw_fd() as u32,
            buf: buffer.as_mut_ptr() as u64,
            nbytes: buffer.len() as u64,
            offset: start as i64,
            ..Iocb::default()
        };
        let mut list = [&raw mut request];
        // SAFETY: the buffer is borrowed until the request has ended, below.
        checked(unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1, list.as_mut_ptr()) })?;
        let between = meanwhile();
        // struct io_event: data, obj, res, res2.
        let mut event = [0_i64; 4];
        loop {
            let none = std::ptr::null_mut::<libc::timespec>();
            // SAFETY: room for one event.
            let ended = checked(unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.context,
                    1,
                    1,
                    event.as_mut_ptr(),
                    none,
                )
            });
            match ended {
                Ok(1) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        between?;
        match event[2] {
            error @ ..0 => Err(io::Error::from_raw_os_error(-error as i32)),
            bytes => Ok(bytes as usize),
        }
    }
}

impl Drop for Asynchronous {
    fn drop(&mut self) {
        // SAFETY: this value's own context, with nothing under way.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

const _: () = assert!(size_of::<Iocb>() == 64);
