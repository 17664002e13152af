//! The pool above a disk tier whose disk fails in every way at random.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::tier::disk::fault::{ReadFault, WriteFault, tier};

/// Segments of 1 MiB on the disk, and pages that the pool has room for.
const SEGMENTS: u32 = 8;
const POOL_PAGES: u64 = 128;

/// Pages that are put: more than pool and disk hold.
const PAGES: u64 = 3000;

const OBJECT: [u8; 24] = [3; _];

#[derive(Debug, Clone)]
enum Step {
    /// So many pages from one on, in a new version each.
    Put(u64, u64),
    Get(u64, u64),
    Flush(u64, u64),
    WriteBack(u8),
    FailWrites(Vec<WriteFault>),
    FailReads(Vec<ReadFault>),
    FinishLate,
}

/// What is kept of one page in four is shorter.
fn page(number: u64, version: u64) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut state = number << 32 | version << 1 | 1;
    let (words, _) = page.as_chunks_mut::<8>();
    let noisy = if number.is_multiple_of(4) {
        100
    } else {
        words.len()
    };
    for word in &mut words[..noisy] {
        state = key::mix(state);
        *word = state.to_le_bytes();
    }
    page
}

fn step(write: BoxedStrategy<WriteFault>, read: BoxedStrategy<ReadFault>) -> BoxedStrategy<Step> {
    let run = || (0..PAGES, 1u64..200);
    prop_oneof![
        8 => run().prop_map(|(from, count)| Step::Put(from, count)),
        3 => run().prop_map(|(from, count)| Step::Get(from, count)),
        1 => run().prop_map(|(from, count)| Step::Flush(from, count)),
        6 => (1u8..8).prop_map(Step::WriteBack),
        1 => prop::collection::vec(write, 1..4).prop_map(Step::FailWrites),
        1 => prop::collection::vec(read, 1..4).prop_map(Step::FailReads),
        1 => Just(Step::FinishLate),
    ]
    .boxed()
}

/// Writes that fail, and say so.
fn honest_write() -> BoxedStrategy<WriteFault> {
    prop_oneof![
        1 => Just(WriteFault::None),
        2 => prop_oneof![Just(libc::EIO), Just(libc::ENOSPC)].prop_map(WriteFault::Error),
        1 => Just(WriteFault::Late),
    ]
    .boxed()
}

fn any_write() -> BoxedStrategy<WriteFault> {
    prop_oneof![
        2 => honest_write(),
        1 => (0..64usize).prop_map(|blocks| WriteFault::Torn(blocks * 512)),
        1 => (1..600usize).prop_map(WriteFault::Misdirected),
        1 => any::<usize>().prop_map(WriteFault::Flipped),
    ]
    .boxed()
}

fn any_read() -> BoxedStrategy<ReadFault> {
    prop_oneof![
        1 => Just(ReadFault::Error(libc::EIO)),
        1 => (0..9000usize).prop_map(ReadFault::Short),
        1 => any::<usize>().prop_map(ReadFault::Flipped),
        1 => Just(ReadFault::Late),
    ]
    .boxed()
}

/// Applies the steps, and checks that an accepted page is never wrong and never absent. Returns how often one could not be
/// read, and how many puts were refused.
fn run(steps: Vec<Step>) -> (u64, u64) {
    let (tier, medium) = tier(SEGMENTS);
    let config = PoolConfig {
        credit: 0,
        ..PoolConfig::new(POOL_PAGES * WORST_PAGE)
    };
    let pool = HostPool::with_tiers(config, vec![Arc::new(tier)]);
    let guest = pool.register().expect("a guest");
    let id = guest.new_pool(PoolKind::Persistent).expect("a pool");
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut unreadable, mut refused, mut versions) = (0, 0, 0);
    let mut get = |model: &BTreeMap<u64, u64>, number: u64| {
        let mut got = [0; PAGE_SIZE];
        match guest.get(id, &OBJECT, number, &mut got) {
            Ok(found) => {
                let expected = model.get(&number).map(|version| page(number, *version));
                assert_eq!(found, expected.is_some(), "page {number}");
                assert!(expected.is_none_or(|expected| expected == got), "{number}");
            }
            Err(error) => {
                assert_eq!(error, PoolError::Lost);
                assert!(model.contains_key(&number));
                unreadable += 1;
            }
        }
    };
    for step in steps {
        match step {
            Step::Put(from, count) => {
                for number in from..(from + count).min(PAGES) {
                    versions += 1;
                    model.remove(&number);
                    match guest.put(id, &OBJECT, number, &page(number, versions)) {
                        Ok(()) => {
                            model.insert(number, versions);
                        }
                        Err(error) => {
                            assert_eq!(error, PoolError::Refused);
                            refused += 1;
                        }
                    }
                }
            }
            Step::Get(from, count) => (from..from + count).for_each(|number| get(&model, number)),
            Step::Flush(from, count) => {
                let flushed = guest.flush_range(id, &OBJECT, from, count);
                let there = model.range(from..from + count).count() as u64;
                assert_eq!(flushed, Ok(there));
                model.retain(|number, _| !(from..from + count).contains(number));
            }
            Step::WriteBack(times) => {
                for _ in 0..times {
                    pool.write_back();
                }
            }
            Step::FailWrites(faults) => medium.lock().writes.extend(faults),
            Step::FailReads(faults) => medium.lock().reads.extend(faults),
            Step::FinishLate => medium.finish_late(),
        }
        assert_eq!(pool.stats().persistent_pages, model.len() as u64);
    }
    medium.finish_late();
    medium.lock().reads.clear();
    (0..PAGES).for_each(|number| get(&model, number));
    pool.audit();
    drop(guest);
    assert_eq!(pool.stats().used_bytes, 0);
    pool.audit();
    (unreadable, refused)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the disk does, what it says and what it does not.
    #[test]
    fn no_accepted_page_is_wrong_or_absent(
        steps in prop::collection::vec(step(any_write(), any_read()), 1..80)
    ) {
        run(steps);
    }

    /// As long as the disk reads back what it took, every accepted page comes back.
    #[test]
    fn no_accepted_page_is_lost_by_a_disk_that_says_when_it_fails(
        steps in prop::collection::vec(step(honest_write(), Just(ReadFault::None).boxed()), 1..80)
    ) {
        let (unreadable, _) = run(steps);
        prop_assert_eq!(unreadable, 0);
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let steps = (0..PAGES / 50).flat_map(|run| [Step::Put(run * 50, 50), Step::WriteBack(8)]);
    let (unreadable, refused) = run(steps.collect());
    assert_eq!(unreadable, 0);
    // 8 MiB of disk hold 2,550 of these pages at most, and the pool 100.
    assert!(refused > 350, "{refused} refused");
}
