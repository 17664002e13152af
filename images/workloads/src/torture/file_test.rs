use super::*;

/// A file of 64 pages, or none where the temporary folder's file system cannot do direct I/O.
fn file(directory: &Path) -> Option<TortureFile> {
    match TortureFile::create(directory, 1, 64, 7) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            eprintln!("skipped: {error}: no direct I/O in {}", directory.display());
            None
        }
        result => Some(result.unwrap()),
    }
}

#[test]
fn the_model_follows_every_operation() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = file(directory.path()) else {
        return;
    };
    let mut buffer = buffer().unwrap();
    let mut random = Random::new(1, 1);
    for round in 0..600 {
        let access = [Access::Buffered, Access::Direct, Access::Mapped][round % 3];
        match round % 20 {
            17 => file.resize(&mut random).unwrap(),
            18 => file.collapse(&mut random).unwrap(),
            19 if round % 200 == 199 => file.replace().unwrap(),
            n if n % 4 == 3 => file.clear(&mut random).unwrap(),
            _ => file.write(access, &mut random, &mut buffer).unwrap(),
        };
        let (_, corrupt) = file.read(access, &mut random, &mut buffer).unwrap();
        assert_eq!(corrupt, 0, "round {round}");
    }
    assert_eq!(file.read_all(&mut buffer).unwrap().1, 0);
}

#[test]
fn what_the_model_does_not_know_is_corrupt() {
    let directory = tempfile::tempdir().unwrap();
    let Some(file) = file(directory.path()) else {
        return;
    };
    let mut buffer = buffer().unwrap();
    let mut random = Random::new(2, 1);
    for _ in 0..200 {
        file.write(Access::Buffered, &mut random, &mut buffer)
            .unwrap();
    }
    assert_eq!(
        file.read_all(&mut buffer).unwrap(),
        (64 * PAGE_SIZE as u64, 0)
    );

    let behind = OpenOptions::new()
        .write(true)
        .open(directory.path().join("01.dat"))
        .unwrap();
    behind
        .write_all_at(&[0x5a; 3 * PAGE_SIZE], offset(20))
        .unwrap();
    let (_, corrupt) = file.read_all(&mut buffer).unwrap();
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
