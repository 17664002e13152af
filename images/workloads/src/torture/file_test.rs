use super::*;
use crate::torture::operation::Operation;
use crate::torture::{Options, Shared};
use std::io::Write as _;
use std::time::Duration;
use vtmem_workloads::random::Random;

/// A file of 64 pages, or none where the temporary folder's file system cannot do direct I/O.
fn file(directory: &Path) -> Option<TortureFile> {
    match TortureFile::create(directory, 1, 64, 7) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            let place = directory.display();
            // Past the harness, which shows nothing of tests that pass.
            let _ = writeln!(
                io::stderr(),
                "NOT RUN: {test}: no direct I/O in {place}: {error}"
            );
            None
        }
        result => Some(result.unwrap()),
    }
}

#[test]
fn the_model_follows_every_operation() {
    let directory = tempfile::tempdir().unwrap();
    if file(directory.path()).is_none() {
        return;
    }
    let options = Options {
        duration: Duration::ZERO,
        threads: 0,
        seed: 1,
        guest_mem: 8 << 20,
        directory: directory.path().join("files"),
        volume: None,
        script: None,
        faults: false,
    };
    let shared = Shared::new(&options, &options.directory, None).unwrap();
    let mut tools = Tools::new().unwrap();
    let mut random = Random::new(1, 1);
    for round in 0..3000 {
        let operation = Operation::random(&mut random, 4, 128);
        match shared.execute(operation, &mut tools) {
            Ok((_, corrupt)) => assert_eq!(corrupt, 0, "round {round}: {operation}"),
            // What this machine's file system, or its user, cannot do.
            Err(error) => eprintln!("round {round}: {error}"),
        }
    }
    for file in &shared.files {
        assert_eq!(file.read_all(&mut tools).unwrap().1, 0);
    }
}

#[test]
fn what_the_model_does_not_know_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = file(directory.path()) else {
        return;
    };
    let mut tools = Tools::new().unwrap();
    for first in (0..64).step_by(8) {
        let range = Range { first, count: 8 };
        file.write(Access::Buffered, range, false, &mut tools)
            .unwrap();
    }
    assert_eq!(
        file.read_all(&mut tools).unwrap(),
        (64 * PAGE_SIZE as u64, 0)
    );

    let behind = OpenOptions::new()
        .write(true)
        .open(directory.path().join("01.dat"))
        .unwrap();
    behind
        .write_all_at(&[0x5a; 3 * PAGE_SIZE], offset(20))
        .unwrap();
    let (_, corrupt) = file.read_all(&mut tools).unwrap();
    assert!(
        (2 * PAGE_SIZE as u64..=3 * PAGE_SIZE as u64).contains(&corrupt),
        "{corrupt}"
    );
}

#[test]
fn an_older_version_is_recognized() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = file(directory.path()) else {
        return;
    };
    file.version.store(5, Ordering::Relaxed);
    let state = |version| PageState {
        version,
        file: 1,
        written_as: 9,
        length: PAGE_SIZE as u16,
    };
    let old = file.content(state(3));
    assert_eq!(file.recognize(state(5), &old), "version 3 of the same page");
    assert_eq!(file.recognize(state(5), &[0; PAGE_SIZE]), "zeros");
    assert!(
        file.recognize(state(5), &[7; PAGE_SIZE])
            .starts_with("neither")
    );
}
