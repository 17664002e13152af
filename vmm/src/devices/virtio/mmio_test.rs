use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::*;
use crate::devices::virtio::ActivateError;

const FEATURES: u64 = 1 << VIRTIO_F_VERSION_1 | 1 << 3;

/// Counts what the transport does to it.
#[derive(Default)]
struct Probe {
    activations: AtomicUsize,
    resets: AtomicUsize,
    in_exit: AtomicUsize,
    features: Mutex<u64>,
}

impl VirtioDevice for Probe {
    fn device_type(&self) -> u32 {
        63
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &[256, 64]
    }

    fn device_features(&self) -> u64 {
        FEATURES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(offset as u8);
    }

    fn activate(&self, activation: Activation) -> Result<(), ActivateError> {
        let running = self.activations.load(Ordering::SeqCst) - self.resets.load(Ordering::SeqCst);
        assert_eq!(running, 0, "activated twice without a reset in between");
        self.activations.fetch_add(1, Ordering::SeqCst);
        *self.features.lock().expect("not poisoned") = activation.features;
        assert_eq!(
            (activation.queues.len(), activation.doorbells.len()),
            (2, 2)
        );
        if activation.queues.iter().all(QueueT::ready) {
            Ok(())
        } else {
            Err(ActivateError::QueueNotReady(0))
        }
    }

    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
    }

    fn pause(&self) {}

    fn resume(&self) {}

    fn exit_queues(&self) -> &[u16] {
        &[1]
    }

    fn notify_in_exit(&self, queue: u16) {
        assert_eq!(queue, 1);
        self.in_exit.fetch_add(1, Ordering::SeqCst);
    }
}

struct Bench {
    probe: Arc<Probe>,
    transport: MmioTransport,
    irq: EventFd,
    doorbell: EventFd,
}

fn bench() -> Bench {
    let eventfd = || EventFd::new(libc::EFD_NONBLOCK).expect("an eventfd");
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).expect("memory");
    let probe = Arc::new(Probe::default());
    let (irq, doorbells) = (eventfd(), [eventfd(), eventfd()]);
    let (irq_copy, doorbell) = (
        irq.try_clone().expect("clone"),
        doorbells[0].try_clone().expect("clone"),
    );
    let transport = MmioTransport::new(probe.clone(), Memory::new(memory), irq, doorbells.into());
    Bench {
        probe,
        transport,
        irq: irq_copy,
        doorbell,
    }
}

impl Bench {
    fn get(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.transport.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn set(&self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    /// What a driver does up to FEATURES_OK; returns the status it reads back.
    fn negotiate(&self, features: u64) -> u32 {
        self.set(0x70, 0);
        self.set(0x70, 1);
        self.set(0x70, 3);
        for half in 0..2 {
            self.set(0x24, half);
            self.set(0x20, (features >> (32 * half)) as u32);
        }
        self.set(0x70, 11);
        self.get(0x70)
    }

    fn start(&self) {
        assert_eq!(self.negotiate(FEATURES), 11);
        for queue in 0..2 {
            self.set(0x30, queue);
            self.set(0x38, 64);
            self.set(0x80, 0x1000);
            self.set(0x90, 0x2000);
            self.set(0xa0, 0x3000);
            self.set(0x44, 1);
            assert_eq!(self.get(0x44), 1);
        }
        self.set(0x70, 15);
    }
}

#[test]
fn a_driver_by_the_book_starts_the_device_once() {
    let bench = bench();
    assert_eq!((bench.get(0), bench.get(4), bench.get(8)), (MAGIC, 2, 63));
    bench.start();
    bench.set(0x70, 15);
    assert_eq!(bench.get(0x70), 15);
    assert_eq!(bench.probe.activations.load(Ordering::SeqCst), 1);
    assert_eq!(
        *bench.probe.features.lock().expect("not poisoned"),
        FEATURES
    );
    bench.set(0x70, 0);
    assert_eq!(bench.probe.resets.load(Ordering::SeqCst), 1);
    assert_eq!((bench.get(0x70), bench.get(0x44)), (0, 0));
}

#[test]
fn features_never_offered_or_legacy_are_not_ok() {
    for features in [FEATURES | 1 << 7, FEATURES | 1 << 40, FEATURES & !(1 << 32)] {
        assert_eq!(bench().negotiate(features), 3, "{features:#x}");
    }
}

#[test]
fn doorbells_go_where_the_device_wants_them() {
    let bench = bench();
    bench.set(QUEUE_NOTIFY, 1);
    assert_eq!(
        bench.probe.in_exit.load(Ordering::SeqCst),
        0,
        "not before DRIVER_OK"
    );
    bench.start();
    bench.set(QUEUE_NOTIFY, 1);
    bench.set(QUEUE_NOTIFY, 0);
    bench.set(QUEUE_NOTIFY, 2);
    bench.set(QUEUE_NOTIFY, u32::MAX);
    assert_eq!(bench.probe.in_exit.load(Ordering::SeqCst), 1);
    assert_eq!(bench.doorbell.read().expect("rung"), 1);
}

#[test]
fn interrupts_are_latched_until_acknowledged() {
    let bench = bench();
    bench.transport.lines.used_buffer();
    bench.transport.lines.config_changed();
    assert_eq!(bench.irq.read().expect("raised"), 2);
    assert_eq!(bench.get(0x60), 3);
    bench.set(0x64, 1);
    assert_eq!(bench.get(0x60), 2);
}

#[test]
fn a_device_that_cannot_start_needs_reset() {
    let bench = bench();
    bench.negotiate(FEATURES);
    bench.set(0x70, 15);
    assert_eq!(bench.get(0x70), 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_eq!(bench.get(0x60), CONFIG_CHANGED);
    bench.start();
    assert_eq!(bench.get(0x70), 15);
}

proptest! {
    /// Any order of accesses of any width leaves a device that a proper driver can start.
    #[test]
    fn no_sequence_of_accesses_wedges_the_device(
        accesses in proptest::collection::vec((any::<bool>(), 0_u64..0x200, any::<u32>(), 1_usize..=8), 0..200),
        small in any::<bool>(),
    ) {
        let bench = bench();
        for (write, offset, value, width) in accesses {
            let offset = if small { offset & !3 } else { offset };
            let value = if small { value & 0xf } else { value };
            let mut data = u64::from(value).to_le_bytes();
            if write {
                bench.transport.write(offset, &data[..width]);
            } else {
                bench.transport.read(offset, &mut data[..width]);
            }
        }
        bench.start();
        prop_assert_eq!(bench.get(0x70), 15);
    }
}
