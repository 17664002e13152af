//! Evictions reach the driver: in full buffers, as runs, and never wrongly.

use tmem_device::pool::{HostPool, PoolConfig};
use tmem_device::wire::{self, POOL_EPHEMERAL, S_OK};

use crate::driver::{ALL_FEATURES, Driver, Request};

const WITH_EVICTIONS: u64 = ALL_FEATURES | 1 << wire::F_EVICTIONS;

/// Puts pages that do not compress, each `step` after the one before; all are accepted.
fn put(driver: &mut Driver, pool: u32, first: u64, count: u64, step: u64) {
    for index in (first..).step_by(step as usize).take(count as usize) {
        let mut request = Request::new().put(pool, 1, index, 0);
        let mut state = index + 1;
        for byte in request.page_mut(0) {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            *byte = (state >> 56) as u8;
        }
        assert_eq!(driver.statuses(&request), [S_OK]);
    }
}

#[test]
fn evictions_are_reported_in_order_when_they_fill_a_buffer() {
    let pool = HostPool::new(PoolConfig::new(1 << 20));
    let mut driver = Driver::new(&pool, WITH_EVICTIONS);
    let id = driver.new_pool(POOL_EPHEMERAL);
    let buffer = driver.offer_eviction_buffer(102);
    let small = driver.offer_eviction_buffer(20);

    // Neighbours make one run, however many they are.
    put(&mut driver, id, 0, 600, 1);
    let evicted = pool.stats().evictions;
    assert!(evicted > 300);
    assert_eq!(driver.take_evictions(buffer), None);

    put(&mut driver, id, 10_000, 700, 2);
    let records = driver.take_evictions(buffer).expect("a full buffer");
    assert_eq!(records.len(), 96);
    assert_eq!(records[0], (id, 0, 600));
    let rest: Vec<_> = (0..95).map(|n| (id, 10_000 + 2 * n, 1)).collect();
    assert_eq!(records[1..], rest);
    let records = driver.take_evictions(small).expect("a full buffer");
    assert_eq!(records.len(), 20);
    assert_eq!(records[0], (id, 10_000 + 2 * 95, 1));
    let stats = driver.device.stats();
    assert_eq!((stats.events, stats.evictions_forgotten), (2, 0));
}

#[test]
fn a_buffer_without_room_for_a_record_is_returned_and_a_driver_that_did_not_ask_hears_nothing() {
    let pool = HostPool::new(PoolConfig::new(1 << 20));
    let mut driver = Driver::new(&pool, WITH_EVICTIONS);
    let id = driver.new_pool(POOL_EPHEMERAL);
    driver.offer_event_buffer();
    put(&mut driver, id, 0, 700, 2);
    assert_eq!(
        driver.queues[2]
            .take_used(&driver.memory)
            .map(|used| used.1),
        Some(0)
    );
    assert_eq!(driver.device.stats().malformed_chains, 1);

    driver.device.reset();
    driver.start(ALL_FEATURES);
    let id = driver.new_pool(POOL_EPHEMERAL);
    let buffer = driver.offer_eviction_buffer(102);
    put(&mut driver, id, 0, 700, 2);
    assert_eq!(driver.take_evictions(buffer), None);
    assert_eq!(driver.device.stats().evictions_forgotten, 0);
}

#[test]
fn a_driver_that_offers_no_buffer_costs_the_host_no_more_than_a_log() {
    let pool = HostPool::new(PoolConfig::new(1 << 20));
    let mut driver = Driver::new(&pool, WITH_EVICTIONS);
    let id = driver.new_pool(POOL_EPHEMERAL);
    put(&mut driver, id, 0, 9_000, 2);
    let forgotten = driver.device.stats().evictions_forgotten;
    let evicted = pool.stats().evictions;
    assert_eq!(forgotten, evicted - 8192);
    // What it hears then is the latest.
    let buffer = driver.offer_eviction_buffer(102);
    driver.device.serve_event_queue().expect("sound rings");
    let records = driver.take_evictions(buffer).expect("a full buffer");
    assert_eq!(records.len(), 102);
    assert_eq!(records[0], (id, 2 * forgotten, 1));
}
