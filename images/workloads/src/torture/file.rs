//! One file of `torture`, the model of what it holds, and reading. `contents.rs` and `identity.rs` change both.

use super::kernel::{Asynchronous, Pipe};
use super::operation::{Access, Range, STRIPE};
use super::ring::Ring;
use crate::mapping::Mapping;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use vtmem_workloads::content::{PAGE_SIZE, differing_bytes, fill_page};
use vtmem_workloads::random::mix;

/// A version that was overwritten is looked for this far back.
const OLD_VERSIONS: usize = 100_000;

/// What a page of a file should hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageState {
    /// Which content; 0: zeros.
    pub version: u32,
    /// The number of the file that it was written to.
    pub file: u32,
    /// The page's number when that content was written.
    pub written_as: u32,
    /// Bytes of the content still there; zeros follow.
    pub length: u16,
}

/// The open file; replaced when the file is.
#[derive(Debug)]
pub(super) struct Shape {
    pub buffered: File,
    pub direct: File,
    /// Bytes.
    pub length: u64,
    /// Deleted: it ends when it is closed.
    pub unlinked: bool,
}

/// A file, and what it should hold.
#[derive(Debug)]
pub struct TortureFile {
    pub(super) path: PathBuf,
    pub(super) number: u32,
    /// Longest length.
    pub(super) pages: u32,
    seed: u64,
    version: AtomicU32,
    /// Held for writing by what changes the file as a whole.
    shape: RwLock<Shape>,
    stripes: Vec<RwLock<Vec<PageState>>>,
}

/// What each thread has for itself.
pub struct Tools {
    pub(super) buffer: Mapping,
    pub(super) pipe: Pipe,
    pub(super) asynchronous: Asynchronous,
    pub(super) ring: Ring,
}

impl Tools {
    /// Makes them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            buffer: Mapping::anonymous(STRIPE as usize)?,
            pipe: Pipe::new()?,
            asynchronous: Asynchronous::new()?,
            ring: Ring::default(),
        })
    }
}

/// Verified and corrupt bytes.
pub type Verdict = (u64, u64);

/// What changes, but reads nothing back, verifies nothing.
pub(super) const NOTHING_READ: Verdict = (0, 0);

impl TortureFile {
    /// Makes the file, full of zeros.
    ///
    /// # Errors
    /// The file cannot be made, or its file system cannot do direct I/O.
    pub fn create(directory: &Path, number: u32, pages: u32, seed: u64) -> io::Result<Self> {
        let path = directory.join(format!("{number:02}.dat"));
        debug_assert_eq!(pages % STRIPE, 0);
        let length = u64::from(pages) * PAGE_SIZE as u64;
        let shape = Shape::create(&path, length)?;
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

    pub(super) fn shape(&self) -> RwLockReadGuard<'_, Shape> {
        self.shape.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn whole(&self) -> RwLockWriteGuard<'_, Shape> {
        self.shape.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripe(&self, range: Range) -> &RwLock<Vec<PageState>> {
        &self.stripes[(range.first / STRIPE) as usize]
    }

    /// The states of a stripe's pages, to be read.
    pub(super) fn states(&self, range: Range) -> RwLockReadGuard<'_, Vec<PageState>> {
        let stripe = self.stripe(range);
        stripe.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The states of a stripe's pages, to be changed.
    pub(super) fn states_mut(&self, range: Range) -> RwLockWriteGuard<'_, Vec<PageState>> {
        let stripe = self.stripe(range);
        stripe.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    /// The reads'.
    pub fn read_all(&self, tools: &mut Tools) -> io::Result<Verdict> {
        let (mut verified, mut corrupt) = NOTHING_READ;
        for stripe in 0..self.stripes.len() as u32 {
            let range = Range {
                first: stripe * STRIPE,
                count: STRIPE,
            };
            let verdict = self.read(Access::Buffered, range, tools)?;
            verified += verdict.0;
            corrupt += verdict.1;
        }
        Ok((verified, corrupt))
    }

    /// Bytes of a range that are inside the file.
    pub(super) fn inside(range: Range, shape: &Shape) -> usize {
        let end = offset(range.first + range.count).min(shape.length);
        end.saturating_sub(offset(range.first)) as usize
    }

    /// Reads a range and checks it.
    ///
    /// # Errors
    /// The read's.
    pub(super) fn read(
        &self,
        access: Access,
        range: Range,
        tools: &mut Tools,
    ) -> io::Result<Verdict> {
        let shape = self.shape();
        let states = self.states(range);
        let start = offset(range.first);
        let length = Self::inside(range, &shape);
        if length == 0 {
            return Ok(NOTHING_READ);
        }
        let buffer = tools.buffer.bytes();
        let whole_pages = length.next_multiple_of(PAGE_SIZE);
        let mut mapping;
        let found = match access {
            Access::Mapped => {
                mapping = Mapping::of_file(&shape.buffered, range.first, whole_pages / PAGE_SIZE)?;
                &mapping.bytes()[..length]
            }
            Access::Alone => {
                let pages = whole_pages / PAGE_SIZE;
                mapping = Mapping::of_file_alone(&shape.buffered, range.first, pages)?;
                &mapping.bytes()[..length]
            }
            Access::Buffered => {
                shape.buffered.read_exact_at(&mut buffer[..length], start)?;
                &buffer[..length]
            }
            Access::Ring => {
                let to = &mut buffer[..length];
                tools.ring.read_exact_at(&shape.buffered, start, to)?;
                &buffer[..length]
            }
            Access::Spliced => {
                let to = &mut buffer[..length];
                tools.pipe.read_file(&shape.buffered, start, to)?;
                &buffer[..length]
            }
            Access::Direct | Access::Racing => {
                let to = &mut buffer[..whole_pages];
                let read = if access == Access::Direct {
                    shape.direct.read_at(to, start)?
                } else {
                    let file = &shape.direct;
                    tools.asynchronous.run(file, false, start, to, || Ok(()))?
                };
                if read != length {
                    return Err(io::Error::other(format!(
                        "direct read of {length}: {read} bytes"
                    )));
                }
                &buffer[..length]
            }
        };
        let corrupt = (range.first..)
            .zip(found.chunks(PAGE_SIZE))
            .map(|(page, found)| self.check(access, page, states[(page % STRIPE) as usize], found))
            .sum();
        Ok((length as u64, corrupt))
    }

    /// Compares a page, or what the file has of it; returns the number of wrong bytes.
    pub(super) fn check(&self, access: Access, page: u32, state: PageState, found: &[u8]) -> u64 {
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

    /// A state with content that the page never had.
    pub(super) fn fresh(&self, page: u32) -> PageState {
        PageState {
            version: self.version.fetch_add(1, Ordering::Relaxed) + 1,
            file: self.number,
            written_as: page,
            length: PAGE_SIZE as u16,
        }
    }

    /// The bytes of a page in this state.
    pub(super) fn content(&self, state: PageState) -> [u8; PAGE_SIZE] {
        let mut content = [0; PAGE_SIZE];
        if state.version > 0 {
            let seed = mix(self.seed ^ mix(u64::from(state.version)));
            fill_page(seed, state.file, state.written_as, &mut content);
            content[usize::from(state.length)..].fill(0);
        }
        content
    }

    /// For holders of the shape's lock for writing: nobody else looks at a stripe then.
    pub(super) fn each_state(&self, mut change: impl FnMut(u32, &mut PageState)) {
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
    /// Makes a file of zeros, or empties the one that is there.
    pub fn create(path: &Path, length: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        let buffered = options.create(true).truncate(true).open(path)?;
        buffered.set_len(length)?;
        Self::open(path, length)
    }

    /// Opens the file that is there.
    pub fn open(path: &Path, length: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        Ok(Self {
            buffered: options.open(path)?,
            direct: options.custom_flags(libc::O_DIRECT).open(path)?,
            length,
            unlinked: false,
        })
    }
}

/// Where a page begins.
pub(super) fn offset(page: u32) -> u64 {
    u64::from(page) * PAGE_SIZE as u64
}

#[cfg(test)]
#[path = "file_test.rs"]
mod tests;
