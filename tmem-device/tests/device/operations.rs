//! Operations through the queues, as a driver sees them.

use crate::driver::{ALL_FEATURES, Driver, EVENT_IDX, Request, page};
use proptest::prelude::*;
use tmem_device::device::{Admission, DeviceConfig};
use tmem_device::pool::{HostPool, PoolConfig, WORST_PAGE};
use tmem_device::wire::{self, *};

fn driver() -> Driver {
    Driver::new(
        &HostPool::new(PoolConfig::new(8 << 20)),
        ALL_FEATURES | EVENT_IDX,
    )
}

#[test]
fn an_ephemeral_get_removes_and_a_persistent_one_does_not() {
    let mut driver = driver();
    let (e, p) = (
        driver.new_pool(POOL_EPHEMERAL),
        driver.new_pool(POOL_PERSISTENT),
    );
    let put = Request::new()
        .put(e, 1, 5, 0xaa)
        .put(p, 1, 5, 0xbb)
        .put(e, 1, 5, 0xcc);
    assert_eq!(driver.statuses(&put), [S_OK; 3]);
    let get = Request::new()
        .get(e, 1, 5)
        .get(p, 1, 5)
        .get(e, 1, 5)
        .get(p, 1, 5)
        .get(p, 2, 5);
    let response = driver.call(&get);
    let statuses: Vec<u32> = response.results.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [S_OK, S_OK, S_ABSENT, S_OK, S_ABSENT]);
    assert_eq!(response.pages[0], page(0xcc), "the put that replaced");
    assert_eq!(response.pages[1], page(0xbb));
    assert_eq!(response.pages[2], [0xee; PAGE_SIZE], "left untouched");
    assert_eq!(response.pages[3], page(0xbb));
    let stats = driver.device.stats();
    assert_eq!(
        (stats.puts, stats.gets, stats.hits, stats.stored_pages),
        (3, 5, 3, 1)
    );
    assert_eq!((stats.chains, stats.malformed_chains), (4, 0));
}

#[test]
fn a_get_sees_every_put_and_flush_that_was_queued_before() {
    let mut driver = driver();
    let pool = driver.new_pool(POOL_PERSISTENT);
    let queued = [
        Request::new().put(pool, 1, 1, 1).put(pool, 1, 2, 2),
        Request::new()
            .op(OP_FLUSH_PAGE, pool, 1, 1, 0)
            .put(pool, 1, 2, 3),
        Request::new().put(pool, 1, 3, 4),
    ];
    let addresses: Vec<u64> = queued.iter().map(|r| driver.submit(QUEUE_PUT, r)).collect();
    let get = Request::new()
        .get(pool, 1, 1)
        .get(pool, 1, 2)
        .get(pool, 1, 3);
    let response = driver.call(&get);
    assert_eq!(response.results, [(S_ABSENT, 0), (S_OK, 0), (S_OK, 0)]);
    assert_eq!(response.pages[1..], [page(3).to_vec(), page(4).to_vec()]);
    for (request, address) in queued.iter().zip(addresses) {
        let response = driver.response(QUEUE_PUT, request, address);
        assert!(response.results.iter().all(|(status, _)| *status == S_OK));
    }
    assert!(
        !driver
            .device
            .serve_put_queue()
            .expect("sound rings")
            .interrupt,
        "nothing is left"
    );
}

#[test]
fn flushes_say_whether_there_was_anything() {
    let mut driver = driver();
    let pool = driver.new_pool(POOL_EPHEMERAL);
    let mut put = Request::new();
    for index in 0..8 {
        put = put.put(pool, 1, index, 1).put(pool, 2, index, 2);
    }
    driver.statuses(&put);
    let flush = Request::new()
        .op(OP_FLUSH_PAGE, pool, 1, 0, 0)
        .op(OP_FLUSH_PAGE, pool, 1, 0, 0)
        .op(OP_FLUSH_RANGE, pool, 1, 2, 2)
        .op(OP_FLUSH_RANGE, pool, 1, 2, 0)
        .op(OP_FLUSH_RANGE, pool, 1, 6, u64::MAX)
        .op(OP_FLUSH_OBJECT, pool, 2, 0, 0)
        .op(OP_FLUSH_OBJECT, pool, 3, 0, 0)
        .op(OP_DESTROY_POOL, pool, 0, 0, 0)
        .op(OP_FLUSH_PAGE, pool, 1, 1, 0)
        .op(OP_DESTROY_POOL, pool, 0, 0, 0);
    let expected = [
        S_OK, S_ABSENT, S_OK, S_ABSENT, S_OK, S_OK, S_ABSENT, S_OK, S_INVALID, S_INVALID,
    ];
    assert_eq!(driver.statuses(&flush), expected);
    assert_eq!(driver.device.stats().stored_pages, 0);
}

#[test]
fn what_is_unknown_or_was_not_negotiated_is_unsupported() {
    let pool = HostPool::new(PoolConfig::new(8 << 20));
    let mut driver = Driver::new(&pool, 0);
    let request = Request::new()
        .op(OP_NEW_POOL, 0, 0, 0, POOL_EPHEMERAL)
        .op(OP_NEW_POOL, 0, 0, 0, POOL_PERSISTENT)
        .op(OP_NEW_POOL, 0, 0, 0, 2)
        .op(OP_FLUSH_RANGE, 0, 0, 0, 1)
        .op(8, 0, 0, 0, 0)
        .op(u16::MAX, 0, 0, 0, 0)
        .op(OP_NOP, 0, 0, 0, 0)
        .put(0, 0, 0, 1)
        .get(0, 0, 0);
    let response = driver.call(&request);
    let statuses: Vec<u32> = response.results.iter().map(|(status, _)| *status).collect();
    let expected = [
        S_UNSUPPORTED,
        S_UNSUPPORTED,
        S_INVALID,
        S_UNSUPPORTED,
        S_UNSUPPORTED,
        S_UNSUPPORTED,
        S_OK,
        S_INVALID,
        S_INVALID,
    ];
    assert_eq!(statuses, expected);
    assert_eq!(response.credit, 0, "no credit without persistent pools");
}

#[test]
fn operations_with_flags_are_invalid_and_do_nothing() {
    let mut driver = driver();
    let pool = driver.new_pool(POOL_EPHEMERAL);
    let mut request = Request::new()
        .put(pool, 1, 1, 1)
        .get(pool, 1, 1)
        .op(OP_NOP, 0, 0, 0, 0);
    request.ops.iter_mut().for_each(|op| op.flags = 1.into());
    assert_eq!(driver.statuses(&request), [S_INVALID; 3]);
    assert_eq!(driver.device.stats().stored_pages, 0);
}

#[test]
fn a_host_without_room_refuses_every_put_and_goes_on() {
    let mut driver = Driver::new(&HostPool::new(PoolConfig::new(0)), ALL_FEATURES);
    assert_eq!(driver.first_credit(), 0);
    let (e, p) = (
        driver.new_pool(POOL_EPHEMERAL),
        driver.new_pool(POOL_PERSISTENT),
    );
    let request = Request::new()
        .put(e, 1, 1, 0)
        .put(p, 1, 1, 0)
        .get(e, 1, 1)
        .get(p, 1, 1);
    assert_eq!(
        driver.statuses(&request),
        [S_REFUSED, S_REFUSED, S_ABSENT, S_ABSENT]
    );
    assert_eq!(driver.device.stats().puts_refused, 2);
}

#[test]
fn guests_do_not_see_each_other() {
    let pool = HostPool::new(PoolConfig::new(8 << 20));
    let mut one = Driver::new(&pool, ALL_FEATURES);
    let mut two = Driver::new(&pool, ALL_FEATURES);
    let id = one.new_pool(POOL_PERSISTENT);
    assert_eq!(
        two.new_pool(POOL_PERSISTENT),
        id,
        "the ids are each guest's own"
    );
    assert_eq!(one.statuses(&Request::new().put(id, 1, 1, 1)), [S_OK]);
    let attack = Request::new()
        .get(id, 1, 1)
        .op(OP_FLUSH_OBJECT, id, 1, 0, 0);
    assert_eq!(two.statuses(&attack), [S_ABSENT, S_ABSENT]);
    two.device.reset();
    assert_eq!(one.statuses(&Request::new().get(id, 1, 1)), [S_OK]);
    drop(one);
    assert_eq!(pool.stats().stored_pages, 0, "a guest's pages go with it");
}

#[test]
fn after_a_reset_no_old_key_can_be_got() {
    let mut driver = driver();
    let id = driver.new_pool(POOL_PERSISTENT);
    driver.statuses(&Request::new().put(id, 1, 1, 1));
    driver.device.reset();
    assert_eq!(driver.device.stats().stored_pages, 0);
    assert!(!driver.device.serve_get_queue().expect("inactive").interrupt);
    driver.start(ALL_FEATURES);
    assert_eq!(driver.statuses(&Request::new().get(id, 1, 1)), [S_INVALID]);
    let id = driver.new_pool(POOL_PERSISTENT);
    assert_eq!(driver.statuses(&Request::new().get(id, 1, 1)), [S_ABSENT]);
}

#[test]
fn pools_are_limited_and_their_ids_return_late() {
    let config = PoolConfig {
        max_pools: 3,
        ..PoolConfig::new(1 << 20)
    };
    let mut driver = Driver::new(&HostPool::new(config), ALL_FEATURES);
    let ids: Vec<u32> = (0..3).map(|_| driver.new_pool(POOL_EPHEMERAL)).collect();
    let another = Request::new().op(OP_NEW_POOL, 0, 0, 0, POOL_EPHEMERAL);
    assert_eq!(driver.statuses(&another), [S_REFUSED]);
    assert_eq!(
        driver.statuses(&Request::new().op(OP_DESTROY_POOL, ids[0], 0, 0, 0)),
        [S_OK]
    );
    assert!(!ids.contains(&driver.new_pool(POOL_EPHEMERAL)));
}

/// A guest that asks for pools for ever gets the first 1024, and the host keeps no trace of the others.
#[test]
fn a_million_pools_are_refused() {
    let mut driver = Driver::new(&HostPool::new(PoolConfig::new(1 << 20)), ALL_FEATURES);
    let mut request = Request::new();
    for _ in 0..128 {
        request = request.op(OP_NEW_POOL, 0, 0, 0, POOL_PERSISTENT);
    }
    let mut made = 0;
    for _ in 0..1_000_000 / 128 {
        let statuses = driver.statuses(&request);
        made += statuses.iter().filter(|status| **status == S_OK).count();
        assert!(
            statuses
                .iter()
                .all(|status| [S_OK, S_REFUSED].contains(status))
        );
    }
    assert_eq!(made, 1024);
    driver.device.reset();
    driver.start(ALL_FEATURES);
    assert_eq!(
        driver.statuses(&request),
        [S_OK; 128],
        "a reset takes them back"
    );
}

#[test]
fn puts_with_credit_are_never_refused() {
    let pool = HostPool::new(PoolConfig {
        credit: 64,
        ..PoolConfig::new(100 * WORST_PAGE)
    });
    let mut driver = Driver::new(&pool, ALL_FEATURES);
    let mut noise = 1u64;
    let mut request = |pool: u32, count: u64, base: u64| {
        let mut request = Request::new();
        for index in 0..count {
            // Each is the first of its object, which is what a promise covers.
            request = request.put(pool, (base + index) as u8, base + index, 0);
            let page = request.pages.last_mut().expect("just put");
            for byte in page.iter_mut() {
                noise = noise
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                *byte = (noise >> 56) as u8;
            }
        }
        request
    };
    let mut credit = driver.first_credit();
    assert_eq!(credit, 64);
    let ephemeral = driver.new_pool(POOL_EPHEMERAL);
    let persistent = driver.new_pool(POOL_PERSISTENT);
    driver.statuses(&request(ephemeral, 120, 0));
    let mut base = 0;
    while credit > 0 {
        let count = credit.min(48);
        let response = driver.call(&request(persistent, count, base));
        assert!(
            response.results.iter().all(|(status, _)| *status == S_OK),
            "a broken promise"
        );
        base += count;
        credit = credit - count + u64::from(response.credit);
    }
    assert_eq!(base, 100, "all of the pool, and no more, was promised");
    assert_eq!(driver.statuses(&request(persistent, 1, base)), [S_REFUSED]);
    assert!(pool.stats().used_bytes <= 100 * WORST_PAGE);
}

#[test]
fn a_dry_driver_is_told_of_credit_when_another_guest_leaves() {
    let pool = HostPool::new(PoolConfig {
        credit: 50,
        ..PoolConfig::new(50 * WORST_PAGE)
    });
    let hog = Driver::new(&pool, ALL_FEATURES);
    assert_eq!(hog.first_credit(), 50);
    let mut driver = Driver::new(&pool, ALL_FEATURES);
    assert_eq!(driver.first_credit(), 0);
    let buffer = driver.offer_event_buffer();
    driver.device.serve_event_queue().expect("sound rings");
    assert_eq!(driver.take_event(buffer), None, "nothing to promise yet");
    drop(hog);
    let signal = driver.device.serve_event_queue().expect("sound rings");
    assert!(signal.interrupt);
    assert_eq!(driver.take_event(buffer), Some((EV_CREDIT, 50)));
    driver.offer_event_buffer();
    assert!(
        !driver
            .device
            .serve_event_queue()
            .expect("sound rings")
            .interrupt,
        "told once"
    );
}

#[test]
fn config_space_ends_in_zeros() {
    let driver = driver();
    let mut config = [0xff; 32];
    driver.device.read_config(0, &mut config);
    assert_eq!(config[..4], wire::VERSION.to_le_bytes());
    assert_eq!(config[4..8], 128u32.to_le_bytes());
    assert_eq!(config[8..16], 64u64.to_le_bytes());
    assert_eq!(config[16..20], wire::ADMISSION_ADAPTIVE.to_le_bytes());
    assert_eq!(config[20..], [0; 12]);
    for offset in [23, 24, 25, u64::MAX] {
        driver.device.read_config(offset, &mut config);
        assert_eq!(config[1..], [0; 31]);
    }
}

#[test]
fn config_space_says_what_the_host_wants_admitted() {
    let pool = HostPool::new(PoolConfig::new(1 << 20));
    for (admission, number) in [
        (Admission::Always, wire::ADMISSION_ALWAYS),
        (Admission::SecondChance, wire::ADMISSION_SECOND_CHANCE),
        (Admission::Adaptive, wire::ADMISSION_ADAPTIVE),
    ] {
        let config = DeviceConfig {
            admission,
            ..DeviceConfig::default()
        };
        let device = Driver::with_config(&pool, ALL_FEATURES, config).device;
        assert!(device.device_features() & 1 << wire::F_ADMISSION != 0);
        let mut field = [0xff; 4];
        device.read_config(16, &mut field);
        assert_eq!(u32::from_le_bytes(field), number);
    }
}

#[test]
fn a_driver_says_what_it_takes_of_the_guests_memory() {
    let pool = HostPool::new(PoolConfig::new(1 << 20));
    let bytes = 0x0102_0304_0506_0708_u64;
    let device = Driver::with_config(
        &pool,
        ALL_FEATURES | 1 << wire::F_DRIVER_MEMORY,
        DeviceConfig::default(),
    )
    .device;
    assert_eq!(device.stats().driver_memory_bytes, 0);
    // As virtio-mmio writes 64 bits; then what is not the field, before, around and behind it.
    device.write_config(24, &bytes.to_le_bytes()[..4]);
    device.write_config(28, &bytes.to_le_bytes()[4..]);
    assert_eq!(device.stats().driver_memory_bytes, bytes);
    for (offset, length) in [(0, 24), (16, 8), (32, 8), (u64::MAX, 8), (40, 0)] {
        device.write_config(offset, &vec![0xee; length]);
        assert_eq!(device.stats().driver_memory_bytes, bytes, "{offset}");
    }
    device.write_config(22, &[1, 2, 9, 9]);
    assert_eq!(device.stats().driver_memory_bytes, bytes & !0xffff | 0x0909);
    let mut config = [0; 32];
    device.read_config(0, &mut config);
    assert_eq!(config[..4], wire::VERSION.to_le_bytes());
    assert_eq!(config[24..26], [9, 9]);

    device.reset();
    assert_eq!(device.stats().driver_memory_bytes, 0);
    // No driver has accepted the feature.
    device.write_config(24, &bytes.to_le_bytes());
    assert_eq!(device.stats().driver_memory_bytes, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// How the bytes are cut into descriptors is the driver's business.
    #[test]
    fn framing_does_not_matter(
        mut cuts in prop::collection::vec(0usize..13_000, 0..30),
        mut out in prop::collection::vec(0usize..13_000, 0..30),
    ) {
        let mut driver = driver();
        let pool = driver.new_pool(POOL_PERSISTENT);
        cuts.sort_unstable();
        out.sort_unstable();
        let request = Request::new()
            .put(pool, 1, 1, 1).get(pool, 1, 1).put(pool, 1, 2, 2).get(pool, 9, 9)
            .put(pool, 1, 1, 3).get(pool, 1, 1);
        let address = driver.submit_cut(QUEUE_GET, &request, &cuts, &out);
        driver.device.serve_get_queue().expect("sound rings");
        let response = driver.response(QUEUE_GET, &request, address);
        let statuses: Vec<u32> = response.results.iter().map(|(status, _)| *status).collect();
        prop_assert_eq!(statuses, [S_OK, S_OK, S_OK, S_ABSENT, S_OK, S_OK]);
        prop_assert_eq!(&response.pages[0][..], &page(1)[..]);
        prop_assert_eq!(&response.pages[1][..], &[0xee; PAGE_SIZE][..]);
        prop_assert_eq!(&response.pages[2][..], &page(3)[..]);
        prop_assert_eq!(response.written as usize, request.response_len());
    }
}
