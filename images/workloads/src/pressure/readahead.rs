//! A file that is larger than memory, asked for at once.

use super::Task;
use super::sheet::Sheet;
use crate::context::about;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes};
use vtmem_workloads::dataset::DataFile;
use vtmem_workloads::workload::Outcome;

/// The file's number among those whose content is generated.
const FILE: u32 = u32::MAX - 3;
/// Its content is the same in all rounds.
const SEED: u64 = 1;

fn path(task: &Task) -> PathBuf {
    task.directory.join("ahead")
}

/// Writes the file, one and a half times as large as memory.
///
/// # Errors
/// It cannot be written.
pub fn prepare(task: &Task) -> io::Result<()> {
    let path = path(task);
    let file = DataFile {
        path: "ahead".to_owned(),
        file: FILE,
        pages: (task.mem * 3 / 2 / PAGE_SIZE as u64) as u32,
    };
    let write = || {
        let mut out = BufWriter::new(File::create(&path)?);
        file.write_to(SEED, &mut out)?;
        out.flush()?;
        out.get_ref().sync_all()
    };
    write().map_err(about(path.display()))
}

/// One round: all of the file is asked for in both ways while half of memory is in use, and then read.
///
/// # Errors
/// What the kernel refuses, or a file that ends early.
pub fn run(task: &Task) -> io::Result<Outcome> {
    let mut totals = Outcome::default();
    let mut sheet: Sheet = task.sheet(1, 2)?;
    let path = path(task);
    let mut file = File::open(&path).map_err(about(path.display()))?;
    let length = file.metadata()?.len();
    for ahead in [by_readahead, by_advice] {
        ahead(&file, length).map_err(about(path.display()))?;
        sheet.verify(&mut totals);
    }
    let mut page = [0; PAGE_SIZE];
    for index in 0..length / PAGE_SIZE as u64 {
        file.read_exact(&mut page).map_err(about(path.display()))?;
        totals.bytes_corrupt += corrupt_bytes(SEED, FILE, index as u32, &page);
        totals.bytes_verified += PAGE_SIZE as u64;
    }
    sheet.verify(&mut totals);
    Ok(totals)
}

fn by_readahead(file: &File, length: u64) -> io::Result<()> {
    // SAFETY: takes numbers alone.
    match unsafe { libc::readahead(file.as_raw_fd(), 0, length as usize) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn by_advice(file: &File, length: u64) -> io::Result<()> {
    // SAFETY: takes numbers alone.
    match unsafe {
        libc::posix_fadvise(
            file.as_raw_fd(),
            0,
            length as libc::off_t,
            libc::POSIX_FADV_WILLNEED,
        )
    } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
