//! What befalls a file before the driver knows its file system, and leaves its cached pages older than the disk: blocks of ext4 that
//! are exchanged. They must not go to the host when it does.

use super::file::{NOTHING_READ, Verdict};
use super::volume::{self, Volume};
use super::{kernel, reload};
use crate::mapping::Mapping;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use vtmem_workloads::content::{PAGE_SIZE, differing_bytes, fill_page};

const PAGES: usize = 4;
/// The first of their numbers among the files whose content is generated.
const FILE: u32 = u32::MAX - 8;

/// Exchanges blocks of two files, and compares what the donor has then with the disk.
///
/// # Errors
/// The kernel's.
pub fn run(volume: &Volume, seed: u64) -> io::Result<Verdict> {
    let paths = ["early", "donor"].map(|name| volume.directory().join(name));
    let files = [0, 1].map(|number: u32| -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&paths[number as usize])?;
        let mut page = [0; PAGE_SIZE];
        for index in 0..PAGES {
            fill_page(seed, FILE + number, index as u32, &mut page);
            file.write_all_at(&page, (index * PAGE_SIZE) as u64)?;
        }
        file.sync_all()?;
        Ok(file)
    });
    let [file, donor] = files;
    let (file, donor) = (file?, donor?);
    reload::run()?;
    kernel::move_extent(&file, &donor, 0, PAGES as u32)?;
    volume::kept(volume.directory())?;
    Mapping::of_file(&donor, 0, PAGES)?.reclaim();

    let resident = Mapping::of_file(&donor, 0, PAGES)?.resident()?;
    let mut direct = OpenOptions::new();
    let direct = direct.read(true).custom_flags(libc::O_DIRECT);
    let mut disk = Mapping::anonymous(PAGES)?;
    direct.open(&paths[1])?.read_exact_at(disk.bytes(), 0)?;
    let (mut verified, mut corrupt) = NOTHING_READ;
    let mut page = [0; PAGE_SIZE];
    for (index, resident) in resident.iter().enumerate() {
        // What stayed in the page cache is older than the disk without tmem too.
        if *resident {
            continue;
        }
        donor.read_exact_at(&mut page, (index * PAGE_SIZE) as u64)?;
        verified += PAGE_SIZE as u64;
        corrupt += differing_bytes(disk.page(index), &page);
    }
    if corrupt > 0 {
        eprintln!(
            "torture: {corrupt} bytes came back that were another file's since before it was known"
        );
    }
    drop((file, donor));
    paths.iter().try_for_each(fs::remove_file)?;
    Ok((verified, corrupt))
}
