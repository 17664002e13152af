//! virtio over memory-mapped registers (virtio 1.2, 4.2).
//!
//! Registers are accessed by 32 bits, the configuration space by any width. Everything here is what a
//! guest may write at any time and in any order, from several vCPUs: state changes go one at a time,
//! under one lock; doorbells take none.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::EventFd;

use super::{Activation, Interrupt, Memory, VirtioDevice};
use crate::machine::bus::BusDevice;

/// Offset of QueueNotify: where an ioeventfd watches for doorbells.
pub const QUEUE_NOTIFY: u64 = 0x50;
/// Offset of the device's configuration space.
const CONFIG: u64 = 0x100;

const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// Vendor id: "VTMM".
const VENDOR: u32 = 0x4d4d_5456;

/// Interrupt status bits.
const USED_BUFFER: u32 = 1;
const CONFIG_CHANGED: u32 = 2;

/// Interrupt status and device status: what threads of the device change beside the driver.
struct Lines {
    irq: EventFd,
    interrupt_status: AtomicU32,
    status: AtomicU32,
}

impl Lines {
    fn raise(&self, bit: u32) {
        self.interrupt_status.fetch_or(bit, Ordering::SeqCst);
        // The hypervisor empties the counter; it cannot overflow.
        if let Err(error) = self.irq.write(1) {
            tracing::debug!(%error, "interrupt lost");
        }
    }
}

impl Interrupt for Lines {
    fn used_buffer(&self) {
        self.raise(USED_BUFFER);
    }

    fn config_changed(&self) {
        self.raise(CONFIG_CHANGED);
    }

    fn needs_reset(&self) {
        self.status
            .fetch_or(VIRTIO_CONFIG_S_NEEDS_RESET, Ordering::SeqCst);
        self.raise(CONFIG_CHANGED);
    }
}

/// What the driver has configured so far.
struct Setup {
    queues: Vec<Queue>,
    queue_select: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    /// Whether the device runs (or was told to), and must be reset before it starts again.
    active: bool,
}

/// The registers of one device.
pub struct MmioTransport {
    device: Arc<dyn VirtioDevice>,
    memory: Memory,
    doorbells: Vec<EventFd>,
    lines: Arc<Lines>,
    setup: Mutex<Setup>,
}

/// Fresh queues of the sizes that `device` offers.
fn fresh_queues(device: &dyn VirtioDevice) -> Vec<Queue> {
    device
        .queue_max_sizes()
        .iter()
        .map(|&size| Queue::new(size).expect("devices offer powers of two"))
        .collect()
}

fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

impl MmioTransport {
    /// Registers for `device`, whose interrupt is `irq` and whose queues have `doorbells`, one each.
    pub fn new(
        device: Arc<dyn VirtioDevice>,
        memory: Memory,
        irq: EventFd,
        doorbells: Vec<EventFd>,
    ) -> Self {
        assert_eq!(
            doorbells.len(),
            device.queue_max_sizes().len(),
            "one doorbell for each queue"
        );
        let setup = Setup {
            queues: fresh_queues(device.as_ref()),
            queue_select: 0,
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            active: false,
        };
        let lines = Arc::new(Lines {
            irq,
            interrupt_status: AtomicU32::new(0),
            status: AtomicU32::new(0),
        });
        MmioTransport {
            device,
            memory,
            doorbells,
            lines,
            setup: Mutex::new(setup),
        }
    }

    /// Stops the device: afterwards it touches guest memory no more.
    pub fn shut_down(&self) {
        self.reset(&mut self.setup());
    }

    /// Has the device hold still; the machine's vCPUs must stand.
    pub fn pause(&self) {
        let _setup = self.setup();
        self.device.pause();
    }

    /// Has the device go on.
    pub fn resume(&self) {
        let _setup = self.setup();
        self.device.resume();
    }

    fn setup(&self) -> MutexGuard<'_, Setup> {
        self.setup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> u32 {
        self.lines.status.load(Ordering::SeqCst)
    }

    fn register(&self, offset: u64) -> u32 {
        let setup = self.setup();
        let queue = setup.queues.get(setup.queue_select as usize);
        match offset {
            0x000 => MAGIC,
            0x004 => VERSION,
            0x008 => self.device.device_type(),
            0x00c => VENDOR,
            0x010 => match setup.device_features_select {
                0 => low(self.device.device_features()),
                1 => high(self.device.device_features()),
                _ => 0,
            },
            0x034 => queue.map_or(0, |queue| u32::from(queue.max_size())),
            0x044 => queue.map_or(0, |queue| u32::from(queue.ready())),
            0x060 => self.lines.interrupt_status.load(Ordering::SeqCst),
            0x070 => self.status(),
            // Shared memory regions: none, whose length reads as all ones (4.2.2).
            0x0b0..=0x0bc => u32::MAX,
            // ConfigGeneration stays 0: no field of any device's space changes but one at a time.
            _ => 0,
        }
    }

    fn set_register(&self, offset: u64, value: u32) {
        match offset {
            QUEUE_NOTIFY => return self.notify(value),
            0x064 => {
                self.lines
                    .interrupt_status
                    .fetch_and(!value, Ordering::SeqCst);
                return;
            }
            _ => {}
        }
        let mut setup = self.setup();
        match offset {
            0x014 => setup.device_features_select = value,
            0x024 => setup.driver_features_select = value,
            0x030 => setup.queue_select = value,
            0x070 => self.set_status(&mut setup, value),
            0x020 => self.set_driver_features(&mut setup, value),
            _ => self.configure_queue(&mut setup, offset, value),
        }
    }

    fn set_driver_features(&self, setup: &mut Setup, value: u32) {
        // Fixed once FEATURES_OK is set (3.1.1).
        if self.status() & VIRTIO_CONFIG_S_FEATURES_OK != 0 {
            return;
        }
        let value = u64::from(value);
        match setup.driver_features_select {
            0 => setup.driver_features = setup.driver_features & !0xffff_ffff | value,
            1 => setup.driver_features = setup.driver_features & 0xffff_ffff | value << 32,
            _ => {}
        }
    }

    fn configure_queue(&self, setup: &mut Setup, offset: u64, value: u32) {
        let ready_to_configure = VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
        if setup.active || self.status() & ready_to_configure != ready_to_configure {
            return;
        }
        let select = setup.queue_select as usize;
        let Some(queue) = setup.queues.get_mut(select) else {
            return;
        };
        match offset {
            // A size that is no power of two, or too large, is ignored and the offered one stays.
            0x038 => queue.set_size(value.try_into().unwrap_or(0)),
            0x044 => queue.set_ready(value == 1),
            0x080 => queue.set_desc_table_address(Some(value), None),
            0x084 => queue.set_desc_table_address(None, Some(value)),
            0x090 => queue.set_avail_ring_address(Some(value), None),
            0x094 => queue.set_avail_ring_address(None, Some(value)),
            0x0a0 => queue.set_used_ring_address(Some(value), None),
            0x0a4 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    /// Device status (2.1): bits are only ever added, in order, until a reset.
    fn set_status(&self, setup: &mut Setup, value: u32) {
        if value == 0 {
            return self.reset(setup);
        }
        let old = self.status();
        let mut new = value | old;
        let steps = [
            (VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_ACKNOWLEDGE),
            (VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_DRIVER),
            (VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK),
        ];
        for (step, before) in steps {
            if new & step != 0 && new & before == 0 {
                new &= !step;
            }
        }
        if new & !old & VIRTIO_CONFIG_S_FEATURES_OK != 0 && !self.features_acceptable(setup) {
            new &= !(VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
        }
        self.lines.status.fetch_or(new, Ordering::SeqCst);
        if new & VIRTIO_CONFIG_S_DRIVER_OK != 0
            && new & VIRTIO_CONFIG_S_FAILED == 0
            && !setup.active
        {
            self.activate(setup);
        }
    }

    /// Whether the driver took no feature that was not offered, and is no legacy driver.
    fn features_acceptable(&self, setup: &Setup) -> bool {
        setup.driver_features & !self.device.device_features() == 0
            && setup.driver_features & 1 << VIRTIO_F_VERSION_1 != 0
    }

    fn activate(&self, setup: &mut Setup) {
        setup.active = true;
        let fresh = fresh_queues(self.device.as_ref());
        let queues = std::mem::replace(&mut setup.queues, fresh);
        let doorbells: Result<Vec<_>, _> = self.doorbells.iter().map(EventFd::try_clone).collect();
        let started = doorbells.map_err(Into::into).and_then(|doorbells| {
            self.device.activate(Activation {
                memory: self.memory.clone(),
                queues,
                doorbells,
                interrupt: self.lines.clone(),
                features: setup.driver_features,
            })
        });
        if let Err(error) = started {
            tracing::warn!(device = self.device.device_type(), %error, "device not started");
            self.lines.needs_reset();
        }
    }

    fn reset(&self, setup: &mut Setup) {
        if setup.active {
            self.device.reset();
        }
        setup.queues = fresh_queues(self.device.as_ref());
        setup.driver_features = 0;
        setup.active = false;
        // Doorbells of before the reset must not ring after it.
        for doorbell in &self.doorbells {
            let _ = doorbell.read();
        }
        self.lines.status.store(0, Ordering::SeqCst);
        self.lines.interrupt_status.store(0, Ordering::SeqCst);
    }

    /// A doorbell that no ioeventfd took.
    fn notify(&self, value: u32) {
        let Ok(queue) = u16::try_from(value) else {
            return;
        };
        if self.status() & VIRTIO_CONFIG_S_DRIVER_OK == 0 {
            return;
        }
        if self.device.exit_queues().contains(&queue) {
            self.device.notify_in_exit(queue);
        } else if let Some(doorbell) = self.doorbells.get(usize::from(queue))
            && let Err(error) = doorbell.write(1)
        {
            tracing::debug!(%error, "doorbell lost");
        }
    }
}

impl BusDevice for MmioTransport {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.device.read_config(offset, data);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(&mut *data) {
            *word = self.register(offset).to_le_bytes();
        } else {
            data.fill(0);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.device.write_config(offset, data);
        } else if let Ok(word) = <[u8; 4]>::try_from(data) {
            self.set_register(offset, u32::from_le_bytes(word));
        }
    }
}

#[cfg(test)]
#[path = "mmio_test.rs"]
mod tests;
