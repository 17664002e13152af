use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::DiskTier;
use super::*;
use crate::tier::{Load, MAX_RECORD, Tier};

fn open_at(path: &Path) -> Result<DiskTier, OpenError> {
    DiskTier::open(&DiskConfig::new(path, MIN_SIZE))
}

#[test]
fn a_file_is_made_used_emptied_and_used_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("spill");
    for _ in 0..2 {
        let tier = open_at(&path).expect("it opens");
        let metadata = std::fs::metadata(&path).expect("it is there");
        assert_eq!(metadata.mode() & 0o777, 0o600, "guests' memory is private");
        let handles = tier.store(&[&[5; 3000], &[6; 4096]]).expect("room");
        let mut buffer = [0; MAX_RECORD];
        let mut wanted = [Load::new(handles[1], &mut buffer)];
        tier.load(&mut wanted);
        assert_eq!(wanted[0].result, Ok(4096));
        assert_eq!(buffer[..4096], [6; 4096]);
        assert!(std::fs::metadata(&path).expect("it is there").len() <= MIN_SIZE);
        drop(tier);
        assert_eq!(std::fs::metadata(&path).expect("it stays").len(), 0);
    }
}

#[test]
fn what_a_killed_process_left_is_used_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("spill");
    let mut left = MAGIC.to_vec();
    left.resize(3 << 20, 0xa5);
    std::fs::write(&path, left).expect("a file");
    let _tier = open_at(&path).expect("it is ours");
    let length = std::fs::metadata(&path).expect("it is there").len();
    assert_eq!(length, BLOCK as u64, "what was left is gone");
}

#[test]
fn a_file_of_somebody_else_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("letter");
    for text in ["Dear reader", "vtmem spill v0\n"] {
        std::fs::write(&path, text).expect("a file");
        assert!(matches!(open_at(&path), Err(OpenError::ForeignFile { .. })));
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), text);
        // `overwrite` is for devices, which cannot be removed.
        let config = DiskConfig {
            overwrite: true,
            ..DiskConfig::new(&path, MIN_SIZE)
        };
        assert!(matches!(
            DiskTier::open(&config),
            Err(OpenError::ForeignFile { .. })
        ));
    }
}

#[test]
fn a_file_in_use_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("spill");
    let tier = open_at(&path).expect("it opens");
    let handles = tier.store(&[&[5; 3000]]).expect("room");
    assert!(matches!(open_at(&path), Err(OpenError::Busy { .. })));
    let mut buffer = [0; MAX_RECORD];
    let mut wanted = [Load::new(handles[0], &mut buffer)];
    tier.load(&mut wanted);
    assert_eq!(wanted[0].result, Ok(3000), "and not emptied");
}

#[test]
fn what_is_no_disk_or_too_small_is_refused_with_a_next_step() {
    let directory = tempfile::tempdir().expect("a directory");
    let says = |result: Result<DiskTier, OpenError>| match result {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    };
    let text = says(open_at(directory.path()));
    assert!(text.contains("a directory; give a file"), "{text}");
    let text = says(open_at(Path::new("/dev/null")));
    assert!(text.contains("a character device"), "{text}");
    let text = says(open_at(&directory.path().join("no/such/file")));
    assert!(text.contains("check the path"), "{text}");
    let small = DiskConfig::new(directory.path().join("small"), MIN_SIZE - 1);
    let text = says(DiskTier::open(&small));
    assert!(text.contains("give 8388608 at least"), "{text}");
    assert!(!small.path.exists(), "nothing was made");
}

#[test]
fn direct_io_is_used_where_there_is_any() {
    let directory = tempfile::tempdir().expect("a directory");
    for directory in [directory.path(), Path::new("/dev/shm")] {
        let file = tempfile::NamedTempFile::new_in(directory).expect("a file");
        let direct = || {
            let file = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_DIRECT)
                .open(file.path())?;
            file.write_all_at(Buffer::new(BLOCK).bytes(), 0)?;
            file.set_len(0)
        };
        let is_possible = direct().is_ok();
        let opened = open_file(file.path(), Some(true)).expect("it opens");
        direct_or_not(&opened, file.path(), || mark(&opened)).expect("it takes blocks");
        let flags = rustix::fs::fcntl_getfl(&opened).expect("flags");
        assert_eq!(flags.contains(OFlags::DIRECT), is_possible);
    }
}
