//! One file of `torture`, and the model of what it holds.

use crate::context::about;
use crate::mapping::Mapping;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use vtmem_workloads::content::{PAGE_SIZE, differing_bytes, fill_page};
use vtmem_workloads::random::{Random, mix};

/// Pages under one lock: operations on different stripes of a file go on at the same time.
const STRIPE: u32 = 32;
/// A version that was overwritten is looked for this far back.
const OLD_VERSIONS: usize = 100_000;

/// The way in which bytes reach or leave a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `pread`, `pwrite` through the page cache.
    Buffered,
    /// The same with `O_DIRECT`.
    Direct,
    /// A shared mapping.
    Mapped,
}

/// What a page of a file should hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PageState {
    /// Which content; 0: zeros.
    version: u32,
    /// The page's number when that content was written.
    written_as: u32,
    /// Bytes of the content still there; zeros follow.
    length: u16,
}

/// The open file; replaced when the file is.
#[derive(Debug)]
struct Shape {
    buffered: File,
    direct: File,
    /// Bytes.
    length: u64,
}

/// A file, and what it should hold.
#[derive(Debug)]
pub struct TortureFile {
    path: PathBuf,
    number: u32,
    /// Longest length.
    pages: u32,
    seed: u64,
    version: AtomicU32,
    /// Held for writing by what changes the file as a whole.
    shape: RwLock<Shape>,
    stripes: Vec<RwLock<Vec<PageState>>>,
}

/// A page-aligned buffer for the longest operation.
///
/// # Errors
/// No memory.
pub fn buffer() -> io::Result<Mapping> {
    Mapping::anonymous(STRIPE as usize)
}

/// Verified and corrupt bytes.
type Verdict = (u64, u64);

/// What changes, but reads nothing back, verifies nothing.
const NOTHING_READ: Verdict = (0, 0);

impl TortureFile {
    /// Makes the file, full of zeros.
    ///
    /// # Errors
    /// The file cannot be made, or its file system cannot do direct I/O.
    pub fn create(directory: &Path, number: u32, pages: u32, seed: u64) -> io::Result<Self> {
        let path = directory.join(format!("{number:02}.dat"));
        let pages = pages.next_multiple_of(STRIPE);
        let length = u64::from(pages) * PAGE_SIZE as u64;
        let shape = Shape::create(&path, length).map_err(about(path.display()))?;
        let zeros = vec![PageState::default(); STRIPE as usize];
        Ok(Self {
            path,
            number,
            pages,
            seed,
            version: AtomicU32::new(0),
            shape: RwLock::new(shape),
            stripes: (0..pages / STRIPE)
                .map(|_| RwLock::new(zeros.clone()))
                .collect(),
        })
    }

    fn shape(&self) -> RwLockReadGuard<'_, Shape> {
        self.shape.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn whole(&self) -> RwLockWriteGuard<'_, Shape> {
        self.shape.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Picks a stripe and a range of pages in it.
    fn range(&self, random: &mut Random) -> (u32, u32, u32) {
        let stripe = random.below(self.stripes.len() as u64) as u32;
        // Short ranges and whole stripes: single pages, and readahead windows.
        let longest = if random.below(4) == 0 { STRIPE } else { 4 };
        let count = 1 + random.below(u64::from(longest)) as u32;
        let skipped = random.below(u64::from(STRIPE - count + 1)) as u32;
        (stripe, stripe * STRIPE + skipped, count)
    }

    /// Reads a piece and checks it.
    ///
    /// # Errors
    /// The read's.
    pub fn read(
        &self,
        access: Access,
        random: &mut Random,
        buffer: &mut Mapping,
    ) -> io::Result<Verdict> {
        let (stripe, first, count) = self.range(random);
        self.read_range(access, (stripe, first, count), buffer)
            .map_err(about(self.path.display()))
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// The reads'.
    pub fn read_all(&self, buffer: &mut Mapping) -> io::Result<Verdict> {
        let (mut verified, mut corrupt) = NOTHING_READ;
        for stripe in 0..self.stripes.len() as u32 {
            let range = (stripe, stripe * STRIPE, STRIPE);
            let verdict = self
                .read_range(Access::Buffered, range, buffer)
                .map_err(about(self.path.display()))?;
            verified += verdict.0;
            corrupt += verdict.1;
        }
        Ok((verified, corrupt))
    }

    fn read_range(
        &self,
        access: Access,
        (stripe, first, count): (u32, u32, u32),
        buffer: &mut Mapping,
    ) -> io::Result<Verdict> {
        let shape = self.shape();
        let states = self.stripes[stripe as usize]
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let start = offset(first);
        let length = (offset(first + count)
            .min(shape.length)
            .saturating_sub(start)) as usize;
        if length == 0 {
            return Ok(NOTHING_READ);
        }
        let mut mapping;
        let found = match access {
            Access::Buffered => {
                shape
                    .buffered
                    .read_exact_at(&mut buffer.bytes()[..length], start)?;
                &buffer.bytes()[..length]
            }
            Access::Direct => {
                let whole_pages = &mut buffer.bytes()[..length.next_multiple_of(PAGE_SIZE)];
                let read = shape.direct.read_at(whole_pages, start)?;
                if read != length {
                    return Err(io::Error::other(format!(
                        "direct read of {length}: {read} bytes"
                    )));
                }
                &buffer.bytes()[..length]
            }
            Access::Mapped => {
                mapping = Mapping::of_file(&shape.buffered, first, length.div_ceil(PAGE_SIZE))?;
                &mapping.bytes()[..length]
            }
        };
        let corrupt = (first..)
            .zip(found.chunks(PAGE_SIZE))
            .map(|(page, found)| self.check(access, page, states[(page % STRIPE) as usize], found))
            .sum();
        Ok((length as u64, corrupt))
    }

    /// Compares a page, or what the file has of it; returns the number of wrong bytes.
    fn check(&self, access: Access, page: u32, state: PageState, found: &[u8]) -> u64 {
        let expected = self.content(state);
        let wrong = differing_bytes(&expected[..found.len()], found);
        if wrong > 0 {
            let place = expected
                .iter()
                .zip(found)
                .position(|(a, b)| a != b)
                .unwrap_or(0);
            eprintln!(
                "torture: {} page {page} ({access:?} read): {wrong} wrong bytes from byte {place} of {}: expected \
                 {state:?}, found {}",
                self.path.display(),
                found.len(),
                self.recognize(state, found)
            );
        }
        wrong
    }

    /// Says what a wrong page is, for whoever looks for the reason.
    fn recognize(&self, state: PageState, found: &[u8]) -> String {
        if found.iter().all(|byte| *byte == 0) {
            return "zeros".to_owned();
        }
        let newest = self.version.load(Ordering::Relaxed);
        let old = (1..=newest).rev().take(OLD_VERSIONS).find(|version| {
            let content = self.content(PageState {
                version: *version,
                length: PAGE_SIZE as u16,
                ..state
            });
            content[..found.len()] == *found
        });
        match old {
            Some(version) => format!("version {version} of the same page"),
            None => "neither zeros nor an older version of the page".to_owned(),
        }
    }

    fn content(&self, state: PageState) -> [u8; PAGE_SIZE] {
        let mut content = [0; PAGE_SIZE];
        if state.version > 0 {
            let seed = mix(self.seed ^ mix(u64::from(state.version)));
            fill_page(seed, self.number, state.written_as, &mut content);
            content[usize::from(state.length)..].fill(0);
        }
        content
    }

    /// Writes new content to a piece, as far as it is inside the file.
    ///
    /// # Errors
    /// The write's.
    pub fn write(
        &self,
        access: Access,
        random: &mut Random,
        buffer: &mut Mapping,
    ) -> io::Result<Verdict> {
        let (stripe, first, count) = self.range(random);
        let shape = self.shape();
        let mut states = self.stripes[stripe as usize]
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let inside = (shape.length / PAGE_SIZE as u64) as u32;
        let count = count.min(inside.saturating_sub(first)) as usize;
        if count == 0 {
            return Ok(NOTHING_READ);
        }
        for index in 0..count {
            let page = first + index as u32;
            let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
            let state = PageState {
                version,
                written_as: page,
                length: PAGE_SIZE as u16,
            };
            states[(page % STRIPE) as usize] = state;
            *buffer.page(index) = self.content(state);
        }
        let bytes = &buffer.bytes()[..count * PAGE_SIZE];
        let durable = random.below(8) == 0;
        match access {
            Access::Buffered => {
                shape.buffered.write_all_at(bytes, offset(first))?;
                if durable {
                    shape.buffered.sync_data()?;
                }
            }
            Access::Direct => shape.direct.write_all_at(bytes, offset(first))?,
            Access::Mapped => {
                let mut mapping = Mapping::of_file(&shape.buffered, first, count)?;
                mapping.bytes().copy_from_slice(bytes);
                if durable {
                    mapping.sync()?;
                }
            }
        }
        Ok(NOTHING_READ)
    }

    /// Makes zeros of a piece: a hole, or blocks that read as zeros.
    ///
    /// # Errors
    /// The file system's.
    pub fn clear(&self, random: &mut Random) -> io::Result<Verdict> {
        let (stripe, first, count) = self.range(random);
        let shape = self.shape();
        let mut states = self.stripes[stripe as usize]
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let kind = match random.below(3) {
            0 => libc::FALLOC_FL_ZERO_RANGE,
            _ => libc::FALLOC_FL_PUNCH_HOLE,
        };
        fallocate(
            &shape.buffered,
            kind | libc::FALLOC_FL_KEEP_SIZE,
            first,
            count,
        )?;
        let from = (first % STRIPE) as usize;
        states[from..from + count as usize].fill(PageState::default());
        Ok(NOTHING_READ)
    }

    /// Truncates or lengthens the file, to a length that need not be whole pages.
    ///
    /// # Errors
    /// The file system's.
    pub fn resize(&self, random: &mut Random) -> io::Result<Verdict> {
        let mut shape = self.whole();
        let longest = offset(self.pages);
        let length = match random.below(3) {
            0 => longest,
            1 => random.below(u64::from(self.pages)) * PAGE_SIZE as u64,
            _ => random.below(longest),
        };
        shape.buffered.set_len(length)?;
        shape.length = length;
        self.each_state(|page, state| {
            let kept = length
                .saturating_sub(offset(page))
                .min(u64::from(state.length));
            if kept == 0 {
                *state = PageState::default();
            } else {
                state.length = kept as u16;
            }
        });
        Ok(NOTHING_READ)
    }

    /// Takes pages out of the middle of the file: the rest moves up.
    ///
    /// # Errors
    /// The file system's.
    pub fn collapse(&self, random: &mut Random) -> io::Result<Verdict> {
        let mut shape = self.whole();
        let inside = (shape.length / PAGE_SIZE as u64) as u32;
        let count = 1 + random.below(16) as u32;
        // The range may not reach the end of the file.
        if inside <= count + 1 {
            return Ok(NOTHING_READ);
        }
        let first = random.below(u64::from(inside - count)) as u32;
        fallocate(
            &shape.buffered,
            libc::FALLOC_FL_COLLAPSE_RANGE,
            first,
            count,
        )?;
        shape.length -= offset(count);
        let mut states = Vec::new();
        self.each_state(|_, state| states.push(*state));
        states.drain(first as usize..(first + count) as usize);
        self.each_state(|page, state| {
            *state = states.get(page as usize).copied().unwrap_or_default();
        });
        Ok(NOTHING_READ)
    }

    /// Puts a new file of zeros in this one's place.
    ///
    /// # Errors
    /// The file system's.
    pub fn replace(&self) -> io::Result<Verdict> {
        let mut shape = self.whole();
        std::fs::remove_file(&self.path)?;
        *shape = Shape::create(&self.path, offset(self.pages))?;
        self.each_state(|_, state| *state = PageState::default());
        Ok(NOTHING_READ)
    }

    /// Asks the kernel to drop the file's pages from its page cache.
    ///
    /// # Errors
    /// The kernel's.
    pub fn forget(&self) -> io::Result<()> {
        let shape = self.shape();
        let fd = shape.buffered.as_raw_fd();
        // SAFETY: an open file; no memory is involved.
        match unsafe { libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Deletes the file.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path).map_err(about(self.path.display()))
    }

    /// For holders of the shape's lock for writing: nobody else looks at a stripe then.
    fn each_state(&self, mut change: impl FnMut(u32, &mut PageState)) {
        let mut page = 0;
        for stripe in &self.stripes {
            for state in stripe
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .iter_mut()
            {
                change(page, state);
                page += 1;
            }
        }
    }
}

impl Shape {
    fn create(path: &Path, length: u64) -> io::Result<Self> {
        let buffered = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        buffered.set_len(length)?;
        let direct = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        Ok(Self {
            buffered,
            direct,
            length,
        })
    }
}

fn offset(page: u32) -> u64 {
    u64::from(page) * PAGE_SIZE as u64
}

fn fallocate(file: &File, mode: i32, first: u32, count: u32) -> io::Result<()> {
    let (start, length) = (offset(first) as i64, offset(count) as i64);
    // SAFETY: an open file; no memory is involved.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, start, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
#[path = "file_test.rs"]
mod tests;
