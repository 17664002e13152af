//! No chain waits for a doorbell that the driver was told not to ring.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tmem_device::pool::{HostPool, PoolConfig};
use tmem_device::wire::{OP_NOP, QUEUE_GET, QUEUE_PUT};

use crate::driver::{ALL_FEATURES, Driver, EVENT_IDX, Request};

const CHAINS: usize = 20_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// A driver that rings only when it must, a worker that serves only when rung, and a vCPU that
/// serves the get queue, and with it the put queue: but not while the driver waits, since that
/// would find a chain whose doorbell was lost.
#[test]
fn suppressed_doorbells_lose_no_chain() {
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
