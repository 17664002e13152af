//! Operations on the file system as a whole, for which all files are closed.

use super::file::{NOTHING_READ, PageState, Shape, Tools, TortureFile, Verdict, offset};
use super::kernel;
use super::operation::{Access, Kind, Operation, Range, STRIPE};
use crate::context::drop_caches;
use crate::idle_splice::splice;
use crate::mapping::Mapping;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::RwLockWriteGuard;
use std::thread;
use std::time::Duration;
use vtmem_workloads::content::PAGE_SIZE;

/// Between two tries.
const AWHILE: Duration = Duration::from_millis(10);
/// The driver's list of file systems, where one that it has given up is added again.
const MOUNTS: &str = "/sys/kernel/debug/virtio_tmem/mounts";

/// The mounted file system that the files are on.
#[derive(Debug)]
pub struct Volume {
    device: PathBuf,
    directory: PathBuf,
    fs: String,
}

impl Volume {
    /// The file system that is mounted at `directory`.
    ///
    /// # Errors
    /// None is.
    pub fn at(directory: &Path) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        mounts
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ').map(str::to_owned);
                Some(Self {
                    device: words.next()?.into(),
                    directory: words.next()?.into(),
                    fs: words.next()?,
                })
            })
            .rfind(|volume| volume.directory == directory)
            .ok_or_else(|| {
                io::Error::other(format!("{}: nothing is mounted there", directory.display()))
            })
    }

    /// Where it is mounted.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it is on.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Mounts it anew with its own `options`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remount_with(&self, options: &str) -> io::Result<()> {
        let (device, directory) = (&self.device, &self.directory);
        patiently(|| kernel::mount_with(device, directory, &self.fs, false, true, options))
    }

    /// Whether files can share blocks.
    pub fn shares_blocks(&self) -> bool {
        self.fs == "xfs"
    }

    /// Whether it is ext4.
    pub fn is_ext4(&self) -> bool {
        self.fs == "ext4"
    }

    /// Does `work`, which is told the device, while the file system is not mounted.
    ///
    /// # Errors
    /// The kernel's, and those of `work`.
    pub fn while_unmounted<R>(&self, work: impl FnOnce(&Path) -> io::Result<R>) -> io::Result<R> {
        patiently(|| kernel::unmount(&self.directory))?;
        let done = work(&self.device);
        patiently(|| kernel::mount(&self.device, &self.directory, &self.fs, false, false))?;
        done
    }

    /// Does `work` while the file system, which another `device` leads to, is mounted at `directory`.
    ///
    /// # Errors
    /// The kernel's, and those of `work`.
    pub fn while_mounted_by<R>(
        &self,
        device: &Path,
        directory: &Path,
        work: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        patiently(|| kernel::mount(device, directory, &self.fs, false, false))?;
        let done = work();
        patiently(|| kernel::unmount(directory))?;
        done
    }

    /// Has the driver make a pool anew while a splice, which waits for an idle pipe, is in the middle of a write to the file system:
    /// for as long as it takes, which depends on nobody who writes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn idle_splice(&self) -> io::Result<Verdict> {
        let path = self
            .directory
            .join(format!("splice{}", kernel::thread_id()));
        let file = fs::File::create(&path)?;
        let (idle, end) = io::pipe()?;
        let spliced = thread::scope(|scope| {
            let waiting = scope.spawn(|| splice(&idle, &file));
            thread::sleep(AWHILE);
            let device = fs::File::open(&self.device)?;
            let flushed = kernel::flush_device(&device).and_then(|()| kept(&self.directory));
            drop(end);
            let waited = waiting.join().map_err(|_| io::Error::other("a panic"))?;
            flushed.and(waited)
        });
        drop(file);
        fs::remove_file(&path)?;
        spliced.map(|()| NOTHING_READ)
    }

    /// Does `operation` to the file system of `files`.
    pub fn execute(
        &self,
        operation: Operation,
        files: &[TortureFile],
        tools: &mut Tools,
    ) -> io::Result<Verdict> {
        let mut shapes: Vec<_> = files.iter().map(TortureFile::whole).collect();
        let file = &files[operation.file as usize];
        let below = match operation.kind {
            Kind::WriteBelow(range) | Kind::ZeroBelow(range) | Kind::WriteUnmounted(range) => {
                let shape = &shapes[operation.file as usize];
                self.place(file, shape, range)?
            }
            _ => None,
        };
        for (file, shape) in files.iter().zip(&mut shapes) {
            file.close(shape)?;
        }
        let mount = |readonly, anew| {
            patiently(|| kernel::mount(&self.device, &self.directory, &self.fs, readonly, anew))
        };
        match operation.kind {
            Kind::WriteUnmounted(_) => {
                patiently(|| kernel::unmount(&self.directory))?;
                let written = self.write(file, below, false);
                mount(false, false)?;
                written?;
            }
            _ => {
                mount(true, true)?;
                // Remounting has emptied the host's memory; there is new in it when the disk changes.
                let held = below.map_or(Ok(()), |(page, _)| hold(file, page));
                let zero = matches!(operation.kind, Kind::ZeroBelow(_));
                let written = held.and_then(|()| self.write(file, below, zero));
                drop_caches();
                mount(false, true)?;
                written?;
            }
        }
        for (file, shape) in files.iter().zip(&mut shapes) {
            file.open(shape)?;
        }
        // Mounted anew, the file system gets its pool at the first read, in the driver's own time. Not of the file whose disk was
        // changed: what the host had of that would be got, and dropped before it is looked at.
        let another = (operation.file as usize + 1) % files.len();
        shapes[another].buffered.read_at(&mut [0], 0)?;
        thread::sleep(5 * AWHILE);
        let Some((page, _)) = below else {
            return Ok(NOTHING_READ);
        };
        self.look(file, &mut shapes[operation.file as usize], page, tools)
    }

    /// A page of the range that has a block on the disk, and which.
    fn place(
        &self,
        file: &TortureFile,
        shape: &Shape,
        range: Range,
    ) -> io::Result<Option<(u32, u32)>> {
        shape.buffered.sync_all()?;
        let inside = TortureFile::inside(range, shape) / PAGE_SIZE;
        if inside == 0 || shape.unlinked {
            return Ok(None);
        }
        // The host may hold the page as it was.
        Mapping::of_file(&shape.buffered, range.first, inside)?.reclaim();
        let block = kernel::block_of(&shape.buffered, range.first);
        // xfs does not tell of files that share blocks.
        let block = block.unwrap_or_else(|error| {
            debug_assert!(self.shares_blocks(), "{}: {error}", file.path.display());
            None
        });
        Ok(block.map(|block| (range.first, block)))
    }

    /// Writes new content, or zeros, to a page's block, past the file system.
    fn write(&self, file: &TortureFile, below: Option<(u32, u32)>, zero: bool) -> io::Result<()> {
        let Some((page, block)) = below else {
            return Ok(());
        };
        let state = if zero {
            PageState::default()
        } else {
            file.fresh(page)
        };
        let mut options = OpenOptions::new();
        let device = options
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&self.device)?;
        if zero {
            kernel::zero_out(&device, offset(block))?;
        } else {
            let mut buffer = Mapping::anonymous(1)?;
            *buffer.page(0) = file.content(state);
            device.write_all_at(buffer.bytes(), offset(block))?;
        }
        let range = Range {
            first: page,
            count: 1,
        };
        file.states_mut(range)[(page % STRIPE) as usize] = state;
        Ok(())
    }

    /// Reads a page that was changed on the disk. The page cache may go on holding the old one where it cannot drop it:
    /// then the page is written anew.
    fn look(
        &self,
        file: &TortureFile,
        shape: &mut RwLockWriteGuard<'_, Shape>,
        page: u32,
        tools: &mut Tools,
    ) -> io::Result<Verdict> {
        drop_caches();
        let range = Range {
            first: page,
            count: 1,
        };
        let state = file.states(range)[(page % STRIPE) as usize];
        let found = tools.buffer.page(0);
        let resident = Mapping::of_file(&shape.buffered, page, 1)?.resident()?;
        let verdict = if resident[0] {
            *found = file.content(state);
            shape.buffered.write_all_at(found, offset(page))?;
            NOTHING_READ
        } else {
            let length = PAGE_SIZE.min((shape.length - offset(page)) as usize);
            shape
                .buffered
                .read_exact_at(&mut found[..length], offset(page))?;
            (
                length as u64,
                file.check(Access::Buffered, page, state, &found[..length]),
            )
        };
        // The driver has given the file system up, as it should.
        kept(&self.directory)?;
        Ok(verdict)
    }
}

/// Has the driver, if it is there and keeps page cache at all, keep that of the file system at `directory`, and waits until it
/// does.
///
/// # Errors
/// It does not.
pub fn kept(directory: &Path) -> io::Result<()> {
    if !Path::new(MOUNTS).exists() {
        return Ok(());
    }
    let line = format!("+{}\n", directory.display());
    match patiently(|| fs::write(MOUNTS, &line)) {
        // Loaded without its cleancache.
        Err(error) if error.raw_os_error() == Some(libc::ESHUTDOWN) => Ok(()),
        done => done,
    }
}

/// A file whose last request ended a moment ago may still be open for that long, and there may be no memory for a moment.
fn patiently(mut work: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..200 {
        match work() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOMEM)) => {
                thread::sleep(AWHILE);
            }
            done => return done,
        }
    }
    work()
}

/// Has the host hold a page of a file that is not open, when it can.
fn hold(file: &TortureFile, page: u32) -> io::Result<()> {
    let opened = fs::File::open(&file.path)?;
    for _ in 0..3 {
        // The first read has the driver make a pool, in its own time.
        let mut content = [0; PAGE_SIZE];
        opened.read_exact_at(&mut content, offset(page))?;
        thread::sleep(30 * AWHILE);
        Mapping::of_file_at_random(&opened, page as usize + 1)?.reclaim_last();
    }
    Ok(())
}
