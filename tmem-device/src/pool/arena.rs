//! Host memory for pages' data, in segments that the kernel may take back.
//!
//! A segment is 128 KiB of private anonymous memory with one writer. Once it is full it is *sealed*; that of an
//! ephemeral page's is then given to the kernel by `MADV_FREE`: under memory pressure it takes its pages, one at a time and
//! at once, as it does with clean page cache, and they read as zeros ever after. Until then they hold their data. Each
//! page begins with a word that is never zero, so that whoever copied from a page can tell afterwards whether it was
//! still there. A sealed page is not written to, since that would make the kernel keep it; but where a guest's page had a
//! page to itself and has gone, another may take its place, and the segment is sealed once more.
//!
//! This is the only file of the pool with unsafe code, but for `reclaim.rs` and `heap.rs`.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use super::codec::Page;
use super::reclaim::{Range, Reclaim};
use super::work;
use crate::wire::PAGE_SIZE;

/// Pages of memory in a segment.
pub(super) const SEGMENT_PAGES: usize = 32;

const SEGMENT_BYTES: usize = SEGMENT_PAGES * PAGE_SIZE;

/// The word at the beginning of each page.
const HEADER: usize = size_of::<u64>();

/// Bytes of data that a page holds.
pub(super) const PAYLOAD: usize = PAGE_SIZE - HEADER;

/// Bytes of data that a segment holds.
pub(super) const SEGMENT_PAYLOAD: usize = SEGMENT_PAGES * PAYLOAD;

/// Address space is taken from the kernel in pieces of so many segments, 16 MiB.
const REGION_SEGMENTS: usize = 128;

/// Free segments whose memory is kept for the next ones where the kernel cannot take it, or beyond what there is room for: 1 MiB.
const KEPT: usize = 8;

/// Free segments whose memory is returned at once, about 10 us each.
pub(super) const TRIMMED: usize = 16;

/// What a whole page begins with, kept elsewhere.
pub(super) type FirstWord = [u8; HEADER];

/// Memory could not be had, or what was in it has gone to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// Where segments come from.
pub(super) struct Arena {
    reclaimable: bool,
    reclaim: Reclaim,
    free: Mutex<Free>,
    /// How many are kept of those that are free.
    kept: AtomicUsize,
}

#[derive(Default)]
struct Free {
    regions: Vec<Region>,
    /// Segments of the last region that were never used.
    fresh: usize,
    /// Free segments that still have their memory.
    kept: Vec<NonNull<u8>>,
    /// Free segments without memory.
    empty: Vec<NonNull<u8>>,
    /// For the words at the beginning of pages.
    last_header: u64,
}

struct Region(NonNull<u8>);

// SAFETY: a region, and a free segment, is memory that nobody refers to; the lock around them passes it from thread to
// thread.
unsafe impl Send for Free {}

/// The memory of one segment, which nobody else uses: either bytes, one string after the other, or whole pages of guests, each
/// in a page of its own.
pub(super) struct Segment {
    arena: Arc<Arena>,
    memory: NonNull<u8>,
    /// What each of its pages begins with.
    header: u64,
    /// Bytes of data, as far as they were appended.
    filled: usize,
    sealed: bool,
    /// The kernel may take its pages, or soon may.
    offered: bool,
}

// SAFETY: the memory belongs to this segment alone, and no thread keeps a reference to it.
unsafe impl Send for Segment {}

impl Arena {
    /// An arena without memory. If not `reclaimable`, sealed segments stay the process's.
    pub fn new(reclaimable: bool) -> Arc<Self> {
        Arc::new(Arena {
            reclaimable,
            reclaim: Reclaim::new(),
            free: Mutex::default(),
            kept: AtomicUsize::new(0),
        })
    }

    /// A segment without data; an error if the kernel gives no address space.
    pub fn segment(self: &Arc<Self>) -> Result<Segment, Gone> {
        let (memory, header) = {
            let mut free = self.lock();
            let memory = match free.kept.pop().or_else(|| free.empty.pop()) {
                Some(memory) => memory,
                None => free.take_fresh()?,
            };
            self.kept.store(free.kept.len(), Relaxed);
            free.last_header += 1;
            (memory, free.last_header)
        };
        self.reclaim.withdraw(whole(memory));
        Ok(Segment {
            arena: Arc::clone(self),
            memory,
            header,
            filled: 0,
            sealed: false,
            offered: false,
        })
    }

    /// Takes a segment back. The kernel may take its memory; what it leaves is there for the next segment, since to get memory
    /// anew costs more than to fill it.
    fn give_back(&self, memory: NonNull<u8>, offered: bool) {
        if self.reclaimable {
            if !offered {
                // SAFETY: the segment's memory, which nobody uses; `segment` withdraws it.
                unsafe { self.reclaim.offer(whole(memory)) };
            }
            self.keep(&mut self.lock(), memory);
            return;
        }
        {
            let mut free = self.lock();
            if free.kept.len() < KEPT {
                self.keep(&mut free, memory);
                return;
            }
        }
        // SAFETY: the segment's memory, which nobody uses.
        unsafe { self.reclaim.discard(&[whole(memory)]) };
        self.lock().empty.push(memory);
    }

    fn keep(&self, free: &mut Free, memory: NonNull<u8>) {
        free.kept.push(memory);
        self.kept.store(free.kept.len(), Relaxed);
    }

    /// Returns the memory of free segments to the kernel at once.
    pub fn trim(&self) {
        while !self.trim_some(TRIMMED) {}
    }

    /// The same, of as many as hold more than `bytes` and a little; of a few at once. The kernel may take them anyway, but does
    /// not before it must, and meanwhile something else may have taken the room that they are counted as.
    pub fn trim_to(&self, bytes: u64) {
        let most = usize::try_from(bytes).unwrap_or(usize::MAX) / SEGMENT_BYTES + KEPT;
        let kept = self.kept.load(Relaxed);
        if kept > most {
            self.trim_some((kept - most).min(TRIMMED));
        }
    }

    /// Returns the memory of up to `limit` free segments; whether that were all.
    pub fn trim_some(&self, limit: usize) -> bool {
        let kept = {
            let mut free = self.lock();
            let rest = free.kept.len().saturating_sub(limit);
            let kept = free.kept.split_off(rest);
            self.kept.store(rest, Relaxed);
            kept
        };
        for memory in &kept {
            // SAFETY: the memory of a free segment, which nobody else can take as long as it is in no list.
            unsafe { self.reclaim.discard(&[whole(*memory)]) };
        }
        work::add(kept.len() as u64 * work::SEGMENT);
        let mut free = self.lock();
        free.empty.extend(kept);
        free.kept.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free
            .lock()
            .expect("no thread panics while it holds the arena")
    }
}

/// All the memory of a segment.
fn whole(memory: NonNull<u8>) -> Range {
    Range {
        begin: memory,
        length: SEGMENT_BYTES,
    }
}

impl Free {
    fn take_fresh(&mut self) -> Result<NonNull<u8>, Gone> {
        if self.fresh == 0 {
            self.regions.push(Region::map()?);
            self.fresh = REGION_SEGMENTS;
        }
        self.fresh -= 1;
        let region = self.regions.last().ok_or(Gone)?;
        // SAFETY: the segment lies within the region, which has REGION_SEGMENTS of them.
        Ok(unsafe { region.0.add(self.fresh * SEGMENT_BYTES) })
    }
}

impl Region {
    const BYTES: usize = REGION_SEGMENTS * SEGMENT_BYTES;

    fn map() -> Result<Self, Gone> {
        // SAFETY: a new private anonymous mapping, anywhere.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(Gone);
        }
        let memory = NonNull::new(memory.cast::<u8>()).ok_or(Gone)?;
        // Huge pages would be taken, and split, as a whole; and core dumps are no place for guests' data. A kernel
        // without one of these does without.
        for advice in [libc::MADV_NOHUGEPAGE, libc::MADV_DONTDUMP] {
            // SAFETY: the mapping was just made; the advice changes nothing that Rust can see.
            unsafe { libc::madvise(memory.as_ptr().cast(), Self::BYTES, advice) };
        }
        Ok(Region(memory))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the region was mapped with this length, and its arena is gone, so no segment of it is left: each
        // holds a reference to the arena.
        unsafe { libc::munmap(self.0.as_ptr().cast(), Self::BYTES) };
    }
}

impl Segment {
    /// Bytes of data so far.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Bytes of data that still fit; none if it is sealed.
    pub fn room(&self) -> usize {
        if self.sealed {
            0
        } else {
            SEGMENT_PAYLOAD - self.filled
        }
    }

    /// Appends `data` and returns where it begins.
    ///
    /// # Panics
    /// There is no room for it.
    pub fn append(&mut self, data: &[u8]) -> usize {
        assert!(data.len() <= self.room(), "the segment is full");
        let begin = self.filled;
        let mut rest = data;
        while !rest.is_empty() {
            let (page, at) = (self.filled / PAYLOAD, self.filled % PAYLOAD);
            if at == 0 {
                // SAFETY: the first word of one of the segment's pages, which is aligned, and has no other user.
                unsafe { self.page(page).cast::<u64>().write(self.header) };
            }
            let (now, later) = rest.split_at(rest.len().min(PAYLOAD - at));
            // SAFETY: `at + now.len() <= PAYLOAD`, so this stays in the page; `now` is not part of the segment, of
            // which there are no references.
            unsafe {
                self.page(page)
                    .add(HEADER + at)
                    .copy_from_nonoverlapping(NonNull::from(now).cast(), now.len());
            }
            self.filled += now.len();
            rest = later;
        }
        begin
    }

    /// Copies `data.len()` bytes from `begin` on. An error if the kernel has taken a part of them; then what is in
    /// `data` means nothing.
    ///
    /// # Panics
    /// There are not as many bytes.
    pub fn read(&self, begin: usize, data: &mut [u8]) -> Result<(), Gone> {
        let end = begin + data.len();
        assert!(end <= self.filled, "not in the segment");
        let (mut from, mut rest) = (begin, data);
        while !rest.is_empty() {
            let (page, at) = (from / PAYLOAD, from % PAYLOAD);
            let length = rest.len().min(PAYLOAD - at);
            let (now, later) = rest.split_at_mut(length);
            // SAFETY: `at + length <= PAYLOAD`, so this stays in the page. Nobody writes to it meanwhile, but the kernel
            // may put zeros in its place, which is as if each load had read from a page of zeros or from the
            // old one; `is_there` finds that out.
            unsafe {
                self.page(page)
                    .add(HEADER + at)
                    .copy_to_nonoverlapping(NonNull::from(now).cast(), length);
            }
            from += length;
            rest = later;
        }
        // The copy comes first: what is still there now was there then.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.is_there(begin, end) {
            Ok(())
        } else {
            Err(Gone)
        }
    }

    /// Keeps a whole page of a guest in a page of the segment, whatever was there. The header takes the place of its first word,
    /// which is returned.
    ///
    /// # Panics
    /// The segment does not have as many pages.
    pub fn write_page(&mut self, page: usize, data: &Page) -> FirstWord {
        if std::mem::take(&mut self.offered) {
            self.arena.reclaim.withdraw(whole(self.memory));
        }
        let (word, rest) = data.split_first_chunk().expect("longer than a word");
        // SAFETY: the first word of one of the segment's pages, which is aligned, and then the rest of it, as `rest` is as
        // long as a page without a word; `data` is not part of the segment, of which there are no references.
        unsafe {
            self.page(page).cast::<u64>().write(self.header);
            self.page(page)
                .add(HEADER)
                .copy_from_nonoverlapping(NonNull::from(rest).cast(), PAYLOAD);
        }
        *word
    }

    /// Copies a page that [`Segment::write_page`] has kept. An error if the kernel has taken it; then what is in `data` means
    /// nothing.
    ///
    /// # Panics
    /// The segment does not have as many pages.
    pub fn read_page(&self, page: usize, word: FirstWord, data: &mut Page) -> Result<(), Gone> {
        let (first, rest) = data.split_first_chunk_mut().expect("longer than a word");
        *first = word;
        // SAFETY: as in `read`.
        unsafe {
            self.page(page)
                .add(HEADER)
                .copy_to_nonoverlapping(NonNull::from(rest).cast(), PAYLOAD);
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.has_page(page) {
            Ok(())
        } else {
            Err(Gone)
        }
    }

    /// Whether a page that was written to is still there.
    pub fn has_page(&self, page: usize) -> bool {
        // SAFETY: the first word of one of the segment's pages. Volatile, since the kernel may change it.
        let header = unsafe { self.page(page).cast::<u64>().as_ptr().read_volatile() };
        header == self.header
    }

    /// Whether the pages with the bytes from `begin` to `end` are still there.
    pub fn is_there(&self, begin: usize, end: usize) -> bool {
        let pages = begin / PAYLOAD..end.div_ceil(PAYLOAD);
        pages.into_iter().all(|page| self.has_page(page))
    }

    /// Ends writing, until pages are put in the place of others. With `reclaimable`, the kernel may take the pages from now
    /// on.
    pub fn seal(&mut self, reclaimable: bool) {
        self.sealed = true;
        if reclaimable && self.arena.reclaimable {
            self.offered = true;
            // SAFETY: the segment's own pages; that their contents may turn to zeros is what `read` reckons with, and
            // `write_page` withdraws them.
            unsafe { self.arena.reclaim.offer(whole(self.memory)) };
        }
    }

    /// Returns the memory of some pages, a bit for each, to the kernel.
    pub fn discard(&mut self, pages: u32) {
        let mut rest = pages;
        let mut runs = Vec::new();
        while rest != 0 {
            let first = rest.trailing_zeros();
            let count = (rest >> first).trailing_ones();
            runs.push(Range {
                begin: self.page(first as usize),
                length: count as usize * PAGE_SIZE,
            });
            rest &= !(u32::MAX >> (32 - count) << first);
        }
        // SAFETY: pages of the segment, which the caller does not need any more.
        unsafe { self.arena.reclaim.discard(&runs) };
    }

    /// Which pages are in memory, a bit for each. Does not touch them.
    pub fn resident(&self) -> u32 {
        let mut there = [1u8; SEGMENT_PAGES];
        // SAFETY: the segment's own memory, and a vector of a byte for each of its pages. If it fails, all pages are taken
        // to be there.
        unsafe {
            libc::mincore(
                self.memory.as_ptr().cast(),
                SEGMENT_BYTES,
                there.as_mut_ptr(),
            );
        }
        let there = there.iter().rev();
        there.fold(0, |bits, byte| bits << 1 | u32::from(byte & 1))
    }

    fn page(&self, page: usize) -> NonNull<u8> {
        assert!(page < SEGMENT_PAGES);
        // SAFETY: within the segment.
        unsafe { self.memory.add(page * PAGE_SIZE) }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.arena.give_back(self.memory, self.offered);
    }
}

#[cfg(test)]
#[path = "arena_test.rs"]
mod tests;
