//! Evictions reach the driver: in full buffers, as runs, and never wrongly.

use tmem_device::device::{DeviceConfig, EventFault};
use tmem_device::pool::{HostPool, PoolConfig};
use tmem_device::wire::{self, POOL_EPHEMERAL, S_ABSENT, S_OK};

use crate::driver::{ALL_FEATURES, Driver, Request};

const WITH_EVICTIONS: u64 = ALL_FEATURES | 1 << wire::F_EVICTIONS;

/// Fills a page so that it does not compress, otherwise for each `seed`.
fn fill(page: &mut [u8], seed: u64) {
    let mut state = seed + 1;
    for byte in page {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        *byte = (state >> 56) as u8;
    }
}

/// Puts a page of what `seed` gives; it is accepted.
fn put_page(driver: &mut Driver, pool: u32, index: u64, seed: u64) {
    let mut request = Request::new().put(pool, 1, index, 0);
    fill(request.page_mut(0), seed);
    assert_eq!(driver.statuses(&request), [S_OK]);
}

/// Puts pages, each `step` after the one before, of what their index gives.
fn put(driver: &mut Driver, pool: u32, first: u64, count: u64, step: u64) {
    for index in (first..).step_by(step as usize).take(count as usize) {
        put_page(driver, pool, index, index);
    }
}

/// Gets pages, each `step` after the one before, and counts those that the device held: with what
/// their index gives.
fn get(driver: &mut Driver, pool: u32, first: u64, count: u64, step: u64) -> u64 {
    let mut held = 0;
    let mut expected = [0; wire::PAGE_SIZE];
    for index in (first..).step_by(step as usize).take(count as usize) {
        let response = driver.call(&Request::new().get(pool, 1, index));
        match response.results[0].0 {
            S_OK => {
                fill(&mut expected, index);
                assert!(response.pages[0] == expected, "page {index} is wrong");
                held += 1;
            }
            status => assert_eq!(status, S_ABSENT),
        }
    }
    held
}

fn with_fault(pool: &std::sync::Arc<HostPool>, event_fault: EventFault) -> Driver {
    let config = DeviceConfig {
        event_fault,
        ..DeviceConfig::default()
    };
    Driver::with_config(pool, WITH_EVICTIONS, config)
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
    // Pages go by the segment, so the buffer is fuller than it need be.
    assert_eq!(records.len(), 102);
    assert_eq!(records[0], (id, 0, 600));
    let rest: Vec<_> = (0..101).map(|n| (id, 10_000 + 2 * n, 1)).collect();
    assert_eq!(records[1..], rest);
    let records = driver.take_evictions(small).expect("a full buffer");
    assert_eq!(records.len(), 20);
    assert_eq!(records[0], (id, 10_000 + 2 * 101, 1));
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

#[test]
fn reports_that_are_lost_cost_misses_and_no_memory() {
    let pool = HostPool::new(PoolConfig::new(1 << 20));
    let mut driver = with_fault(&pool, EventFault::Drop);
    let id = driver.new_pool(POOL_EPHEMERAL);
    let buffer = driver.offer_eviction_buffer(102);
    // Twice over, so that pages come back to keys whose eviction was never reported.
    for _ in 0..2 {
        put(&mut driver, id, 0, 9_000, 2);
    }
    assert_eq!(driver.take_evictions(buffer), None);
    let (stats, stored) = (driver.device.stats(), pool.stats().stored_pages);
    assert_eq!((stats.events, stats.evictions), (0, 18_000 - stored));
    // The log keeps its latest 8192 runs, and no more.
    assert_eq!(stats.evictions_forgotten, stats.evictions - 8192);
    // A driver that believes all of them to be there: those that are not are missed, the others right.
    assert_eq!(get(&mut driver, id, 0, 9_000, 2), stored);
    assert_eq!(get(&mut driver, id, 0, 9_000, 2), 0);
}

#[test]
fn reports_that_are_held_back_come_late_in_order_and_harm_nothing() {
    const HELD: u64 = 4000;
    // As many whole pages go at once.
    const SEGMENT: u64 = 32;
    let pool = HostPool::new(PoolConfig::new(1 << 20));
    let mut driver = with_fault(&pool, EventFault::Hold(HELD));
    let id = driver.new_pool(POOL_EPHEMERAL);
    let buffer = driver.offer_eviction_buffer(102);
    let mut next = 0;
    while pool.stats().evictions + SEGMENT < HELD + 96 {
        put(&mut driver, id, next, 1, 2);
        next += 2;
    }
    assert_eq!(driver.take_evictions(buffer), None);
    // The first page comes back before the report that it went.
    put_page(&mut driver, id, 0, 0);
    put(&mut driver, id, next, SEGMENT, 2);
    let records = driver.take_evictions(buffer).expect("an event");
    assert_eq!(records[..3], [(id, 0, 1), (id, 2, 1), (id, 4, 1)]);
    assert_eq!(records.len() as u64, pool.stats().evictions - HELD);
    assert_eq!(get(&mut driver, id, 0, 1, 2), 1);

    // So it goes on: what is reported is always that long ago, whatever has become of the key.
    let buffer = driver.offer_eviction_buffer(102);
    let reported = records.len() as u64;
    put(&mut driver, id, 2, 3, 2);
    put(&mut driver, id, 1 << 20, 200, 2);
    let records = driver.take_evictions(buffer).expect("an event");
    assert_eq!(records[0], (id, 2 * reported, 1));
    assert!(pool.stats().evictions - reported - records.len() as u64 >= HELD);
    assert_eq!(get(&mut driver, id, 2, 3, 2), 3);
    assert_eq!(driver.device.stats().evictions_forgotten, 0);
}
