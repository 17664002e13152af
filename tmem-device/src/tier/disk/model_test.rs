//! The tier against a model, on a disk that fails in every way at random.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::fault::{FaultyMedium, ReadFault, WriteFault};
use super::*;

pub(super) fn tier_on(medium: &FaultyMedium, segments: u32) -> DiskTier {
    let config = DiskConfig {
        store_limit: Duration::from_secs(600),
        load_limit: Duration::from_secs(600),
        ..DiskConfig::new("", 0)
    };
    DiskTier::on(Box::new(medium.clone()), segments, &config)
}

/// Where a record's bytes lie on the medium; `None` when there is no such record.
pub(super) fn place_of(tier: &DiskTier, handle: Handle) -> Option<Range<u64>> {
    let (_, place) = tier.shared.lock().table.find(handle)?;
    let begin = segments::offset(place.segment) + u64::from(place.unit) * UNIT as u64;
    Some(begin..begin + (record::HEADER + usize::from(place.length)) as u64)
}

/// Recomputes the books from the table, and compares. Nothing may be under way.
pub(super) fn audit(tier: &DiskTier) {
    let state = tier.shared.lock();
    let (live, busy) = state.segments.audit();
    assert!(!busy, "a pin is left");
    let (mut expected, mut records) = (vec![0; live.len()], 0);
    for place in state.table.iter() {
        records += 1;
        expected[place.segment as usize] += record::space(place.length.into());
    }
    assert_eq!(live, expected);
    assert_eq!(
        state.segments.live_bytes(),
        expected.iter().sum::<usize>() as u64
    );
    assert_eq!(state.table.records(), records);
}

/// What the tier should hold.
struct Record {
    handle: Handle,
    data: Vec<u8>,
}

struct Model {
    medium: FaultyMedium,
    tier: DiskTier,
    records: BTreeMap<u64, Record>,
    next: u64,
}

#[derive(Debug, Clone)]
enum Step {
    /// So many records, of lengths up to this.
    Store(usize, usize),
    /// Those whose number modulo the first is the second.
    Discard(u64, u64),
    /// From this one on, by fraction of all, so many.
    Load(prop::sample::Index, usize),
    FailWrites(Vec<WriteFault>),
    FailReads(Vec<ReadFault>),
    /// A bit of the medium changes.
    Rot(prop::sample::Index),
    FinishLate,
}

fn write_fault() -> impl Strategy<Value = WriteFault> {
    prop_oneof![
        3 => Just(WriteFault::None),
        1 => prop_oneof![Just(libc::EIO), Just(libc::ENOSPC)].prop_map(WriteFault::Error),
        1 => (0..64usize).prop_map(|blocks| WriteFault::Torn(blocks * 512)),
        1 => (1..600usize).prop_map(WriteFault::Misdirected),
        1 => any::<usize>().prop_map(WriteFault::Flipped),
        1 => Just(WriteFault::Late),
    ]
}

fn read_fault() -> impl Strategy<Value = ReadFault> {
    prop_oneof![
        2 => Just(ReadFault::None),
        1 => Just(ReadFault::Error(libc::EIO)),
        1 => (0..9000usize).prop_map(ReadFault::Short),
        1 => any::<usize>().prop_map(ReadFault::Flipped),
        1 => Just(ReadFault::Late),
    ]
}

fn healthy_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..200usize, 1..=MAX_RECORD).prop_map(|(count, length)| Step::Store(count, length)),
        1 => (1..3usize, 1..=MAX_RECORD).prop_map(|(count, length)| Step::Store(count, length)),
        2 => (1..9u64, 0..8u64).prop_map(|(of, which)| Step::Discard(of, which)),
        2 => (any::<prop::sample::Index>(), 1..100usize).prop_map(|(at, count)| Step::Load(at, count)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => healthy_step(),
        2 => prop::collection::vec(write_fault(), 1..4).prop_map(Step::FailWrites),
        2 => prop::collection::vec(read_fault(), 1..4).prop_map(Step::FailReads),
        1 => any::<prop::sample::Index>().prop_map(Step::Rot),
        1 => Just(Step::FinishLate),
    ]
}

/// Bytes that no two records share, and that look like none of our headers.
fn data(number: u64, length: usize) -> Vec<u8> {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut state = 1u64;
        (0..3 * MAX_RECORD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect()
    });
    let begin = number as usize % (2 * MAX_RECORD);
    let mut data = NOISE[begin..begin + length].to_vec();
    let named = length.min(size_of::<u64>());
    data[..named].copy_from_slice(&number.to_le_bytes()[..named]);
    data
}

impl Model {
    fn new(segments: u32) -> Self {
        let medium = FaultyMedium::new(segments);
        Model {
            tier: tier_on(&medium, segments),
            medium,
            records: BTreeMap::new(),
            next: 0,
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Store(count, length) => {
                let _ = self.store(count, length);
            }
            Step::Discard(of, which) => self.discard(|number| number % of == which),
            Step::Load(at, count) => {
                let numbers: Vec<u64> = self.records.keys().copied().collect();
                if !numbers.is_empty() {
                    let first = at.index(numbers.len());
                    let last = numbers.len().min(first + count);
                    self.load(&numbers[first..last]);
                }
            }
            Step::FailWrites(ref faults) => self.medium.lock().writes.extend(faults),
            Step::FailReads(ref faults) => self.medium.lock().reads.extend(faults),
            Step::Rot(at) => {
                let mut inside = self.medium.lock();
                let at = at.index(inside.actual.len());
                inside.actual[at] ^= 0x10;
            }
            Step::FinishLate => self.medium.finish_late(),
        }
        assert_eq!(self.tier.stats().records, self.records.len() as u64);
    }

    /// Stores records of lengths from a quarter of `length` to all of it.
    fn store(&mut self, count: usize, length: usize) -> Result<(), StoreError> {
        let batch: Vec<Vec<u8>> = (0..count as u64)
            .map(|at| {
                data(
                    self.next + at,
                    length - at as usize % length.min(7) * (length / 8),
                )
            })
            .collect();
        let records: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        let handles = self.tier.store(&records)?;
        assert_eq!(handles.len(), count);
        for (data, handle) in batch.into_iter().zip(handles) {
            self.records.insert(self.next, Record { handle, data });
            self.next += 1;
        }
        Ok(())
    }

    fn discard(&mut self, which: impl Fn(u64) -> bool) {
        let mut gone = Vec::new();
        self.records.retain(|&number, record| {
            let goes = which(number);
            gone.extend(goes.then_some(record.handle));
            !goes
        });
        self.tier.discard(&gone);
        // Twice does no harm.
        self.tier.discard(&gone);
    }

    fn load(&mut self, numbers: &[u64]) {
        let faults = self.medium.lock().read_faults;
        let mut buffers = vec![[0; MAX_RECORD]; numbers.len()];
        let mut wanted: Vec<Load> = numbers
            .iter()
            .zip(&mut buffers)
            .map(|(number, buffer)| Load::new(self.records[number].handle, buffer))
            .collect();
        self.tier.load(&mut wanted);
        let bad_reads = self.medium.lock().read_faults > faults;
        for (load, number) in wanted.iter().zip(numbers) {
            let record = &self.records[number];
            let place = place_of(&self.tier, record.handle).expect("it is stored");
            let damaged = self.medium.is_damaged(place);
            match load.result {
                Ok(length) => {
                    assert_eq!(load.buffer[..length], record.data, "wrong data");
                    assert!(!damaged, "a damaged record cannot be right");
                }
                Err(LoadError::Damaged) => assert!(damaged || bad_reads, "damaged without reason"),
                Err(LoadError::Medium(_) | LoadError::Slow) => assert!(bad_reads),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Everything that was stored is there, everything is free when it is discarded, and there is as much
    /// room as in the beginning.
    fn finish(mut self, segments: u32) {
        self.medium.finish_late();
        {
            let mut inside = self.medium.lock();
            inside.writes.clear();
            inside.reads.clear();
        }
        audit(&self.tier);
        let numbers: Vec<u64> = self.records.keys().copied().collect();
        self.load(&numbers);
        self.discard(|_| true);
        audit(&self.tier);
        let stats = self.tier.stats();
        assert_eq!((stats.records, stats.live_bytes), (0, 0));
        assert!(stats.used_bytes <= SEGMENT as u64, "the open one alone");
        while self.store(64, MAX_RECORD).is_ok() {}
        assert!(self.tier.stats().live_bytes >= promised(segments) - 64 * 4176);
    }
}

/// Bytes of records that a tier of so many segments never refuses.
pub(super) fn promised(segments: u32) -> u64 {
    u64::from(segments - 3) * segments::WORTH_CLEANING as u64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_ever_returned_wrong_or_reported_wrongly(
        segments in 4u32..8,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new(segments);
        for step in &steps {
            model.apply(step);
        }
        model.finish(segments);
    }

    #[test]
    fn a_healthy_disk_refuses_nothing_within_the_promise(
        segments in 4u32..8,
        steps in prop::collection::vec(healthy_step(), 1..60),
    ) {
        let mut model = Model::new(segments);
        for step in &steps {
            if let Step::Store(count, length) = *step {
                let live = model.tier.stats().live_bytes;
                let worst = (count.min(64) * record::space(length)) as u64;
                let result = model.store(count.min(64), length);
                if live + worst <= promised(segments) {
                    prop_assert!(result.is_ok(), "{live} bytes live: {result:?}");
                }
            } else {
                model.apply(step);
            }
        }
        let stats = model.tier.stats();
        prop_assert_eq!((stats.unreadable_bytes, stats.load_errors), (0, 0));
        model.finish(segments);
    }
}
