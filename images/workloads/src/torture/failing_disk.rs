//! A disk that changes by itself, mounted or not, and then fails to write: a loop device whose file is written to, and has no
//! room to grow. Of the first, the page cache knows when it is told (BLKFLSBUF) or anew; after the last, what it goes on holding
//! is newer than the disk. None of it may come back from the host; nor what a file had whose blocks somebody asked for, as who then
//! writes to them does, or a disk that was sent a command.

use super::file::{NOTHING_READ, Verdict};
use super::kernel;
use super::{reload, volume};
use crate::context::{about, command, drop_caches};
use crate::mapping::Mapping;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use vtmem_workloads::content::{PAGE_SIZE, differing_bytes, fill_page};

const LOOP: &str = "/dev/loop0";
const ROOM: &str = "/tmp/failing";
const MOUNTED: &str = "/tmp/failing-disk";
/// Pages that the disk has no room for.
const PAGES: usize = 64;
/// Their number among the files whose content is generated.
const FILE: u32 = u32::MAX - 3;
/// Likewise, of the file that changes while it is not mounted.
const UNMOUNTED_FILE: u32 = u32::MAX - 4;
/// How often the disk changes while it is not mounted.
const MOUNTS: u32 = 2;

/// Runs where the kernel has loop devices.
pub fn run(seed: u64) -> io::Result<Verdict> {
    if !Path::new(LOOP).exists() {
        return Ok(NOTHING_READ);
    }
    command("mkdir", &["-p", ROOM, MOUNTED])?;
    command("mount", &["-t", "tmpfs", "-o", "size=6m", "room", ROOM])?;
    let image = format!("{ROOM}/disk");
    fs::File::create(&image)?.set_len(64 << 20)?;
    command("losetup", &[LOOP, &image])?;
    command("mke2fs", &["-b", "4096", "-i", "262144", LOOP])?;
    command("mount", &["-t", "ext4", LOOP, MOUNTED])?;
    let unmounted = change_unmounted(seed).map_err(about("a disk that changes unmounted"))?;
    let failing = compare(seed).map_err(about("a disk that fails to write"))?;
    let verdict = (unmounted.0 + failing.0, unmounted.1 + failing.1);
    command("umount", &[MOUNTED])?;
    command("losetup", &["-d", LOOP])?;
    command("umount", &[ROOM])?;
    Ok(verdict)
}

/// Changes a file's page on the disk while that is not mounted, and reads it.
fn change_unmounted(seed: u64) -> io::Result<Verdict> {
    let path = Path::new(MOUNTED).join("moving");
    let image = OpenOptions::new()
        .write(true)
        .open(Path::new(ROOM).join("disk"))?;
    let mut page = [0; PAGE_SIZE];
    let file = fs::File::create_new(&path)?;
    file.write_all_at(&page, 0)?;
    file.sync_all()?;
    let Some(block) = kernel::block_of(&file, 0)? else {
        return Err(io::Error::other("the file has no block"));
    };
    drop(file);
    let (mut verified, mut corrupt) = NOTHING_READ;
    for version in 0..MOUNTS {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        file.read_exact_at(&mut page, 0)?;
        volume::kept(Path::new(MOUNTED))?;
        Mapping::of_file(&file, 0, 1)?.reclaim();
        drop(file);
        command("umount", &[MOUNTED])?;
        let mut new = [0; PAGE_SIZE];
        fill_page(seed, UNMOUNTED_FILE, version, &mut new);
        image.write_all_at(&new, u64::from(block) * PAGE_SIZE as u64)?;
        command("mount", &["-t", "ext4", LOOP, MOUNTED])?;
        let mut found = [0; PAGE_SIZE];
        fs::File::open(&path)?.read_exact_at(&mut found, 0)?;
        verified += PAGE_SIZE as u64;
        corrupt += differing_bytes(&new, &found);
    }
    if corrupt > 0 {
        eprintln!("torture: {corrupt} bytes came back that the disk had before it was mounted");
    }
    Ok((verified, corrupt))
}

fn compare(seed: u64) -> io::Result<Verdict> {
    let path = Path::new(MOUNTED).join("file");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.open(&path)?;
    let mut page = [0; PAGE_SIZE];
    file.write_all_at(&page, 0)?;
    file.sync_all()?;
    kernel::forget(&file)?;
    file.read_exact_at(&mut page, 0)?;
    volume::kept(Path::new(MOUNTED))?;
    let mut verdicts = vec![];
    verdicts.push(change(seed, &file, || {
        kernel::flush_device(&fs::File::open(LOOP)?)
    })?);
    volume::kept(Path::new(MOUNTED))?;
    // The disk knows no such command.
    let sent = || kernel::send_command(&fs::File::open(LOOP)?).or(Ok(()));
    verdicts.push(change(seed, &file, sent)?);
    volume::kept(Path::new(MOUNTED))?;
    let asked = options.open(path.with_extension("asked"))?;
    asked.write_all_at(&page, 0)?;
    asked.sync_all()?;
    verdicts.push(change(seed, &asked, || kernel::ask_block(&asked))?);
    let mut verified = verdicts.iter().map(|verdict| verdict.0).sum::<u64>();
    let mut corrupt = verdicts.iter().map(|verdict| verdict.1).sum::<u64>();

    let mut filler = fs::File::create(Path::new(ROOM).join("filler"))?;
    while filler.write_all(&[1; PAGE_SIZE]).is_ok() {}
    for index in 0..PAGES {
        fill_page(seed, FILE, index as u32, &mut page);
        file.write_all_at(&page, (index * PAGE_SIZE) as u64)?;
    }
    if file.sync_all().is_ok() {
        return Err(io::Error::other("the disk did not fail"));
    }
    // The driver has to see it whether it was there when the disk failed or not.
    reload::run()?;
    volume::kept(Path::new(MOUNTED))?;
    Mapping::of_file(&file, 0, PAGES)?.reclaim();

    let resident = Mapping::of_file(&file, 0, PAGES)?.resident()?;
    let mut direct = OpenOptions::new();
    let direct = direct.read(true).custom_flags(libc::O_DIRECT).open(&path)?;
    let mut disk = Mapping::anonymous(PAGES)?;
    // The first tells of the failure once more.
    let _ = direct.read_at(disk.bytes(), 0);
    let length = direct.read_at(disk.bytes(), 0)?;
    for (index, resident) in resident.iter().enumerate().take(length / PAGE_SIZE) {
        // What stayed in the page cache is newer than the disk without tmem too.
        if *resident {
            continue;
        }
        file.read_exact_at(&mut page, (index * PAGE_SIZE) as u64)?;
        verified += PAGE_SIZE as u64;
        corrupt += differing_bytes(disk.page(index), &page);
    }
    if corrupt > 0 {
        eprintln!(
            "torture: {corrupt} bytes came back that the disk failed to write, or had no longer"
        );
    }
    drop(fs::remove_file(Path::new(ROOM).join("filler")));
    Ok((verified, corrupt))
}

/// Changes the file's first page on the disk, has the kernel know of it by `tell`, and reads it.
fn change(
    seed: u64,
    file: &fs::File,
    tell: impl FnOnce() -> io::Result<()>,
) -> io::Result<Verdict> {
    let mut page = [0; PAGE_SIZE];
    file.read_exact_at(&mut page, 0)?;
    let image = OpenOptions::new()
        .write(true)
        .open(Path::new(ROOM).join("disk"))?;
    let Some(block) = kernel::block_of(file, 0)? else {
        return Err(io::Error::other("the file has no block"));
    };
    Mapping::of_file(file, 0, 1)?.reclaim();
    let mut new = [0; PAGE_SIZE];
    fill_page(seed ^ u64::from(page[0]), FILE, PAGES as u32, &mut new);
    image.write_all_at(&new, u64::from(block) * PAGE_SIZE as u64)?;
    tell()?;
    drop_caches();
    if Mapping::of_file(file, 0, 1)?.resident()?[0] {
        return Ok(NOTHING_READ);
    }
    file.read_exact_at(&mut page, 0)?;
    Ok((PAGE_SIZE as u64, differing_bytes(&new, &page)))
}
