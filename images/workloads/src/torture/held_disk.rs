//! A disk that keeps a write waiting until it is told to go on, and may fail it although it was done: this process serves it,
//! by the kernel's network block device, from a disk that nobody else uses meanwhile.

use super::kernel;
use crate::context::about;
use crate::mapping::Mapping;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use vtmem_workloads::content::PAGE_SIZE;

/// The first of the kernel's network block devices.
pub const DEVICE: &str = "/dev/nbd0";
/// Its size in sectors: 0 until it is served.
const SIZE: &str = "/sys/block/nbd0/size";
/// What takes longer does not happen any more.
const LONGEST: Duration = Duration::from_secs(30);
/// Between two looks.
const AWHILE: Duration = Duration::from_millis(10);

/// Requests of the device, by their numbers in include/uapi/linux/nbd.h.
const SET_SOCK: u8 = 0;
const SET_BLKSIZE: u8 = 1;
const SET_SIZE: u8 = 2;
const DO_IT: u8 = 3;
const CLEAR_SOCK: u8 = 4;
const DISCONNECT: u8 = 8;
/// Bytes of a block: what the disks of guests have.
const SECTOR: u64 = 512;

/// The device's protocol: all numbers begin with their highest byte.
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const REQUEST: usize = 28;
const READ: u32 = 0;
const WRITE: u32 = 1;
const END: u32 = 2;

/// Pages of data begin so.
pub const MARK: [u8; 16] = *b"vtmem's own data";

/// Which writes wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Those of marked pages.
    Data,
    /// All others: the file system's own.
    Rest,
}

/// What becomes of writes that waited. In any case the disk has what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// They succeed.
    Success,
    /// They fail.
    Failure,
}

/// One request of the kernel's.
#[derive(Clone, Copy)]
struct Request {
    handle: [u8; 8],
    kind: u32,
    start: u64,
    length: usize,
}

/// A write that waits.
struct Waiting {
    request: Request,
    data: Mapping,
}

/// Writes of one kind, when they wait.
type Queue = Option<Vec<Waiting>>;

/// The disk, for as long as it is served.
pub struct HeldDisk {
    below: File,
    replies: Mutex<UnixStream>,
    /// Data, and the rest.
    waiting: Mutex<[Queue; 2]>,
    arrived: Condvar,
}

impl HeldDisk {
    /// Serves `DEVICE` from the block device `below` while `work` is done.
    ///
    /// # Errors
    /// The kernel's, and those of `work`.
    pub fn serve<R>(below: &Path, work: impl FnOnce(&HeldDisk) -> io::Result<R>) -> io::Result<R> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        let device = options.open(DEVICE).map_err(about(DEVICE))?;
        let options = options.custom_flags(libc::O_DIRECT);
        let mut below = options.open(below).map_err(about(below.display()))?;
        let length = below.seek(SeekFrom::End(0))?;
        let (kernels, ours) = UnixStream::pair()?;
        let disk = Self {
            below,
            replies: Mutex::new(ours.try_clone()?),
            waiting: Mutex::new([None, None]),
            arrived: Condvar::new(),
        };
        thread::scope(|scope| {
            let answering = scope.spawn(|| disk.answer(ours));
            let attached = scope.spawn(|| attach(&device, kernels, length));
            let done =
                until(|| Ok(fs::read_to_string(SIZE)?.trim() != "0")).and_then(|()| work(&disk));
            disk.let_go(Writes::Data, End::Success);
            disk.let_go(Writes::Rest, End::Success);
            // When it could not be attached, there is nothing to end.
            let _ = kernel::network_block_device(&device, DISCONNECT, 0);
            let ended = [attached, answering]
                .map(|thread| thread.join().unwrap_or_else(|_| Err(super::panicked())));
            let done = done?;
            ended.into_iter().collect::<io::Result<()>>()?;
            Ok(done)
        })
        .map_err(about(DEVICE))
    }

    /// From now on writes of this kind wait.
    pub fn hold(&self, writes: Writes) {
        self.waiting()[writes as usize].get_or_insert_default();
    }

    /// Waits until a write of this kind does, of a page that begins with `start`.
    ///
    /// # Errors
    /// None comes.
    pub fn wait_for(&self, writes: Writes, start: &[u8]) -> io::Result<()> {
        let missing = |queues: &mut [Queue; 2]| {
            let mut all = queues[writes as usize].iter_mut().flatten();
            !all.any(|waiting| has_page(waiting.data.bytes(), start))
        };
        let waited = self
            .arrived
            .wait_timeout_while(self.waiting(), LONGEST, missing);
        if waited.is_ok_and(|(_, timeout)| timeout.timed_out()) {
            return Err(io::Error::other(format!("no write of {writes:?} came")));
        }
        Ok(())
    }

    /// Does the writes of this kind that wait; from now on they do not.
    pub fn let_go(&self, writes: Writes, end: End) {
        let queue = self.waiting()[writes as usize].take();
        for Waiting { request, mut data } in queue.into_iter().flatten() {
            let written = self
                .below
                .write_all_at(&data.bytes()[..request.length], request.start);
            // When the kernel does not listen any more, nobody waits for this.
            let _ = self.reply(request, written.is_ok() && end == End::Success, &[]);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, [Queue; 2]> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers requests until the kernel ends that. Afterwards all that it asks for fails.
    fn answer(&self, mut requests: UnixStream) -> io::Result<()> {
        let answered = self.answer_all(&mut requests);
        // When the kernel's end is gone, nobody waits for this.
        let _ = requests.shutdown(Shutdown::Both);
        answered
    }

    fn answer_all(&self, requests: &mut UnixStream) -> io::Result<()> {
        loop {
            let mut bytes = [0; REQUEST];
            match requests.read_exact(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            }
            let request = Request::parse(&bytes)?;
            let mut data = Mapping::anonymous(request.length.div_ceil(PAGE_SIZE))?;
            let bytes = &mut data.bytes()[..request.length];
            match request.kind {
                READ => {
                    let read = self.below.read_exact_at(bytes, request.start);
                    self.reply(request, read.is_ok(), bytes)?;
                }
                WRITE => {
                    requests.read_exact(bytes)?;
                    let is_data = has_page(bytes, &MARK);
                    let writes = if is_data { Writes::Data } else { Writes::Rest };
                    if let Some(queue) = &mut self.waiting()[writes as usize] {
                        queue.push(Waiting { request, data });
                        self.arrived.notify_all();
                        continue;
                    }
                    let written = self.below.write_all_at(bytes, request.start);
                    self.reply(request, written.is_ok(), &[])?;
                }
                END => return Ok(()),
                // Not offered, so not asked for.
                kind => return Err(io::Error::other(format!("request {kind}"))),
            }
        }
    }

    fn reply(&self, request: Request, success: bool, read: &[u8]) -> io::Result<()> {
        let error = if success { 0 } else { libc::EIO };
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        replies.write_all(&REPLY_MAGIC.to_be_bytes())?;
        replies.write_all(&error.to_be_bytes())?;
        replies.write_all(&request.handle)?;
        // What fails has no data.
        replies.write_all(if success { read } else { &[] })
    }
}

impl Request {
    /// magic u32, kind u32 with flags above, handle, place u64, length u32.
    fn parse(bytes: &[u8; REQUEST]) -> io::Result<Self> {
        let word = |from: usize| u32::from_be_bytes(std::array::from_fn(|i| bytes[from + i]));
        if word(0) != REQUEST_MAGIC {
            return Err(io::Error::other("not a request"));
        }
        Ok(Self {
            kind: word(4) & 0xffff,
            handle: std::array::from_fn(|i| bytes[8 + i]),
            start: u64::from(word(16)) << 32 | u64::from(word(20)),
            length: word(24) as usize,
        })
    }
}

/// Whether one of the pages begins with `start`.
fn has_page(bytes: &[u8], start: &[u8]) -> bool {
    bytes.chunks(PAGE_SIZE).any(|page| page.starts_with(start))
}

/// Makes `device` a disk of `length` bytes whose requests go to the other end of `socket`. Returns when it is not that any more.
fn attach(device: &File, socket: UnixStream, length: u64) -> io::Result<()> {
    let request = |number, argument| kernel::network_block_device(device, number, argument);
    request(SET_SOCK, socket.as_raw_fd() as u64)?;
    // The kernel has its own hold of it: with this one gone, its end is the end.
    drop(socket);
    let done = request(SET_BLKSIZE, SECTOR)
        .and_then(|()| request(SET_SIZE, length))
        .and_then(|()| request(DO_IT, 0));
    request(CLEAR_SOCK, 0)?;
    done
}

/// Waits until something is so.
///
/// # Errors
/// It does not become so, or cannot be told.
pub fn until(mut so: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let start = Instant::now();
    while !so()? {
        if start.elapsed() > LONGEST {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(AWHILE);
    }
    Ok(())
}

#[cfg(test)]
#[path = "held_disk_test.rs"]
mod tests;
