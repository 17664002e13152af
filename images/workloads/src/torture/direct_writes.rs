//! Direct writes that are caught half way, on a disk that makes them wait: what gets into the page cache meanwhile, and leaves
//! it for the host, must not be there when they have ended, however they do.

use super::file::{NOTHING_READ, Verdict};
use super::held_disk::{self, End, HeldDisk, MARK, Writes, until};
use super::kernel;
use super::volume::{self, Volume};
use crate::context::about;
use crate::mapping::Mapping;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use vtmem_workloads::content::{PAGE_SIZE, differing_bytes, fill_page};

const MOUNTED: &str = "/tmp/held-disk";
/// Below that.
const FILES: &str = "torture.direct";
/// Pages of each file.
const PAGES: usize = 4;
/// Their number among the files whose content is generated.
const FILE: u32 = u32::MAX - 5;
/// How often pages are reclaimed that do not go.
const TRIES: u32 = 10;
/// So begins the first block of a transaction in the journal of ext4.
const JOURNAL_MAGIC: [u8; 4] = 0xc03b_3998_u32.to_be_bytes();
/// Where ext4 makes what was written directly part of the file, after the last of it is on the disk.
const CONVERSION: &str = "ext4_dio_write_end_io";

/// Runs where the kernel has network block devices, on the volume's file system.
pub fn run(volume: &Volume, seed: u64) -> io::Result<Verdict> {
    if !Path::new(held_disk::DEVICE).exists() {
        return Ok(NOTHING_READ);
    }
    let (device, directory) = (Path::new(held_disk::DEVICE), Path::new(MOUNTED));
    fs::create_dir_all(directory)?;
    volume.while_unmounted(|below| {
        HeldDisk::serve(below, |disk| {
            volume.while_mounted_by(device, directory, || {
                let verdict = probe(disk, volume.is_ext4(), seed);
                let removed = fs::remove_dir_all(directory.join(FILES));
                verdict.and_then(|verdict| removed.map(|()| verdict))
            })
        })
    })
}

fn probe(disk: &HeldDisk, is_ext4: bool, seed: u64) -> io::Result<Verdict> {
    fs::create_dir_all(Path::new(MOUNTED).join(FILES))?;
    let probe = |name| Probe::new(disk, seed, name);
    volume::kept(Path::new(MOUNTED))?;
    let mut verdicts = vec![
        ("a direct write that failed", probe("failed")?.failed()?),
        (
            "a mapping was written to meanwhile",
            probe("mapped")?.mapped()?,
        ),
    ];
    if is_ext4 {
        let verdict = probe("unwritten")?.unwritten()?;
        verdicts.push(("a direct write to what was never written", verdict));
    }
    let (mut verified, mut corrupt) = NOTHING_READ;
    for (about, verdict) in verdicts {
        verified += verdict.0;
        corrupt += verdict.1;
        if verdict.1 > 0 {
            eprintln!(
                "torture: {} bytes came back that the disk does not have: {about}",
                verdict.1
            );
        }
    }
    Ok((verified, corrupt))
}

/// A file on the disk.
struct Probe<'a> {
    disk: &'a HeldDisk,
    seed: u64,
    buffered: File,
    direct: File,
}

impl<'a> Probe<'a> {
    fn new(disk: &'a HeldDisk, seed: u64, name: &str) -> io::Result<Self> {
        let path = Path::new(MOUNTED).join(FILES).join(name);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        let buffered = options.create(true).truncate(true).open(&path);
        let direct = options.custom_flags(libc::O_DIRECT).open(&path);
        Ok(Self {
            disk,
            seed,
            buffered: buffered.map_err(about(path.display()))?,
            direct: direct.map_err(about(path.display()))?,
        })
    }

    /// The write fails, but the disk has some of it: here, all.
    fn failed(&self) -> io::Result<Verdict> {
        self.write_old()?;
        let written = self.write_directly(|_| {
            self.read_all()?;
            self.disk.let_go(Writes::Data, End::Failure);
            Ok(())
        })?;
        match written {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => self.compare(),
            ended => Err(io::Error::other(format!(
                "the disk did not fail: {ended:?}"
            ))),
        }
    }

    /// Meanwhile a page is read, and written through a mapping: it cannot be dropped when the direct write ends.
    fn mapped(&self) -> io::Result<Verdict> {
        self.write_old()?;
        let written = self.write_directly(|_| {
            self.read_all()?;
            let mut mapping = Mapping::of_file(&self.buffered, 0, PAGES)?;
            self.fill(mapping.page(1), 3 * PAGES);
            Ok(())
        })?;
        written?;
        // That it could not drop the page is an error to the kernel, of which it tells once.
        match self.buffered.sync_all() {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {}
            told => return Err(io::Error::other(format!("the page was dropped: {told:?}"))),
        }
        self.buffered.sync_all()?;
        self.compare()
    }

    /// The pages were allocated, but never written. They are zeros until the file system has noted that they are: in ext4
    /// that waits for a commit which has the inode, and that for its writes to the journal.
    fn unwritten(&self) -> io::Result<Verdict> {
        kernel::fallocate(&self.buffered, 0, 0, (PAGES * PAGE_SIZE) as u64)?;
        self.buffered.sync_all()?;
        let written = self.write_directly(|writer| {
            self.disk.hold(Writes::Rest);
            thread::scope(|scope| {
                let commit = scope.spawn(|| self.buffered.sync_all());
                let done = self.reclaim_before_conversion(writer);
                self.disk.let_go(Writes::Rest, End::Success);
                let committed = commit.join().unwrap_or_else(|_| Err(super::panicked()));
                done.and(committed)
            })
        })?;
        written?;
        self.compare()
    }

    fn reclaim_before_conversion(&self, writer: i32) -> io::Result<()> {
        self.disk.wait_for(Writes::Rest, &JOURNAL_MAGIC)?;
        self.disk.let_go(Writes::Data, End::Success);
        let stack = format!("/proc/self/task/{writer}/stack");
        until(|| Ok(fs::read_to_string(&stack)?.contains(CONVERSION)))
            .map_err(about("a direct write that waits for a commit"))?;
        self.reclaim()
    }

    /// Makes pages that nobody waits for, on the disk and not cached.
    fn write_old(&self) -> io::Result<()> {
        let mut page = [0; PAGE_SIZE];
        for index in 0..PAGES {
            self.fill(&mut page, index);
            self.buffered
                .write_all_at(&page, (index * PAGE_SIZE) as u64)?;
        }
        self.buffered.sync_all()?;
        kernel::forget(&self.buffered)
    }

    /// Writes new pages directly and has that wait while something is done, which is told the number of the writing thread.
    /// Returns how the write ended.
    fn write_directly(
        &self,
        meanwhile: impl FnOnce(i32) -> io::Result<()>,
    ) -> io::Result<io::Result<()>> {
        let mut new = Mapping::anonymous(PAGES)?;
        for index in 0..PAGES {
            self.fill(new.page(index), 2 * PAGES + index);
            new.page(index)[..MARK.len()].copy_from_slice(&MARK);
        }
        let new = &*new.bytes();
        self.disk.hold(Writes::Data);
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let writer = scope.spawn(move || {
                // Who is told waits below.
                let _ = tell.send(kernel::thread_id());
                self.direct.write_all_at(new, 0)
            });
            let done = told
                .recv()
                .map_err(io::Error::other)
                .and_then(|id| self.disk.wait_for(Writes::Data, &MARK).map(|()| id))
                .and_then(meanwhile);
            self.disk.let_go(Writes::Data, End::Success);
            let written = writer.join().map_err(|_| super::panicked())?;
            done.map(|()| written)
        })
    }

    fn fill(&self, page: &mut [u8; PAGE_SIZE], number: usize) {
        fill_page(self.seed, FILE, number as u32, page);
    }

    /// Reads what is there through the page cache.
    fn read_all(&self) -> io::Result<()> {
        self.buffered.read_exact_at(&mut [0; PAGES * PAGE_SIZE], 0)
    }

    /// Reads and reclaims the pages, until none is cached.
    fn reclaim(&self) -> io::Result<()> {
        for _ in 0..TRIES {
            let mut mapping = Mapping::of_file(&self.buffered, 0, PAGES)?;
            mapping.reclaim();
            if !mapping.resident()?.contains(&true) {
                return Ok(());
            }
            // What another CPU added a moment ago is not yet on the lists that reclaim takes pages from. Before memory is
            // compacted all CPUs put theirs there.
            super::compact()?;
        }
        Err(io::Error::other("pages stay in the page cache"))
    }

    /// Reclaims the pages, and compares what is read then with what is on the disk.
    fn compare(&self) -> io::Result<Verdict> {
        self.reclaim()?;
        let mut disk = Mapping::anonymous(PAGES)?;
        self.direct.read_exact_at(disk.bytes(), 0)?;
        let mut found = [0; PAGES * PAGE_SIZE];
        self.buffered.read_exact_at(&mut found, 0)?;
        let corrupt = found.chunks(PAGE_SIZE).enumerate();
        let corrupt = corrupt.map(|(index, page)| differing_bytes(disk.page(index), page));
        Ok((found.len() as u64, corrupt.sum()))
    }
}
