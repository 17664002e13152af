//! Operations on a range of a file's pages, and on its length.

use super::file::{NOTHING_READ, PageState, Shape, Tools, TortureFile, Verdict, offset};
use super::kernel;
use super::operation::{Access, Range, STRIPE};
use crate::mapping::Mapping;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::RwLockWriteGuard;
use vtmem_workloads::content::PAGE_SIZE;

impl TortureFile {
    /// Writes new content to a range, as far as it is inside the file.
    pub(super) fn write(
        &self,
        access: Access,
        range: Range,
        durable: bool,
        tools: &mut Tools,
    ) -> io::Result<Verdict> {
        let shape = self.shape();
        let mut states = self.states_mut(range);
        let count = Self::inside(range, &shape) / PAGE_SIZE;
        if count == 0 {
            return Ok(NOTHING_READ);
        }
        for index in 0..count {
            let page = range.first + index as u32;
            let state = self.fresh(page);
            states[(page % STRIPE) as usize] = state;
            *tools.buffer.page(index) = self.content(state);
        }
        let start = offset(range.first);
        let bytes = &mut tools.buffer.bytes()[..count * PAGE_SIZE];
        match access {
            Access::Buffered => shape.buffered.write_all_at(bytes, start)?,
            Access::Direct => shape.direct.write_all_at(bytes, start)?,
            Access::Spliced => tools.pipe.write_file(&shape.buffered, start, bytes)?,
            Access::Racing => {
                let race = || {
                    // What is read is old or new; what matters is what of it stays.
                    let mut page = [0; PAGE_SIZE];
                    shape.buffered.read_at(&mut page, start)?;
                    Mapping::of_file(&shape.buffered, range.first, count)?.reclaim();
                    Ok(())
                };
                let done = tools
                    .asynchronous
                    .run(&shape.direct, true, start, bytes, race)?;
                if done != bytes.len() {
                    return Err(io::Error::other(format!(
                        "direct write of {}: {done} bytes",
                        bytes.len()
                    )));
                }
            }
            Access::Mapped => {
                let mut mapping = Mapping::of_file(&shape.buffered, range.first, count)?;
                mapping.bytes().copy_from_slice(bytes);
            }
            Access::Alone => {
                let mut mapping = Mapping::of_file_alone(&shape.buffered, range.first, count)?;
                mapping.bytes().copy_from_slice(bytes);
            }
            Access::Ring => tools.ring.write_all_at(&shape.buffered, start, bytes)?,
        }
        if durable {
            shape.buffered.sync_data()?;
        }
        Ok(NOTHING_READ)
    }

    /// Makes zeros of a range.
    pub(super) fn clear(&self, range: Range, mode: i32) -> io::Result<Verdict> {
        let shape = self.shape();
        let mut states = self.states_mut(range);
        fallocate(&shape, mode | libc::FALLOC_FL_KEEP_SIZE, range)?;
        let from = (range.first % STRIPE) as usize;
        states[from..from + range.count as usize].fill(PageState::default());
        Ok(NOTHING_READ)
    }

    /// Reads a range through a mapping, and has the kernel reclaim it.
    pub(super) fn reclaim(&self, range: Range, durable: bool) -> io::Result<Verdict> {
        let shape = self.shape();
        let states = self.states(range);
        let length = Self::inside(range, &shape);
        if length == 0 {
            return Ok(NOTHING_READ);
        }
        if durable {
            shape.buffered.sync_data()?;
        }
        let mut mapping =
            Mapping::of_file(&shape.buffered, range.first, length.div_ceil(PAGE_SIZE))?;
        let corrupt = (range.first..)
            .zip(mapping.bytes()[..length].chunks(PAGE_SIZE))
            .map(|(page, found)| {
                self.check(
                    Access::Mapped,
                    page,
                    states[(page % STRIPE) as usize],
                    found,
                )
            })
            .sum();
        mapping.reclaim();
        Ok((length as u64, corrupt))
    }

    /// Truncates or lengthens the file, to a length that need not be whole pages.
    pub(super) fn resize(&self, length: u64) -> io::Result<Verdict> {
        let mut shape = self.whole();
        let length = length.min(offset(self.pages));
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
    pub(super) fn collapse(&self, range: Range) -> io::Result<Verdict> {
        let mut shape = self.whole();
        // The range may not reach the end of the file.
        if offset(range.first + range.count) >= shape.length {
            return Ok(NOTHING_READ);
        }
        fallocate(&shape, libc::FALLOC_FL_COLLAPSE_RANGE, range)?;
        shape.length -= offset(range.count);
        self.rearrange(|states| {
            states.drain(range.first as usize..(range.first + range.count) as usize);
        });
        Ok(NOTHING_READ)
    }

    /// Puts a hole into the middle of the file: the rest moves down, and what then is too much is cut off.
    pub(super) fn insert(&self, range: Range) -> io::Result<Verdict> {
        let mut shape = self.whole();
        if offset(range.first) >= shape.length {
            return Ok(NOTHING_READ);
        }
        fallocate(&shape, libc::FALLOC_FL_INSERT_RANGE, range)?;
        shape.length += offset(range.count);
        let hole = vec![PageState::default(); range.count as usize];
        let first = range.first as usize;
        self.rearrange(|states| drop(states.splice(first..first, hole)));
        let longest = offset(self.pages);
        if shape.length > longest {
            shape.buffered.set_len(longest)?;
            shape.length = longest;
        }
        Ok(NOTHING_READ)
    }

    /// Makes a range the same as in the file `from`, and has them share its blocks.
    pub(super) fn share(&self, from: &Self, range: Range) -> io::Result<Verdict> {
        let (mine, theirs) = self.both(from);
        let pages = [&mine, &theirs].map(|shape| Self::inside(range, shape) / PAGE_SIZE);
        let count = pages[0].min(pages[1]) as u32;
        if count == 0 {
            return Ok(NOTHING_READ);
        }
        let place = (range.first % STRIPE) as usize;
        let place = place..place + count as usize;
        let taken = from.states(range)[place.clone()].to_vec();
        for (page, state) in (range.first..).zip(&taken) {
            let content = self.content(*state);
            mine.buffered.write_all_at(&content, offset(page))?;
        }
        let (start, length) = (offset(range.first), offset(count));
        let same = kernel::share_same(&mine.buffered, &theirs.buffered, start, length)?;
        self.states_mut(range)[place].copy_from_slice(&taken);
        if !same {
            eprintln!(
                "torture: {} {range}: the kernel finds other content than was written",
                self.path.display()
            );
        }
        Ok((length, u64::from(!same)))
    }

    /// Takes blocks of the file `from`: they change places on ext4, and are shared on xfs.
    pub(super) fn exchange(
        &self,
        from: &Self,
        range: Range,
        share: bool,
        tools: &mut Tools,
    ) -> io::Result<Verdict> {
        let (mine, theirs) = self.both(from);
        let pages = [&mine, &theirs].map(|shape| Self::inside(range, shape) / PAGE_SIZE);
        let count = pages[0].min(pages[1]) as u32;
        if count == 0 {
            return Ok(NOTHING_READ);
        }
        let range = Range { count, ..range };
        if share {
            let (start, length) = (offset(range.first), offset(count));
            kernel::clone_range(&mine.buffered, &theirs.buffered, start, length)?;
            let place = (range.first % STRIPE) as usize;
            let place = place..place + count as usize;
            let taken = from.states(range)[place.clone()].to_vec();
            self.states_mut(range)[place].copy_from_slice(&taken);
            return Ok(NOTHING_READ);
        }
        mine.buffered.sync_data()?;
        theirs.buffered.sync_data()?;
        match kernel::move_extent(&mine.buffered, &theirs.buffered, range.first, count) {
            Ok(_) => {}
            // Neither has blocks there, or those of one are not written yet, or there was no memory for it: what has been
            // exchanged by then stays so, and this file reads as before.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(
                        libc::ENODATA
                            | libc::EINVAL
                            | libc::EBUSY
                            | libc::EOPNOTSUPP
                            | libc::ENOMEM
                    )
                ) => {}
            Err(error) => return Err(error),
        }
        // This file reads as before; what the other one has instead, only the disk knows, and what was cached of it may be
        // older. That is reclaimed, and must not come back.
        Mapping::of_file(&theirs.buffered, range.first, count as usize)?.reclaim();
        let verdict = from.compare_with_disk(&theirs, range, tools)?;
        fallocate(
            &theirs,
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            range,
        )?;
        let place = (range.first % STRIPE) as usize;
        from.states_mut(range)[place..place + count as usize].fill(PageState::default());
        Ok(verdict)
    }

    /// Compares what the page cache reads into memory with what the disk has, for pages that are not in memory. For who
    /// keeps others away.
    pub(super) fn compare_with_disk(
        &self,
        shape: &Shape,
        range: Range,
        tools: &mut Tools,
    ) -> io::Result<Verdict> {
        shape.buffered.sync_data()?;
        kernel::forget(&shape.buffered)?;
        let count = Self::inside(range, shape) / PAGE_SIZE;
        if count == 0 {
            return Ok(NOTHING_READ);
        }
        let resident = Mapping::of_file(&shape.buffered, range.first, count)?.resident()?;
        let start = offset(range.first);
        let bytes = &mut tools.buffer.bytes()[..count * PAGE_SIZE];
        shape.direct.read_exact_at(bytes, start)?;
        let (mut verified, mut corrupt) = NOTHING_READ;
        let mut found = [0; PAGE_SIZE];
        for (index, disk) in bytes.chunks(PAGE_SIZE).enumerate() {
            if resident[index] {
                continue;
            }
            shape
                .buffered
                .read_exact_at(&mut found, start + (index * PAGE_SIZE) as u64)?;
            let wrong = vtmem_workloads::content::differing_bytes(disk, &found);
            if wrong > 0 {
                let page = range.first as usize + index;
                eprintln!(
                    "torture: {} page {page}: {wrong} bytes differ from the disk's",
                    self.path.display()
                );
            }
            verified += PAGE_SIZE as u64;
            corrupt += wrong;
        }
        Ok((verified, corrupt))
    }

    /// This file's shape and another's, to be changed: in the order of their numbers, as everybody takes two.
    fn both<'a>(
        &'a self,
        other: &'a Self,
    ) -> (RwLockWriteGuard<'a, Shape>, RwLockWriteGuard<'a, Shape>) {
        if self.number < other.number {
            let mine = self.whole();
            (mine, other.whole())
        } else {
            let theirs = other.whole();
            (self.whole(), theirs)
        }
    }

    /// For holders of the shape's lock for writing. What moves beyond the end is cut off, what comes in is zeros.
    fn rearrange(&self, change: impl FnOnce(&mut Vec<PageState>)) {
        let mut states = Vec::new();
        self.each_state(|_, state| states.push(*state));
        change(&mut states);
        self.each_state(|page, state| {
            *state = states.get(page as usize).copied().unwrap_or_default();
        });
    }
}

fn fallocate(shape: &Shape, mode: i32, range: Range) -> io::Result<()> {
    kernel::fallocate(
        &shape.buffered,
        mode,
        offset(range.first),
        offset(range.count),
    )
}
