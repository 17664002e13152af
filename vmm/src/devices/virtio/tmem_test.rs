//! The worker against a driver that rings only when it must.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread;

use tmem_device::pool::PoolConfig;
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};

use super::*;

/// Where the put queue is; the get queue, which nobody uses, is behind it.
const TABLE: u32 = 0;
const AVAIL: u32 = 0x1000;
const USED: u32 = 0x2000;
const RINGS: u32 = 0x3000;
const REQUEST: u64 = 0x8000;
const RESPONSE: u64 = 0x9000;
const SIZE: u16 = 256;

/// Descriptor flags.
const NEXT: u64 = 1;
const WRITE: u64 = 2;

const CHAINS: u16 = 1000;
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Line {
    broken: AtomicU64,
}

impl Interrupt for Line {
    fn used_buffer(&self) {}
    fn config_changed(&self) {}
    fn needs_reset(&self) {
        self.broken.fetch_add(1, Ordering::SeqCst);
    }
}

/// Sends chains, each as soon as the one before is back, to a worker that polls for `poll`; returns how often the driver
/// rang, and what the device counted.
fn send_chains(poll: Duration) -> (u64, TmemStats) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).expect("memory");
    let memory = Memory::new(memory);
    let config = TmemConfig {
        size: 1 << 20,
        poll: Some(poll),
        ..TmemConfig::default()
    };
    let pool = HostPool::new(PoolConfig::new(config.size));
    let tmem = Tmem::new(pool, &config).expect("a device");
    let doorbell = EventFd::new(libc::EFD_NONBLOCK).expect("an eventfd");
    let unused = || EventFd::new(libc::EFD_NONBLOCK).expect("an eventfd");
    let queues = [0, 1, 2].map(|number| {
        let mut queue = Queue::new(SIZE).expect("a power of two");
        queue.set_desc_table_address(Some(number * RINGS + TABLE), Some(0));
        queue.set_avail_ring_address(Some(number * RINGS + AVAIL), Some(0));
        queue.set_used_ring_address(Some(number * RINGS + USED), Some(0));
        queue.set_ready(true);
        queue
    });
    let line = Arc::new(Line::default());
    tmem.activate(Activation {
        memory: memory.clone(),
        queues: queues.into(),
        doorbells: vec![doorbell.try_clone().expect("a clone"), unused(), unused()],
        interrupt: line.clone(),
        features: 1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX,
    })
    .expect("the queues are set up");

    // One chain of one operation that does nothing: a header, and zeros.
    let memory = memory.memory();
    let at = |address: u64| GuestAddress(address);
    let write = |address: u64, value: u64| memory.write_obj(value, at(address)).expect("in memory");
    write(REQUEST, 1);
    let descriptor = |index: u64, address: u64, length: u64, flags: u64, next: u64| {
        write(u64::from(TABLE) + 16 * index, address);
        write(
            u64::from(TABLE) + 16 * index + 8,
            length | flags << 32 | next << 48,
        );
    };
    descriptor(0, REQUEST, 56, NEXT, 1);
    descriptor(1, RESPONSE, 16, WRITE, 0);
    let load = |address: u64| -> u16 {
        memory
            .load(at(address), Ordering::Acquire)
            .expect("in memory")
    };
    let mut rung = 0;
    for chain in 0..CHAINS {
        memory
            .store(chain + 1, at(u64::from(AVAIL) + 2), Ordering::Release)
            .expect("in memory");
        fence(Ordering::SeqCst);
        if load(u64::from(USED) + 4 + 8 * u64::from(SIZE)) == chain {
            doorbell.write(1).expect("not full");
            rung += 1;
        }
        let start = Instant::now();
        while load(u64::from(USED) + 2) != chain + 1 {
            assert!(start.elapsed() < PATIENCE, "chain {chain} was never served");
            thread::yield_now();
        }
    }
    tmem.reset();
    assert_eq!(line.broken.load(Ordering::SeqCst), 0);
    (rung, tmem.stats())
}

#[test]
fn chains_that_follow_one_another_are_polled_for() {
    let (rung, stats) = send_chains(Duration::from_millis(500));
    assert_eq!(stats.chains, u64::from(CHAINS));
    // Two that ring before the worker wakes are one to it.
    assert!(stats.put_doorbells <= rung);
    assert!(rung < u64::from(CHAINS) / 2, "{rung} doorbells");
    assert!(stats.polls > stats.polls_in_vain, "{stats:?}");
}

#[test]
fn a_worker_that_shall_not_poll_does_not() {
    let (rung, stats) = send_chains(Duration::ZERO);
    assert_eq!(stats.chains, u64::from(CHAINS));
    assert!(rung > 0);
    assert_eq!(stats.polls, 0);
}
