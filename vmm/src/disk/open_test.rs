//! Which disks open, with which flags, and which are refused.

use std::os::fd::AsRawFd;
use std::path::Path;

use tempfile::{NamedTempFile, TempDir};

use super::{Cache, Disk, DiskError, DiskOptions};
use crate::not_run::not_run;

fn image(size: u64) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len(size).expect("set its size");
    file
}

fn open(path: &Path, cache: Cache, readonly: bool) -> Result<Disk, DiskError> {
    Disk::open(&DiskOptions {
        path: path.to_owned(),
        cache,
        readonly,
    })
}

fn message(result: Result<Disk, DiskError>) -> String {
    let message = result.expect_err("must be refused").to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn flags_are_those_of_the_cache_mode() {
    let image = image(1 << 20);
    for (cache, readonly) in [
        (Cache::None, false),
        (Cache::None, true),
        (Cache::Writethrough, false),
        (Cache::Writethrough, true),
        (Cache::Writeback, false),
        (Cache::Writeback, true),
    ] {
        let disk = open(image.path(), cache, readonly).expect("opens");
        // SAFETY: F_GETFL takes no argument.
        let flags = unsafe { libc::fcntl(disk.file().as_raw_fd(), libc::F_GETFL) };
        let has = |flag| flags & flag != 0;
        assert_eq!(has(libc::O_DIRECT), cache == Cache::None, "{cache}");
        assert_eq!(has(libc::O_DSYNC), cache == Cache::Writethrough, "{cache}");
        let mode = if readonly {
            libc::O_RDONLY
        } else {
            libc::O_RDWR
        };
        assert_eq!(flags & libc::O_ACCMODE, mode);
        assert_eq!(disk.direct().is_some(), cache == Cache::None);
        assert!(disk.block_size().is_power_of_two() && disk.block_size() >= 512);
        assert_eq!(disk.size(), 1 << 20);
    }
}

#[test]
fn writers_exclude_everybody_and_readers_share() {
    let image = image(4096);
    let path = image.path();
    let writer = open(path, Cache::Writeback, false).expect("opens");
    for readonly in [false, true] {
        let message = message(open(path, Cache::Writeback, readonly));
        assert!(message.contains("is busy"), "{message}");
        assert!(message.contains(path.to_str().expect("UTF-8")), "{message}");
    }
    drop(writer);
    let reader = open(path, Cache::Writeback, true).expect("opens after the writer left");
    let second = open(path, Cache::None, true).expect("readers share");
    assert!(message(open(path, Cache::Writeback, false)).contains("is busy"));
    drop((reader, second));
    open(path, Cache::Writeback, false).expect("opens after the readers left");
}

#[test]
fn sizes_that_are_no_disk() {
    assert!(message(open(image(0).path(), Cache::Writeback, false)).contains("is empty"));
    for size in [1, 511, 513, 1_000_000] {
        let message = message(open(image(size).path(), Cache::Writeback, false));
        assert!(message.contains(&format!("has {size} bytes")), "{message}");
    }
    open(image(512).path(), Cache::Writeback, false).expect("one sector is a disk");
}

#[test]
fn what_is_no_disk() {
    let directory = TempDir::new().expect("a temporary directory");
    let missing = directory.path().join("missing");
    for (path, expected) in [
        (directory.path(), "is a directory"),
        (Path::new("/dev/null"), "is a character device"),
        (missing.as_path(), "No such file or directory"),
    ] {
        let message = message(open(path, Cache::Writeback, false));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_file_system_without_direct_io_is_named() {
    let path = Path::new("/sys/kernel/notes");
    if !path.exists() {
        not_run(format!("{} is not there", path.display()));
        return;
    }
    let message = message(open(path, Cache::None, true));
    assert!(message.contains("O_DIRECT"), "{message}");
    assert!(
        message.contains("cache=writethrough or cache=writeback"),
        "{message}"
    );
}
