//! Chains and rings that no sound driver makes: they cost the guest its own answers, nothing else.

use crate::driver::{
    ALL_FEATURES, BUFFERS, Descriptor, Driver, EVENT_IDX, MEMORY, NEXT, Request, WRITE,
};
use proptest::prelude::*;
use tmem_device::pool::{HostPool, PoolConfig};
use tmem_device::wire::*;
use vm_memory::{Bytes, GuestAddress};

fn driver() -> Driver {
    Driver::new(&HostPool::new(PoolConfig::new(8 << 20)), ALL_FEATURES)
}

/// Sends pieces as one chain, and checks that it came back with nothing done.
fn is_refused(driver: &mut Driver, pieces: &[(&[u8], u16)]) {
    let (head, _) = driver.chain(QUEUE_GET, pieces);
    head_is_refused(driver, head);
}

fn head_is_refused(driver: &mut Driver, head: u16) {
    let before = driver.device.stats();
    driver.queues[1].offer(&driver.memory, head);
    driver
        .device
        .serve_get_queue()
        .expect("the ring itself is sound");
    assert_eq!(driver.queues[1].take_used(&driver.memory), Some((head, 0)));
    let after = driver.device.stats();
    assert_eq!(after.malformed_chains, before.malformed_chains + 1);
    assert_eq!(
        (after.puts, after.gets, after.flushes),
        (before.puts, before.gets, before.flushes)
    );
}

#[test]
fn chains_with_wrong_sizes_are_not_executed() {
    let mut driver = driver();
    let pool = driver.new_pool(POOL_PERSISTENT);
    let request = Request::new().put(pool, 1, 1, 1).get(pool, 1, 1);
    let bytes = request.bytes();
    let response = vec![0; request.response_len()];
    let longer = [&bytes[..], &[0]].concat();

    is_refused(&mut driver, &[(&bytes, 0)]);
    is_refused(&mut driver, &[(&response, WRITE)]);
    is_refused(
        &mut driver,
        &[(&bytes[..bytes.len() - 1], 0), (&response, WRITE)],
    );
    is_refused(&mut driver, &[(&longer, 0), (&response, WRITE)]);
    is_refused(&mut driver, &[(&bytes[..7], 0), (&response, WRITE)]);
    is_refused(&mut driver, &[(&bytes[..60], 0), (&response, WRITE)]);
    is_refused(
        &mut driver,
        &[(&bytes, 0), (&response[..response.len() - 1], WRITE)],
    );
    is_refused(&mut driver, &[(&response, WRITE), (&bytes, 0)]);
    for nr_ops in [0u32, 1, 3, 129, u32::MAX] {
        let mut wrong = bytes.clone();
        wrong[..4].copy_from_slice(&nr_ops.to_le_bytes());
        is_refused(&mut driver, &[(&wrong, 0), (&response, WRITE)]);
    }
    let mut flags = bytes.clone();
    flags[4] = 1;
    is_refused(&mut driver, &[(&flags, 0), (&response, WRITE)]);

    assert_eq!(
        driver.statuses(&request),
        [S_OK, S_OK],
        "the device goes on"
    );
}

#[test]
fn a_chain_may_carry_as_many_operations_as_promised() {
    let mut driver = driver();
    let mut request = Request::new();
    for _ in 0..128 {
        request = request.op(OP_NOP, 0, 0, 0, 0);
    }
    assert_eq!(driver.statuses(&request), [S_OK; 128]);
    let request = request.op(OP_NOP, 0, 0, 0, 0);
    is_refused(&mut driver, &[(&request.bytes(), 0), (&[0; 2048], WRITE)]);
}

#[test]
fn chains_that_lead_outside_or_in_circles_are_not_executed() {
    let mut driver = driver();
    let pool = driver.new_pool(POOL_PERSISTENT);
    let request = Request::new().put(pool, 1, 1, 1);
    let (bytes, response) = (request.bytes(), vec![0; request.response_len()]);
    let pieces: [(&[u8], u16); 2] = [(&bytes, 0), (&response, WRITE)];
    let length = bytes.len() as u32;

    for (address, length) in [
        (MEMORY, length),
        (MEMORY - 1, length),
        (u64::MAX, length),
        (u64::MAX - 100, u32::MAX),
    ] {
        let (head, _) = driver.chain(QUEUE_GET, &pieces);
        let next = (head + 1) % driver.queues[1].size;
        let outside = Descriptor {
            address,
            length,
            flags: NEXT,
            next,
        };
        driver.queues[1].write_descriptor(&driver.memory, head, outside);
        head_is_refused(&mut driver, head);
    }
    for next in [256, u16::MAX] {
        let (head, addresses) = driver.chain(QUEUE_GET, &pieces);
        let lost = Descriptor {
            address: addresses[0],
            length,
            flags: NEXT,
            next,
        };
        driver.queues[1].write_descriptor(&driver.memory, head, lost);
        head_is_refused(&mut driver, head);
    }
    let (head, addresses) = driver.chain(QUEUE_GET, &pieces);
    let circle = Descriptor {
        address: addresses[0],
        length,
        flags: NEXT,
        next: head,
    };
    driver.queues[1].write_descriptor(&driver.memory, head, circle);
    head_is_refused(&mut driver, head);

    assert_eq!(driver.statuses(&request), [S_OK], "the device goes on");
}

#[test]
fn a_broken_ring_ends_the_service_until_reset() {
    for queue in [QUEUE_PUT, QUEUE_GET] {
        let mut driver = driver();
        let rings = &mut driver.queues[usize::from(queue)];
        rings.set_avail_idx(&driver.memory, 257);
        let error = driver
            .device
            .serve_get_queue()
            .expect_err("more chains than fit");
        assert!(
            error.to_string().contains(&format!("queue {queue}")),
            "{error}"
        );
        for served in [
            driver.device.serve_get_queue(),
            driver.device.serve_put_queue(),
        ] {
            assert!(!served.expect("stopped, not broken again").interrupt);
        }
        driver.device.reset();
        driver.start(ALL_FEATURES);
        assert_eq!(
            driver.statuses(&Request::new().op(OP_NOP, 0, 0, 0, 0)),
            [S_OK]
        );
    }
    let mut driver = driver();
    driver.queues[0].offer(&driver.memory, 256);
    driver
        .device
        .serve_put_queue()
        .expect_err("a head outside the table");
}

#[test]
fn queues_outside_memory_are_not_activated() {
    let driver = driver();
    driver.device.reset();
    driver.device.ack_features(ALL_FEATURES);
    let queue = |size: u16| {
        use virtio_queue::QueueT;
        virtio_queue::Queue::new(size).expect("a power of two")
    };
    let error = driver
        .device
        .activate(driver.memory.clone(), [queue(256), queue(256), queue(64)])
        .expect_err("not ready");
    assert!(error.to_string().starts_with("queue 0"));
}

#[test]
fn interrupts_follow_the_drivers_wish() {
    let nop = Request::new().op(OP_NOP, 0, 0, 0, 0);
    let pool = HostPool::new(PoolConfig::new(1 << 20));

    let mut driver = Driver::new(&pool, ALL_FEATURES);
    driver.submit(QUEUE_PUT, &nop);
    assert!(
        driver
            .device
            .serve_put_queue()
            .expect("sound rings")
            .interrupt
    );
    assert!(
        !driver
            .device
            .serve_put_queue()
            .expect("sound rings")
            .interrupt,
        "nothing was done"
    );
    driver.queues[0].set_avail_flags(&driver.memory, 1);
    driver.submit(QUEUE_PUT, &nop);
    assert!(
        !driver
            .device
            .serve_put_queue()
            .expect("sound rings")
            .interrupt
    );

    let mut driver = Driver::new(&pool, ALL_FEATURES | EVENT_IDX);
    driver.queues[0].set_used_event(&driver.memory, 2);
    for expected in [false, false, true, false] {
        driver.submit(QUEUE_PUT, &nop);
        let signal = driver.device.serve_put_queue().expect("sound rings");
        assert_eq!(signal.interrupt, expected);
        assert!(!signal.again);
    }
    assert_eq!(
        driver.queues[0].avail_event(&driver.memory),
        4,
        "a doorbell for the next chain"
    );
    driver.submit(QUEUE_GET, &nop);
    driver.device.serve_get_queue().expect("sound rings");
    assert_eq!(driver.queues[1].avail_event(&driver.memory), 1);
}

#[test]
fn a_bad_event_buffer_is_returned_empty_and_the_next_one_used() {
    let pool = HostPool::new(PoolConfig {
        credit: 1024,
        ..PoolConfig::new(1 << 20)
    });
    let hog = Driver::new(&pool, ALL_FEATURES);
    let mut driver = Driver::new(&pool, ALL_FEATURES);
    assert_eq!(driver.first_credit(), 0);
    let (bad, _) = driver.chain(QUEUE_EVENT, &[(&[0; 8], WRITE)]);
    driver.queues[2].offer(&driver.memory, bad);
    let good = driver.offer_event_buffer();
    drop(hog);
    assert!(
        driver
            .device
            .serve_event_queue()
            .expect("sound rings")
            .interrupt
    );
    assert_eq!(driver.queues[2].take_used(&driver.memory), Some((bad, 0)));
    let (kind, credit) = driver.take_event(good).expect("an event");
    assert_eq!(kind, EV_CREDIT);
    assert!(credit >= 32);
}

/// A descriptor that may be anything, but often lies within memory.
fn descriptor() -> impl Strategy<Value = Descriptor> {
    let address = prop_oneof![
        4 => BUFFERS..MEMORY,
        1 => Just(MEMORY - 8),
        1 => any::<u64>(),
    ];
    let length = prop_oneof![4 => 0u32..9000, 1 => Just(16u32), 1 => any::<u32>()];
    let flags = prop_oneof![4 => 0u16..4, 1 => 0u16..8];
    let next = prop_oneof![6 => 0u16..16, 1 => any::<u16>()];
    (address, length, flags, next).prop_map(|(address, length, flags, next)| Descriptor {
        address,
        length,
        flags,
        next,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever is in the rings: no panic, no endless loop, and nothing is written but the used
    /// rings and what a writable descriptor names.
    #[test]
    fn garbage_does_no_harm(
        descriptors in prop::collection::vec(descriptor(), 16),
        heads in prop::collection::vec(prop_oneof![9 => 0u16..16, 1 => any::<u16>()], 1..12),
        jump in prop_oneof![9 => Just(0u16), 1 => any::<u16>()],
        headers in prop::collection::vec((0u32..6, 0u16..9), 16),
        features in prop_oneof![Just(ALL_FEATURES), Just(ALL_FEATURES | EVENT_IDX), Just(0u64)],
    ) {
        let mut driver = Driver::new(&HostPool::new(PoolConfig::new(100_000)), features);
        if features != 0 {
            driver.new_pool(POOL_EPHEMERAL);
        }
        let memory = driver.memory.clone();
        // Requests that are at least plausible, where descriptors point.
        for (at, (nr_ops, kind)) in headers.iter().enumerate() {
            let address = descriptors[at].address;
            let mut bytes = nr_ops.to_le_bytes().to_vec();
            bytes.extend_from_slice(&[0; 4]);
            for _ in 0..*nr_ops {
                bytes.extend_from_slice(&u32::from(*kind).to_le_bytes());
                bytes.extend_from_slice(&[0; 44]);
            }
            let _ = memory.write_slice(&bytes, GuestAddress(address));
        }
        for queue in 0..3 {
            for (index, descriptor) in descriptors.iter().enumerate() {
                driver.queues[queue].write_descriptor(&memory, index as u16, *descriptor);
            }
            for head in &heads {
                driver.queues[queue].offer(&memory, *head);
            }
        }
        if jump != 0 {
            driver.queues[0].set_avail_idx(&memory, jump);
        }
        let mut before = vec![0; MEMORY as usize];
        memory.read_slice(&mut before, GuestAddress(0)).expect("in memory");

        let _ = driver.device.serve_event_queue();
        let _ = driver.device.serve_put_queue();
        let _ = driver.device.serve_get_queue();
        let _ = driver.device.stats();

        let mut after = vec![0; MEMORY as usize];
        memory.read_slice(&mut after, GuestAddress(0)).expect("in memory");
        let indirect = descriptors.iter().any(|descriptor| descriptor.flags & 4 != 0);
        let mut allowed: Vec<(u64, u64)> = driver
            .queues
            .iter()
            .map(|rings| (rings.used, 6 + 8 * u64::from(rings.size)))
            .collect();
        for descriptor in &descriptors {
            if descriptor.flags & WRITE != 0 {
                allowed.push((descriptor.address, descriptor.length.into()));
            }
        }
        for (start, length) in allowed {
            let start = start.min(MEMORY) as usize;
            let end = (start as u64).saturating_add(length).min(MEMORY) as usize;
            after[start..end].copy_from_slice(&before[start..end]);
        }
        // Indirect tables name ranges of their own: then only the absence of panics is checked.
        prop_assert!(indirect || before == after, "a byte outside was written");
    }
}
