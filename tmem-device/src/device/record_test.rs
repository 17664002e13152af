use std::io::{Read as _, Seek as _};

use super::*;
use crate::wire::{OP_FLUSH_PAGE, OP_FLUSH_RANGE, OP_GET, OP_NEW_POOL, OP_PUT, S_ABSENT, S_OK};

fn op(kind: u16, object: u8, index: u64, arg: u64) -> Op {
    Op {
        kind: kind.into(),
        pool: 7.into(),
        object: [object; wire::OBJECT_SIZE],
        index: index.into(),
        arg: arg.into(),
        ..Op::default()
    }
}

fn answers(statuses: &[u32]) -> Vec<OpResult> {
    let answer = |&status: &u32| OpResult {
        status: status.into(),
        value: 9.into(),
    };
    statuses.iter().map(answer).collect()
}

/// Kind, status, pool, index and count of what is in the file.
fn read(mut file: File) -> Vec<(u16, u16, u32, u64, u64)> {
    let mut bytes = vec![];
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let records = <[Record]>::ref_from_bytes(&bytes).expect("whole records");
    let fields = |r: &Record| {
        (
            r.kind.get(),
            r.status.get(),
            r.pool.get(),
            r.index.get(),
            r.count.get(),
        )
    };
    records.iter().map(fields).collect()
}

#[test]
fn pages_that_follow_one_another_are_one_record() {
    let file = tempfile::tempfile().unwrap();
    let mut recorder = Recorder::new(file.try_clone().unwrap());
    let put = |index| op(OP_PUT, 1, index, 0);
    recorder.note(&[op(OP_NEW_POOL, 0, 0, 1)], &answers(&[S_OK]));
    recorder.note(&[put(3), put(4)], &answers(&[S_OK; 2]));
    // One chain goes on where another ended; a gap, another object, another answer, and going back each begin a record.
    recorder.note(&[put(5), put(7), put(6)], &answers(&[S_OK; 3]));
    let gets = [op(OP_GET, 1, 3, 0), op(OP_GET, 1, 4, 0)];
    recorder.note(&gets, &answers(&[S_OK, S_ABSENT]));
    let flushes = [op(OP_FLUSH_PAGE, 1, 5, 0), op(OP_FLUSH_PAGE, 2, 6, 0)];
    recorder.note(&flushes, &answers(&[S_OK; 2]));
    let ranges = [op(OP_FLUSH_RANGE, 2, 0, 8), op(OP_FLUSH_RANGE, 2, 8, 8)];
    recorder.note(&ranges, &answers(&[S_ABSENT; 2]));
    drop(recorder);
    let expected = [
        (OP_NEW_POOL, 0, 9, 0, 1),
        (OP_PUT, 0, 7, 3, 3),
        (OP_PUT, 0, 7, 7, 1),
        (OP_PUT, 0, 7, 6, 1),
        (OP_GET, 0, 7, 3, 1),
        (OP_GET, 1, 7, 4, 1),
        (OP_FLUSH_PAGE, 0, 7, 5, 1),
        (OP_FLUSH_PAGE, 0, 7, 6, 1),
        (OP_FLUSH_RANGE, 1, 7, 0, 8),
        (OP_FLUSH_RANGE, 1, 7, 8, 8),
    ];
    assert_eq!(read(file), expected);
}

#[test]
fn a_guest_cannot_fill_the_disk() {
    let file = tempfile::tempfile().unwrap();
    let room = 3 * WRITTEN_AT_ONCE * size_of::<Record>() + 100;
    let mut recorder = Recorder::with_limit(file.try_clone().unwrap(), room as u64);
    for index in 0..10 * WRITTEN_AT_ONCE as u64 {
        recorder.note(&[op(OP_PUT, 1, 2 * index, 0)], &answers(&[S_OK]));
    }
    drop(recorder);
    let records = read(file);
    assert_eq!(records.len(), room / size_of::<Record>());
    let indexes = records.iter().map(|record| record.3);
    assert!(indexes.eq((0..records.len() as u64).map(|number| 2 * number)));
}

#[test]
fn a_file_that_cannot_be_written_to_ends_the_recording_alone() {
    let file = File::open("/dev/null").unwrap();
    let mut recorder = Recorder::new(file);
    for index in 0..2 * WRITTEN_AT_ONCE as u64 {
        recorder.note(&[op(OP_PUT, 1, 2 * index, 0)], &answers(&[S_OK]));
    }
    assert!(recorder.file.is_none() && recorder.records.is_empty());
}
