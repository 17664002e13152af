//! Operations on a file as a whole: which inode its name leads to, and whether that is in memory.

use super::file::{NOTHING_READ, PageState, Shape, Tools, TortureFile, Verdict, offset};
use super::kernel;
use super::operation::{Range, STRIPE};
use super::reload;
use crate::mapping::Mapping;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes, fill_page};

/// Pages that are swapped to a file.
const SWAPPED: usize = 256;
/// Their number among the files whose content is generated.
const SWAPPED_FILE: u32 = u32::MAX - 2;

impl TortureFile {
    /// Puts a new file of zeros in this one's place: the inode number is free when the old one is closed, and may be the
    /// new one's.
    pub(super) fn replace(&self) -> io::Result<Verdict> {
        let mut shape = self.whole();
        if !shape.unlinked {
            fs::remove_file(&self.path)?;
        }
        close(&mut shape)?;
        self.create_anew(&mut shape)
    }

    /// Renames a new file, full of content, over this one.
    pub(super) fn rename_over(&self) -> io::Result<Verdict> {
        let mut shape = self.whole();
        let new = self.path.with_extension("new");
        let pages = self.pages.min(2 * STRIPE);
        let made = Shape::create(&new, offset(pages))?;
        let mut states = Vec::new();
        for page in 0..pages {
            let state = self.fresh(page);
            made.buffered
                .write_all_at(&self.content(state), offset(page))?;
            states.push(state);
        }
        fs::rename(&new, &self.path)?;
        *shape = made;
        self.each_state(|page, state| {
            *state = states.get(page as usize).copied().unwrap_or_default();
        });
        Ok(NOTHING_READ)
    }

    /// Links a file that was made without a name in this one's place.
    pub(super) fn link(&self) -> io::Result<Verdict> {
        let mut shape = self.whole();
        let directory = self.path.parent().unwrap_or(&self.path);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        let nameless = options.custom_flags(libc::O_TMPFILE).open(directory)?;
        let first = self.fresh(0);
        nameless.set_len(offset(self.pages))?;
        nameless.write_all_at(&self.content(first), 0)?;
        if !shape.unlinked {
            fs::remove_file(&self.path)?;
        }
        kernel::link(&nameless, &self.path)?;
        *shape = Shape::open(&self.path, offset(self.pages))?;
        self.each_state(|page, state| {
            *state = if page == 0 {
                first
            } else {
                PageState::default()
            }
        });
        Ok(NOTHING_READ)
    }

    /// Deletes the name; the file goes on.
    pub(super) fn unlink(&self) -> io::Result<Verdict> {
        let mut shape = self.whole();
        if !shape.unlinked {
            fs::remove_file(&self.path)?;
            shape.unlinked = true;
        }
        Ok(NOTHING_READ)
    }

    /// Has the inode leave memory while pages of it are cached, and opens it again.
    pub(super) fn uncache(&self) -> io::Result<Verdict> {
        let mut shape = self.whole();
        if shape.unlinked {
            return Ok(NOTHING_READ);
        }
        match kernel::uncache(&shape.buffered) {
            // xfs does not do that to a file that shares blocks, or did; ext4 not to one whose data go through the journal.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                Ok(NOTHING_READ)
            }
            done => {
                done?;
                self.reopen(&mut shape)
            }
        }
    }

    /// Closes the file's descriptors, so that its file system can be unmounted.
    pub(super) fn close(&self, shape: &mut Shape) -> io::Result<()> {
        if shape.unlinked {
            self.each_state(|_, state| *state = PageState::default());
        }
        close(shape)
    }

    /// Opens it again; one that had no name any more is made anew.
    pub(super) fn open(&self, shape: &mut Shape) -> io::Result<()> {
        if shape.unlinked {
            self.create_anew(shape)?;
        } else {
            *shape = Shape::open(&self.path, shape.length)?;
        }
        Ok(())
    }

    fn reopen(&self, shape: &mut Shape) -> io::Result<Verdict> {
        self.close(shape)?;
        self.open(shape)?;
        Ok(NOTHING_READ)
    }

    fn create_anew(&self, shape: &mut Shape) -> io::Result<Verdict> {
        *shape = Shape::create(&self.path, offset(self.pages))?;
        self.each_state(|_, state| *state = PageState::default());
        Ok(NOTHING_READ)
    }

    /// Has the file swapped to, while the host may hold pages of it, and compares what it reads with what it holds then.
    pub(super) fn swap_to(&self, journals_data: bool, tools: &mut Tools) -> io::Result<Verdict> {
        let mut shape = self.whole();
        let pages = (2 * SWAPPED as u32).min(self.pages);
        if shape.unlinked {
            return Ok(NOTHING_READ);
        }
        // A journal would write over what was swapped.
        if journals_data {
            kernel::journal_data(&shape.buffered, Some(false))?;
        }
        shape.buffered.set_len(0)?;
        let mut header = [0; PAGE_SIZE];
        header[1024..1028].copy_from_slice(&1_u32.to_le_bytes());
        header[1028..1032].copy_from_slice(&(pages - 1).to_le_bytes());
        header[PAGE_SIZE - 10..].copy_from_slice(b"SWAPSPACE2");
        shape.buffered.write_all_at(&header, 0)?;
        for page in 1..pages {
            shape
                .buffered
                .write_all_at(&self.content(self.fresh(page)), offset(page))?;
        }
        shape.buffered.sync_all()?;
        shape.length = offset(pages);
        Mapping::of_file(&shape.buffered, 0, pages as usize)?.reclaim();

        kernel::swapon(&self.path)?;
        let mut corrupt = 0;
        {
            let mut memory = Mapping::anonymous(SWAPPED)?;
            for index in 0..SWAPPED {
                fill_page(7, SWAPPED_FILE, index as u32, memory.page(index));
            }
            memory.reclaim();
            for index in 0..SWAPPED {
                corrupt += corrupt_bytes(7, SWAPPED_FILE, index as u32, memory.page(index));
            }
        }
        kernel::swapoff(&self.path)?;
        let mut verified = (SWAPPED * PAGE_SIZE) as u64;
        for first in (0..pages).step_by(STRIPE as usize) {
            let range = Range {
                first,
                count: STRIPE,
            };
            let verdict = self.compare_with_disk(&shape, range, tools)?;
            verified += verdict.0;
            corrupt += verdict.1;
        }
        shape.buffered.set_len(0)?;
        shape.buffered.set_len(offset(self.pages))?;
        shape.length = offset(self.pages);
        self.each_state(|_, state| *state = PageState::default());
        Ok((verified, corrupt))
    }

    /// Has the file's data go through the journal from now on, or no longer.
    pub(super) fn journal(&self) -> io::Result<Verdict> {
        match kernel::journal_data(&self.shape().buffered, None) {
            // Not together with the flag that `uncache` sets and takes away.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(NOTHING_READ),
            done => done.map(|()| NOTHING_READ),
        }
    }

    /// Unloads the driver and loads it again, while others read and write, but nobody mounts.
    pub(super) fn reload(&self) -> io::Result<Verdict> {
        let _mounted = self.shape();
        reload::run()
    }

    /// Deletes the file.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self) -> io::Result<()> {
        if self.shape().unlinked {
            return Ok(());
        }
        fs::remove_file(&self.path)
    }
}

/// Leaves the shape with descriptors of no file.
fn close(shape: &mut Shape) -> io::Result<()> {
    shape.buffered = File::open("/dev/null")?;
    shape.direct = File::open("/dev/null")?;
    Ok(())
}
