//! One failure of the disk after the other, and what becomes of the records.

use std::ops::Range;

use super::fault::{FaultyMedium, ReadFault, WriteFault};
use super::medium::BLOCK;
use super::model_test::{audit, place_of, tier_on};
use super::*;

const SEGMENTS: u32 = 6;

/// Data that no two records share.
fn data(number: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at * 31 + number * 7 + number / 256) as u8)
        .collect()
}

fn batch(first: usize, count: usize, length: usize) -> Vec<Vec<u8>> {
    (first..first + count).map(|at| data(at, length)).collect()
}

fn store(tier: &DiskTier, records: &[Vec<u8>]) -> Result<Vec<Handle>, StoreError> {
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    tier.store(&records)
}

/// The result of each record: its data, or why there is none.
fn load(tier: &DiskTier, handles: &[Handle]) -> Vec<Result<Vec<u8>, LoadError>> {
    let mut buffers = vec![[0; MAX_RECORD]; handles.len()];
    let mut wanted: Vec<Load> = handles
        .iter()
        .zip(&mut buffers)
        .map(|(&handle, buffer)| Load::new(handle, buffer))
        .collect();
    tier.load(&mut wanted);
    let results = wanted.iter();
    results
        .map(|one| one.result.map(|length| one.buffer[..length].to_vec()))
        .collect()
}

fn assert_intact(tier: &DiskTier, handles: &[Handle], records: &[Vec<u8>]) {
    for (result, record) in load(tier, handles).iter().zip(records) {
        assert_eq!(result.as_ref(), Ok(record));
    }
}

/// Fills the tier with records of a page until it is full; they are all of the same length.
fn fill(tier: &DiskTier) -> (Vec<Handle>, Vec<Vec<u8>>) {
    let (mut handles, mut records) = (Vec::new(), Vec::new());
    loop {
        let more = batch(records.len(), 64, 4096);
        match store(tier, &more) {
            Ok(new) => {
                handles.extend(new);
                records.extend(more);
            }
            Err(StoreError::Full) => return (handles, records),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn of_a_torn_write_what_landed_is_there_and_the_rest_is_reported() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    let records = batch(0, 10, 2000);
    let space = record::space(2000);
    medium
        .lock()
        .writes
        .push_back(WriteFault::Torn(4 * space + 100));
    let handles = store(&tier, &records).expect("the disk said so");
    for (at, result) in load(&tier, &handles).into_iter().enumerate() {
        if at < 4 {
            assert_eq!(result.as_ref(), Ok(&records[at]));
        } else {
            assert_eq!(result, Err(LoadError::Damaged), "record {at}");
        }
    }
    assert_eq!(tier.stats().load_errors, 6);
}

#[test]
fn a_failed_write_leaves_nothing_behind_and_harms_nothing() {
    for errno in [libc::EIO, libc::ENOSPC] {
        let medium = FaultyMedium::new(SEGMENTS);
        let tier = tier_on(&medium, SEGMENTS);
        let before = batch(0, 20, 3000);
        let handles = store(&tier, &before).expect("room");
        let live = tier.stats().live_bytes;
        medium.lock().writes.push_back(WriteFault::Error(errno));
        let Err(StoreError::Medium(error)) = store(&tier, &batch(20, 20, 3000)) else {
            panic!("the write failed");
        };
        assert_eq!(error.raw_os_error(), Some(errno));
        assert_eq!((tier.stats().records, tier.stats().live_bytes), (20, live));
        assert_eq!((tier.stats().stored, tier.stats().refused), (20, 20));
        let after = batch(40, 20, 3000);
        let more = store(&tier, &after).expect("the disk works again");
        assert_intact(&tier, &handles, &before);
        assert_intact(&tier, &more, &after);
        audit(&tier);
    }
}

#[test]
fn a_batch_of_which_one_part_fails_is_refused_as_a_whole() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    // More than a segment: two transfers, the second of which fails.
    medium
        .lock()
        .writes
        .extend([WriteFault::None, WriteFault::Error(libc::EIO)]);
    assert!(store(&tier, &batch(0, 400, 4096)).is_err());
    let stats = tier.stats();
    assert_eq!(
        (stats.records, stats.live_bytes, stats.used_bytes),
        (0, 0, 0)
    );
    audit(&tier);
}

#[test]
fn a_misdirected_write_is_noticed_where_it_should_be_and_where_it_is() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    // Two segments full of records that fill blocks exactly.
    let length = BLOCK - record::HEADER;
    let before = batch(0, 500, length);
    let handles = store(&tier, &before).expect("room");
    let stray = batch(500, 2, length);
    // Over the end: the stray write is cut back to the last blocks, of a segment that is not used.
    medium.lock().writes.push_back(WriteFault::Misdirected(1));
    let lost = store(&tier, &stray).expect("the disk said so");
    let results = load(&tier, &lost);
    assert!(results.iter().all(|one| *one == Err(LoadError::Damaged)));
    assert_intact(&tier, &handles, &before);
    // What was hit is noticed as well: a later batch lands on an earlier one.
    let victims = store(&tier, &batch(502, 4, length)).expect("room");
    let place = place_of(&tier, victims[1]).expect("it is stored");
    let mut inside = medium.lock();
    let hit = place.start as usize;
    let from = offset_of(&tier, handles[0]);
    inside.actual.copy_within(from..from + BLOCK, hit);
    drop(inside);
    let results = load(&tier, &victims);
    assert_eq!(
        results[1],
        Err(LoadError::Damaged),
        "a whole record, but another one"
    );
    assert!(results[0].is_ok() && results[2].is_ok() && results[3].is_ok());
}

fn offset_of(tier: &DiskTier, handle: Handle) -> usize {
    place_of(tier, handle).expect("it is stored").start as usize
}

#[test]
fn a_write_that_never_landed_does_not_bring_back_what_was_there_before() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    let old = store(&tier, &batch(0, 8, 4000)).expect("room");
    let was = offset_of(&tier, old[0]);
    tier.discard(&old);
    medium.lock().writes.push_back(WriteFault::Torn(0));
    let new = store(&tier, &batch(0, 8, 4000)).expect("the disk said so");
    assert_eq!(
        offset_of(&tier, new[0]),
        was,
        "the same place, the same data"
    );
    for result in load(&tier, &new) {
        assert_eq!(result, Err(LoadError::Damaged));
    }
    assert_eq!(load(&tier, &old), vec![Err(LoadError::Unknown); 8]);
}

#[test]
fn what_a_process_before_this_one_left_is_not_taken_for_ours() {
    let medium = FaultyMedium::new(SEGMENTS);
    let before = tier_on(&medium, SEGMENTS);
    store(&before, &batch(0, 8, 4000)).expect("room");
    drop(before);
    let tier = tier_on(&medium, SEGMENTS);
    medium.lock().writes.push_back(WriteFault::Torn(0));
    let handles = store(&tier, &batch(0, 8, 4000)).expect("the disk said so");
    for result in load(&tier, &handles) {
        assert_eq!(result, Err(LoadError::Damaged));
    }
}

#[test]
fn a_bad_read_is_tried_again() {
    for fault in [
        ReadFault::Flipped(1000),
        ReadFault::Short(10),
        ReadFault::Error(libc::EIO),
    ] {
        let medium = FaultyMedium::new(SEGMENTS);
        let tier = tier_on(&medium, SEGMENTS);
        let records = batch(0, 30, 1000);
        let handles = store(&tier, &records).expect("room");
        medium.lock().reads.push_back(fault);
        assert_intact(&tier, &handles, &records);
    }
}

#[test]
fn blocks_that_cannot_be_read_fail_the_records_in_them_alone_and_for_as_long_as_that() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    let records = batch(0, 64, 3000);
    let handles = store(&tier, &records).expect("room");
    let bad = offset_of(&tier, handles[20]) as u64 / BLOCK as u64 * BLOCK as u64;
    let bad = bad..bad + BLOCK as u64;
    medium.lock().unreadable = bad.clone();
    let mut failed = 0;
    for (at, result) in load(&tier, &handles).into_iter().enumerate() {
        let place = place_of(&tier, handles[at]).expect("it is stored");
        if place.start < bad.end && bad.start < place.end {
            failed += 1;
            assert!(matches!(result, Err(LoadError::Medium(_))), "record {at}");
        } else {
            assert_eq!(result.as_ref(), Ok(&records[at]));
        }
    }
    assert!((1..=3).contains(&failed), "{failed} records");
    medium.lock().unreadable = 0..0;
    assert_intact(&tier, &handles, &records);
}

#[test]
fn a_slow_write_is_refused_and_its_place_left_alone_until_it_is_over() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    let before = batch(0, 8, 4000);
    let handles = store(&tier, &before).expect("room");
    medium.lock().writes.push_back(WriteFault::Late);
    let result = store(&tier, &batch(8, 8, 4000));
    assert!(matches!(result, Err(StoreError::Slow)), "{result:?}");
    assert_eq!(tier.stats().records, 8);
    let late = medium.lock().written.last().cloned().expect("a write");
    // Neither discarding everything nor filling the tier hands the place out again.
    assert_intact(&tier, &handles, &before);
    tier.discard(&handles);
    let (handles, records) = fill(&tier);
    for &handle in &handles {
        let place = place_of(&tier, handle).expect("it is stored");
        assert!(place.end <= late.start || late.end <= place.start);
    }
    medium.finish_late();
    assert_intact(&tier, &handles, &records);
    tier.discard(&handles);
    audit(&tier);
    assert_eq!(tier.stats().live_bytes, 0);
}

#[test]
fn a_slow_read_fails_and_the_record_stays() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    let records = batch(0, 8, 4000);
    let handles = store(&tier, &records).expect("room");
    medium.lock().reads.push_back(ReadFault::Late);
    assert_eq!(load(&tier, &handles), vec![Err(LoadError::Slow); 8]);
    assert_intact(&tier, &handles, &records);
    medium.finish_late();
    assert_intact(&tier, &handles, &records);
    audit(&tier);
}

#[test]
fn a_file_system_without_room_refuses_what_is_new_and_keeps_what_is_old() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    medium.lock().room = segments::offset(3);
    let (mut handles, mut records) = (Vec::new(), Vec::new());
    let error = loop {
        let more = batch(records.len(), 64, 4096);
        match store(&tier, &more) {
            Ok(new) => {
                handles.extend(new);
                records.extend(more);
            }
            Err(error) => break error,
        }
    };
    let StoreError::Medium(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    assert!(tier.stats().live_bytes > SEGMENT as u64, "the room is used");
    assert_intact(&tier, &handles, &records);
    // What is discarded makes room again, by cleaning: every other record goes.
    let (gone, kept): (Vec<_>, Vec<_>) = (0..handles.len()).partition(|at| at % 2 == 0);
    for &at in &gone {
        tier.discard(&[handles[at]]);
    }
    store(&tier, &batch(9000, 64, 4096)).expect("room");
    for at in kept {
        assert_intact(&tier, &handles[at..=at], &records[at..=at]);
    }
    // And when the file system has room again, it is used.
    medium.lock().room = segments::offset(SEGMENTS);
    let (more, data) = fill(&tier);
    assert!(tier.stats().used_bytes >= (SEGMENTS as usize - 1) as u64 * SEGMENT as u64);
    assert_intact(&tier, &more, &data);
    audit(&tier);
}

/// Makes the tier clean everything that is worth it.
fn clean_all(tier: &DiskTier) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while tier.shared.clean(deadline).expect("the disk takes writes") {}
}

/// Discards all records but the first twenty and cleans; `harm` makes the first one unreadable before that, and
/// `heal` undoes it.
fn clean_around_an_unreadable_record(
    harm: impl Fn(&FaultyMedium, &Range<u64>),
    heal: impl Fn(&FaultyMedium, &Range<u64>),
    expected: fn(&LoadError) -> bool,
) {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    let (handles, records) = fill(&tier);
    let place = place_of(&tier, handles[0]).expect("it is stored");
    harm(&medium, &place);
    tier.discard(&handles[20..]);
    clean_all(&tier);
    assert_eq!(place_of(&tier, handles[0]), Some(place.clone()));
    let results = load(&tier, &handles[..20]);
    assert!(results[0].as_ref().is_err_and(expected), "{:?}", results[0]);
    let other = place_of(&tier, handles[5]).expect("it is stored");
    assert_ne!(
        segment_of(&other),
        segment_of(&place),
        "the others are moved"
    );
    assert_intact(&tier, &handles[5..20], &records[5..20]);
    assert_eq!(tier.stats().unreadable_bytes, SEGMENT as u64);
    heal(&medium, &place);
    assert_intact(&tier, &handles[..20], &records[..20]);
    // Its segment is free when it is gone.
    tier.discard(&handles[..20]);
    audit(&tier);
    assert_eq!(tier.stats().used_bytes, SEGMENT as u64, "the open one");
    assert_eq!(tier.stats().unreadable_bytes, 0);
}

#[test]
fn a_record_that_is_damaged_when_it_is_cleaned_stays_reported() {
    let flip = |medium: &FaultyMedium, place: &Range<u64>| {
        medium.lock().actual[place.start as usize + 100] ^= 1;
    };
    clean_around_an_unreadable_record(flip, flip, |error| *error == LoadError::Damaged);
}

#[test]
fn a_record_that_cannot_be_read_when_it_is_cleaned_stays_where_it_is() {
    clean_around_an_unreadable_record(
        |medium, place| medium.lock().unreadable = place.start..place.start + 1,
        |medium, _| medium.lock().unreadable = 0..0,
        |error| matches!(error, LoadError::Medium(_)),
    );
}

fn segment_of(place: &Range<u64>) -> u64 {
    (place.start - BLOCK as u64) / SEGMENT as u64
}

#[test]
fn a_write_that_fails_while_cleaning_loses_nothing() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    let (handles, records) = fill(&tier);
    let kept: Vec<usize> = (0..handles.len()).filter(|at| at % 3 == 0).collect();
    for at in (0..handles.len()).filter(|at| at % 3 != 0) {
        tier.discard(&[handles[at]]);
    }
    for fault in [WriteFault::Error(libc::EIO), WriteFault::Late] {
        medium.lock().writes.push_back(fault);
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(tier.shared.clean(deadline).is_err());
    }
    clean_all(&tier);
    medium.finish_late();
    for at in kept {
        assert_intact(&tier, &handles[at..=at], &records[at..=at]);
    }
    audit(&tier);
}

#[test]
fn lengths_that_are_no_records_are_refused() {
    let medium = FaultyMedium::new(SEGMENTS);
    let tier = tier_on(&medium, SEGMENTS);
    let long = vec![0; MAX_RECORD + 1];
    assert!(matches!(
        tier.store(&[&[1], &[]]),
        Err(StoreError::Length(0))
    ));
    assert!(matches!(
        tier.store(&[&long]),
        Err(StoreError::Length(4161))
    ));
    assert_eq!(tier.store(&[]).expect("nothing to do"), []);
    assert!(medium.lock().written.is_empty());
    let longest = vec![data(1, MAX_RECORD)];
    let handles = store(&tier, &longest).expect("room");
    assert_intact(&tier, &handles, &longest);
    let mut short = [0; 100];
    let mut wanted = [Load::new(handles[0], &mut short)];
    tier.load(&mut wanted);
    assert_eq!(wanted[0].result, Err(LoadError::Buffer(MAX_RECORD)));
}
