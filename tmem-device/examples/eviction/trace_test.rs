use zerocopy::IntoBytes as _;

use super::*;
use Step::{Flush, Get, Put};

const EPHEMERAL: u32 = 4;
const PERSISTENT: u32 = 5;

fn record(kind: u16, status: u32, pool: u32, object: u64, index: u64, count: u64) -> Record {
    Record {
        kind: kind.into(),
        status: (status as u16).into(),
        pool: pool.into(),
        object: object.into(),
        index: index.into(),
        count: count.into(),
    }
}

fn pools() -> Vec<Record> {
    vec![
        record(
            wire::OP_NEW_POOL,
            wire::S_OK,
            EPHEMERAL,
            0,
            0,
            wire::POOL_EPHEMERAL,
        ),
        record(
            wire::OP_NEW_POOL,
            wire::S_OK,
            PERSISTENT,
            0,
            0,
            wire::POOL_PERSISTENT,
        ),
    ]
}

fn read(records: &[Record]) -> Result<Trace, TraceError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("work.trace");
    fs::write(&path, records.as_bytes()).unwrap();
    Trace::read(&path)
}

#[test]
fn only_what_eviction_can_change_is_left() {
    let mut records = pools();
    let mut add = |kind, status, pool, index, count| {
        records.push(record(kind, status, pool, 1, index, count));
    };
    add(wire::OP_GET, wire::S_ABSENT, EPHEMERAL, 0, 2);
    add(wire::OP_PUT, wire::S_OK, PERSISTENT, 0, 9);
    add(wire::OP_PUT, wire::S_OK, EPHEMERAL, 10, 4);
    add(wire::OP_GET, wire::S_OK, EPHEMERAL, 11, 1);
    add(wire::OP_FLUSH_PAGE, wire::S_ABSENT, EPHEMERAL, 11, 1);
    add(wire::OP_FLUSH_RANGE, wire::S_OK, EPHEMERAL, 0, 13);
    add(wire::OP_PUT, wire::S_OK, EPHEMERAL, 11, 1);
    add(wire::OP_DESTROY_POOL, wire::S_OK, EPHEMERAL, 0, 1);
    add(wire::OP_PUT, wire::S_INVALID, EPHEMERAL, 12, 1);
    add(wire::OP_NEW_POOL, wire::S_OK, EPHEMERAL, 0, 0);
    add(wire::OP_PUT, wire::S_OK, EPHEMERAL, 12, 1);
    add(wire::OP_DESTROY_POOL, wire::S_OK, EPHEMERAL, 0, 1);
    let trace = read(&records).unwrap();
    let steps = [
        Put(0),
        Put(1),
        Put(2),
        Put(3),
        Get(1),
        Flush(0),
        Flush(2),
        Put(1),
        Flush(1),
        Flush(3),
        Put(2),
    ];
    assert_eq!(trace.steps, steps);
    assert_eq!((trace.name.as_str(), trace.footprint), ("work", 4));
    let indexes: Vec<_> = trace.pages.iter().map(|(_, index)| *index).collect();
    assert_eq!(indexes, [10, 11, 12, 13]);
}

#[test]
fn a_recording_above_a_pool_that_evicts_is_refused() {
    for last in [
        record(wire::OP_GET, wire::S_ABSENT, EPHEMERAL, 1, 0, 1),
        record(wire::OP_PUT, wire::S_REFUSED, EPHEMERAL, 1, 1, 1),
    ] {
        let mut records = pools();
        records.push(record(wire::OP_PUT, wire::S_OK, EPHEMERAL, 1, 0, 1));
        records.push(last);
        assert!(matches!(read(&records), Err(TraceError::TooSmall(_))));
    }
}

#[test]
fn two_traces_beside_each_other_share_nothing_but_the_time() {
    let mut records = pools();
    records.push(record(wire::OP_PUT, wire::S_OK, EPHEMERAL, 1, 0, 2));
    let short = read(&records).unwrap();
    records.push(record(wire::OP_GET, wire::S_OK, EPHEMERAL, 1, 0, 2));
    let long = read(&records).unwrap();
    let both = long.beside(short);
    assert_eq!(both.steps, [Put(0), Put(2), Put(1), Get(0), Put(3), Get(1)]);
    assert_eq!((both.name.as_str(), both.footprint), ("work+work", 3));
    let distinct: BTreeSet<_> = both.pages.iter().collect();
    assert_eq!(distinct.len(), 4);
}
