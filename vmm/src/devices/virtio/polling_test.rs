use std::cell::Cell;

use super::*;

const LIMIT: Duration = Duration::from_micros(50);

fn us(number: u64) -> Duration {
    Duration::from_micros(number)
}

/// Polls on a clock that each look at it moves by 1 µs, for something that is there after `gap`; returns whether it was
/// found, and the time that took.
fn poll(polling: &mut Polling, gap: Duration) -> (bool, Duration) {
    let clock = Cell::new(Duration::ZERO);
    let now = || {
        let now = clock.get();
        clock.set(now + us(1));
        now
    };
    let found = polling.poll(now, || clock.get() > gap);
    (found, clock.get())
}

#[test]
fn short_gaps_begin_it_and_each_doubles_the_time_up_to_the_limit() {
    let mut polling = Polling::new(Some(LIMIT));
    assert!(!polling.is_on());
    polling.woken(us(50));
    assert_eq!(polling.time, LIMIT / 8);
    for expected in [LIMIT / 4, LIMIT / 2, LIMIT, LIMIT] {
        assert_eq!(poll(&mut polling, us(3)), (true, us(4)));
        assert_eq!(polling.time, expected);
    }
}

#[test]
fn a_poll_is_bounded() {
    let mut polling = Polling::new(Some(LIMIT));
    polling.woken(us(1));
    for expected in [us(6), us(12), us(25), us(50), us(50)] {
        let (found, took) = poll(&mut polling, us(1_000_000));
        assert!(!found);
        assert!(took >= expected && took <= expected + us(3), "{took:?}");
        // It went to sleep, and the doorbell came soon after: a longer poll would have found the chain.
        polling.woken(us(40));
    }
}

#[test]
fn a_long_gap_ends_it_and_a_driver_that_is_quiet_costs_nothing() {
    let mut polling = Polling::new(Some(LIMIT));
    polling.woken(us(10));
    assert!(poll(&mut polling, us(2)).0);
    assert!(!poll(&mut polling, us(900)).0);
    for _ in 0..3 {
        polling.woken(us(51));
        assert!(!polling.is_on());
    }
}

#[test]
fn with_a_limit_of_zero_it_never_polls() {
    let mut polling = Polling::new(Some(Duration::ZERO));
    polling.woken(Duration::ZERO);
    assert!(!polling.is_on());
}

#[test]
fn a_single_cpu_is_the_vcpus() {
    assert_eq!(default_limit(1), Duration::ZERO);
    assert_eq!(default_limit(2), LIMIT);
}
