//! No chain waits for a doorbell that the driver was told not to ring.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tmem_device::pool::{HostPool, PoolConfig};
use tmem_device::wire::{OP_NOP, QUEUE_GET, QUEUE_PUT};

use crate::driver::{ALL_FEATURES, Driver, EVENT_IDX, Request};

const CHAINS: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn suppressed_doorbells_lose_no_chain() {
    no_chain_is_lost(0);
}

#[test]
fn a_worker_that_polls_before_it_sleeps_loses_no_chain() {
    no_chain_is_lost(50);
}

/// Polled chains need no doorbell, and the driver is not asked for one; the next `serve_put_queue` asks.
#[test]
fn polling_leaves_the_doorbell_off() {
    for features in [ALL_FEATURES, ALL_FEATURES | EVENT_IDX] {
        let pool = HostPool::new(PoolConfig::new(1 << 20));
        let mut driver = Driver::new(&pool, features);
        let nop = Request::new().op(OP_NOP, 0, 0, 0, 0);
        let wants_doorbell = |driver: &Driver| {
            let rings = &driver.queues[usize::from(QUEUE_PUT)];
            if features & EVENT_IDX == 0 {
                !rings.no_doorbell(&driver.memory)
            } else {
                rings.avail_event(&driver.memory) == rings.offered()
            }
        };
        let nothing = driver.device.poll_put_queue().expect("sound rings");
        assert_eq!(nothing, None);
        assert!(wants_doorbell(&driver), "as at first");
        for chains in [1, 3] {
            for _ in 0..chains {
                driver.submit(QUEUE_PUT, &nop);
            }
            let served = driver.device.poll_put_queue().expect("sound rings");
            assert!(served.is_some());
            assert!(!wants_doorbell(&driver));
            let nothing = driver.device.poll_put_queue().expect("sound rings");
            assert_eq!(nothing, None);
        }
        assert_eq!(driver.device.stats().chains, 4);
        driver.device.serve_put_queue().expect("sound rings");
        assert!(wants_doorbell(&driver));
    }
}

#[test]
fn polling_a_device_that_is_not_active_finds_nothing() {
    let pool = HostPool::new(PoolConfig::new(1 << 20));
    let mut driver = Driver::new(&pool, ALL_FEATURES);
    driver.submit(QUEUE_PUT, &Request::new().op(OP_NOP, 0, 0, 0, 0));
    driver.device.reset();
    assert_eq!(driver.device.poll_put_queue().expect("not served"), None);
}

/// A driver that rings only when it must, a worker that serves only when rung and then polls so many times, and
/// a vCPU that serves the get queue, and with it the put queue: but not while the driver waits, since that
/// would find a chain whose doorbell was lost.
fn no_chain_is_lost(polls: u32) {
    let pool = HostPool::new(PoolConfig::new(1 << 20));
    let Driver {
        memory,
        device,
        queues: [mut rings, ..],
        ..
    } = {
        let mut driver = Driver::new(&pool, ALL_FEATURES | EVENT_IDX);
        // A single chain, made available again and again.
        let nop = Request::new().op(OP_NOP, 0, 0, 0, 0);
        driver.submit(QUEUE_PUT, &nop);
        driver.device.serve_put_queue().expect("sound rings");
        driver.queues[usize::from(QUEUE_PUT)]
            .take_used(&driver.memory)
            .expect("served");
        driver
    };
    let (ring, doorbell) = mpsc::channel::<()>();
    let (done, quiet) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut rung = 0;
    std::thread::scope(|scope| {
        let device = &device;
        scope.spawn(move || {
            while doorbell.recv().is_ok() {
                device.note_doorbell(QUEUE_PUT);
                for _ in 0..polls {
                    device.poll_put_queue().expect("sound rings");
                }
                while device.serve_put_queue().expect("sound rings").again {}
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if quiet.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                    continue;
                }
                device.note_doorbell(QUEUE_GET);
                device.serve_get_queue().expect("sound rings");
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let (mut waiting, mut random) = (0, 1u64);
        for chain in 0..CHAINS {
            let before = rings.offered();
            rings.offer(&memory, 0);
            waiting += 1;
            // The driver's half of VIRTIO_F_RING_EVENT_IDX (virtio 1.2, 2.7.10).
            fence(Ordering::SeqCst);
            let event = rings.avail_event(&memory);
            let offered = rings.offered();
            if offered.wrapping_sub(event).wrapping_sub(1) < offered.wrapping_sub(before) {
                ring.send(()).expect("the worker lives");
                rung += 1;
            }
            // Bursts of a few chains, at ever other intervals: the window is narrow.
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            for _ in 0..random >> 32 & 0x1ff {
                std::hint::spin_loop();
            }
            let limit = if random >> 62 == 0 {
                0
            } else {
                usize::from(rings.size) - 1
            };
            let deadline = Instant::now() + PATIENCE;
            quiet.store(waiting > limit, Ordering::Relaxed);
            while waiting > limit {
                match rings.take_used(&memory) {
                    Some(_) => waiting -= 1,
                    None if Instant::now() > deadline => {
                        done.store(true, Ordering::Relaxed);
                        panic!("chain {chain} was never served");
                    }
                    None => std::hint::spin_loop(),
                }
            }
            quiet.store(false, Ordering::Relaxed);
        }
        done.store(true, Ordering::Relaxed);
        drop(ring);
    });
    assert!(rung > 0);
    let stats = device.stats();
    assert_eq!((stats.doorbells, stats.put_doorbells), (rung, rung));
}
