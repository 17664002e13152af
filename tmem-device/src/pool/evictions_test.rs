use super::*;
use crate::pool::key::ObjectKey;

fn key(pool: u32, object: u64, index: u64) -> Key {
    Key {
        object: ObjectKey {
            pool,
            object: [object, 0, 0],
        },
        index,
    }
}

fn taken(log: &EvictionLog, limit: usize) -> Vec<(u32, u8, u64, u32)> {
    let mut runs = Vec::new();
    log.take(limit, &mut runs);
    let short = |run: &Evicted| (run.pool, run.object[0], run.index, run.count);
    runs.iter().map(short).collect()
}

#[test]
fn neighbours_are_one_run_and_the_oldest_come_first() {
    let log = EvictionLog::default();
    log.set_wanted(true);
    for key in [
        key(1, 7, 4),
        key(1, 7, 5),
        key(1, 8, 6),
        key(2, 8, 7),
        key(2, 8, 7),
        key(2, 8, u64::MAX),
        key(2, 8, 0),
    ] {
        log.add(&key);
    }
    assert_eq!(log.waiting(), 6);
    assert_eq!(taken(&log, 2), [(1, 7, 4, 2), (1, 8, 6, 1)]);
    // The run that was taken is not continued.
    assert_eq!(
        taken(&log, 10),
        [
            (2, 8, 7, 1),
            (2, 8, 7, 1),
            (2, 8, u64::MAX, 1),
            (2, 8, 0, 1)
        ]
    );
    assert_eq!((log.waiting(), log.forgotten()), (0, 0));
}

#[test]
fn what_nobody_fetches_is_forgotten_the_oldest_first() {
    let log = EvictionLog::default();
    log.add(&key(0, 0, 0));
    assert_eq!(log.waiting(), 0, "nobody wants to know");
    log.set_wanted(true);
    log.add(&key(0, 0, 0));
    log.add(&key(0, 0, 1));
    for number in 0..MAX_RUNS as u64 {
        log.add(&key(0, 1, 2 * number));
    }
    assert_eq!(log.waiting(), MAX_RUNS);
    assert_eq!(log.forgotten(), 2);
    assert_eq!(taken(&log, 1), [(0, 1, 0, 1)]);
    log.set_wanted(false);
    assert_eq!(log.waiting(), 0);
    assert_eq!(taken(&log, 1), []);
}

#[test]
fn the_latest_pages_can_be_left_out() {
    let log = EvictionLog::default();
    log.set_wanted(true);
    for (object, pages) in [(1, 1), (2, 3), (3, 2)] {
        for index in 0..pages {
            log.add(&key(1, object, index));
        }
    }
    let before: Vec<usize> = (0..=7).map(|pages| log.waiting_before(pages)).collect();
    assert_eq!(before, [3, 2, 2, 1, 1, 1, 0, 0]);
}
