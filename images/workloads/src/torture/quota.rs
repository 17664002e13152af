//! Quotas in a file that can be seen, which ext4 writes to past the file's page cache: as long as they are on, what is read of it is
//! not the host's.

use super::file::{NOTHING_READ, Verdict};
use super::kernel::{self, Quota};
use super::volume::{self, Volume};
use crate::context::{about, drop_caches};
use crate::mapping::Mapping;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, chown};
use std::path::Path;
use vtmem_workloads::content::{PAGE_SIZE, differing_bytes};

/// Whose files are counted: nobody else has any.
const USERS: std::ops::Range<u32> = 70_000..70_100;
/// Of the file's format, version 1: its blocks, and what its first one begins with.
const BLOCK: usize = 1024;
const MAGIC: u32 = 0xd9c0_1f11;
const VERSION: u32 = 1;
const GRACE: u32 = 7 * 24 * 3600;

/// Runs where the kernel has quotas.
///
/// # Errors
/// The kernel's.
pub fn run(volume: &Volume) -> io::Result<Verdict> {
    if !Path::new("/proc/sys/fs/quota").exists() {
        return Ok(NOTHING_READ);
    }
    let path = volume.directory().join("aquota.user");
    fs::write(&path, empty())?;
    volume.remount_with("usrquota").map_err(about("usrquota"))?;
    kernel::quota(Quota::On, volume.device(), &path).map_err(about("quotas on"))?;
    let verdict = compare(volume, &path);
    kernel::quota(Quota::Off, volume.device(), &path).map_err(about("quotas off"))?;
    volume.remount_with("noquota").map_err(about("noquota"))?;
    fs::remove_file(&path)?;
    verdict
}

/// A quota file that counts nobody: a block with header and times, and the root of an empty tree.
fn empty() -> Vec<u8> {
    let words = [MAGIC, VERSION, GRACE, GRACE, 0, 2, 0, 0];
    let mut file: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    file.resize(2 * BLOCK, 0);
    file
}

/// Has the host take the file's pages, if it will, has the kernel write others, and compares what is read with the disk.
fn compare(volume: &Volume, path: &Path) -> io::Result<Verdict> {
    let directory = volume.directory().join("users");
    fs::create_dir_all(&directory)?;
    let count = |users: std::ops::Range<u32>| -> io::Result<()> {
        for user in users {
            let file = directory.join(user.to_string());
            fs::write(&file, [1; PAGE_SIZE])?;
            chown(&file, Some(user), None)?;
        }
        // To its blocks, and not to the journal alone; without Q_SYNC, which has the kernel drop what is cached of the file.
        let root = File::open(volume.directory())?;
        root.sync_all()?;
        kernel::freeze(&root, true)?;
        kernel::freeze(&root, false)
    };
    let half = USERS.start + USERS.len() as u32 / 2;
    count(USERS.start..half)?;

    let file = File::open(path)?;
    let mut page = [0; PAGE_SIZE];
    file.read_exact_at(&mut page, 0)?;
    volume::kept(volume.directory())?;
    // It can't be opened to be written.
    Mapping::of_file_at_random(&file, 1)?.reclaim();
    count(half..USERS.end)?;
    drop_caches();
    let mut disk = Mapping::anonymous(1)?;
    let mut direct = OpenOptions::new();
    let direct = direct.read(true).custom_flags(libc::O_DIRECT).open(path)?;
    direct.read_exact_at(disk.bytes(), 0)?;
    file.read_exact_at(&mut page, 0)?;
    let corrupt = differing_bytes(disk.page(0), &page);
    if corrupt > 0 {
        eprintln!("torture: {corrupt} bytes came back of a quota file that has others by now");
    }
    fs::remove_dir_all(&directory)?;
    Ok((PAGE_SIZE as u64, corrupt))
}
