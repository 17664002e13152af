//! Block devices, by a loop device: needs root and losetup(8).

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;

use super::buffers::BounceBuffer;
use super::{Cache, Disk, DiskError, DiskOptions};
use crate::not_run::not_run;

const SIZE: u64 = 8 << 20;

/// A loop device over a temporary file, gone when dropped.
struct Loop {
    device: PathBuf,
    _image: NamedTempFile,
}

impl Loop {
    /// `None`, and why on stderr, where this host has none to give.
    fn attach(sector: u32) -> Option<Loop> {
        let image = NamedTempFile::new().expect("a temporary file");
        image.as_file().set_len(SIZE).expect("set its size");
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", &sector.to_string()])
            .arg(image.path())
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Loop {
                device: String::from_utf8(output.stdout)
                    .expect("UTF-8")
                    .trim()
                    .into(),
                _image: image,
            }),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                not_run(format!("no loop device: {}", said.trim()));
                None
            }
            Err(error) => {
                not_run(format!("cannot run losetup: {error}"));
                None
            }
        }
    }

    fn open(&self, cache: Cache, readonly: bool) -> Result<Disk, DiskError> {
        open(&self.device, cache, readonly)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.device)
            .status();
    }
}

fn open(path: &Path, cache: Cache, readonly: bool) -> Result<Disk, DiskError> {
    Disk::open(&DiskOptions {
        path: path.to_owned(),
        cache,
        readonly,
    })
}

#[test]
fn size_and_block_are_the_devices() {
    for sector in [512, 4096] {
        let Some(device) = Loop::attach(sector) else {
            return;
        };
        for cache in [Cache::None, Cache::Writethrough, Cache::Writeback] {
            let disk = device.open(cache, false).expect("opens");
            assert_eq!((disk.size(), disk.block_size()), (SIZE, sector), "{cache}");
            let direct = disk.direct().map(|alignment| alignment.length);
            assert_eq!(direct, (cache == Cache::None).then_some(sector));
        }
    }
}

#[test]
fn what_the_host_wrote_and_read_is_counted() {
    let Some(device) = Loop::attach(512) else {
        return;
    };
    let disk = device.open(Cache::Writeback, false).expect("opens");
    let before = disk.host_counters().expect("counters");
    disk.file().write_all_at(&[1; 1 << 20], 0).expect("write");
    disk.file().sync_data().expect("sync");
    let after = disk.host_counters().expect("counters");
    assert_eq!(after.write_bytes - before.write_bytes, 1 << 20);
    assert!(after.write_ops > before.write_ops);
}

/// The host's storage has a write before it completes, or only after a sync, by cache mode.
#[test]
fn writes_reach_the_device_when_the_cache_mode_says() {
    let Some(device) = Loop::attach(512) else {
        return;
    };
    for (cache, at_once) in [
        (Cache::None, true),
        (Cache::Writethrough, true),
        (Cache::Writeback, false),
    ] {
        let disk = device.open(cache, false).expect("opens");
        let written = || disk.host_counters().expect("counters").write_bytes;
        let before = written();
        let mut bounce = BounceBuffer::new();
        disk.file()
            .write_all_at(bounce.bytes(4096), 0)
            .expect("write");
        assert_eq!(
            written() - before,
            if at_once { 4096 } else { 0 },
            "{cache}"
        );
        disk.file().sync_data().expect("sync");
        assert_eq!(written() - before, 4096, "{cache}");
    }
}

#[test]
fn used_devices_are_busy() {
    let Some(device) = Loop::attach(512) else {
        return;
    };
    let writer = device.open(Cache::None, false).expect("opens");
    for readonly in [false, true] {
        let error = device.open(Cache::Writeback, readonly).expect_err("in use");
        assert!(matches!(error, DiskError::Busy { .. }), "{error}");
    }
    drop(writer);
    let readers = [(); 2].map(|()| device.open(Cache::None, true).expect("readers share"));
    let error = device.open(Cache::None, false).expect_err("in use");
    assert!(matches!(error, DiskError::Busy { .. }), "{error}");
    drop(readers);
    device.open(Cache::Writeback, false).expect("free again");
}
