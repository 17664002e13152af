//! `dax`: a file of which the host holds pages becomes one that is read and written past the page cache (DAX), is written to, and
//! becomes an ordinary one again.

use crate::context::{about, drop_caches};
use crate::mapping::Mapping;
use crate::torture::kernel;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use vtmem_workloads::content::{PAGE_SIZE, differing_bytes, fill_page};

const PAGES: usize = 64;

/// Returns how many bytes were not what was written last.
///
/// # Errors
/// The kernel's; or the file system cannot do that.
pub fn run(directory: &Path, seed: u64) -> io::Result<u64> {
    let path = directory.join("dax");
    write(&open(&path)?, seed, 1)?;
    let file = open(&path)?;
    let mut page = [0; PAGE_SIZE];
    for index in 0..PAGES {
        file.read_exact_at(&mut page, place(index))?;
    }
    Mapping::of_file(&file, 0, PAGES)?.reclaim();
    if Mapping::of_file(&file, 0, PAGES)?
        .resident()?
        .contains(&true)
    {
        return Err(io::Error::other("pages stay in the page cache"));
    }
    // The flag holds when the inode is in memory anew.
    kernel::uncache(&file)?;
    drop(file);
    drop_caches();
    let file = open(&path)?;
    write(&file, seed, 2)?;
    if Mapping::of_file(&file, 0, PAGES)?
        .resident()?
        .contains(&true)
    {
        return Err(io::Error::other(
            "the file system does not do DAX: a page is cached",
        ));
    }
    kernel::uncache(&file)?;
    drop(file);
    drop_caches();
    let file = open(&path)?;
    let (mut wrong, mut right) = (0, [0; PAGE_SIZE]);
    for index in 0..PAGES {
        file.read_exact_at(&mut page, place(index))?;
        fill_page(seed, 2, index as u32, &mut right);
        wrong += differing_bytes(&right, &page);
    }
    Ok(wrong)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(about(path.display()))
}

fn place(page: usize) -> u64 {
    (page * PAGE_SIZE) as u64
}

fn write(file: &File, seed: u64, version: u32) -> io::Result<()> {
    let mut page = [0; PAGE_SIZE];
    for index in 0..PAGES {
        fill_page(seed, version, index as u32, &mut page);
        file.write_all_at(&page, place(index))?;
    }
    file.sync_all()
}
