//! Virtio devices: what each of them is to its transport.
//!
//! One file per device ([`blk`], [`tmem`]) and one per transport ([`mmio`]). A device never sees
//! the hypervisor: it gets guest memory, its queues, an [`EventFd`] for each doorbell and an
//! [`Interrupt`], and nothing else.

pub mod blk;
pub mod blk_metrics;
pub mod mmio;
mod polling;
mod reins;
pub mod tmem;
pub mod tmem_metrics;
mod worker;

use std::sync::Arc;

use virtio_queue::Queue;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

/// Guest memory as every device sees it.
pub type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// How a device tells its driver that something happened.
pub trait Interrupt: Send + Sync {
    /// Sets the used-buffer bit of the interrupt status and raises the line.
    fn used_buffer(&self);
    /// Sets the configuration-change bit of the interrupt status and raises the line.
    fn config_changed(&self);
    /// Sets DEVICE_NEEDS_RESET in the device status, then signals a configuration change (virtio
    /// 1.2, 2.1.2): the device will serve nothing more until the driver resets it.
    fn needs_reset(&self);
}

/// What a device is handed when its driver sets DRIVER_OK.
pub struct Activation {
    /// Guest memory.
    pub memory: Memory,
    /// The configured queues, one for each entry of [`VirtioDevice::queue_max_sizes`].
    pub queues: Vec<Queue>,
    /// One doorbell for each queue. A queue of [`VirtioDevice::exit_queues`] has one too, but the
    /// transport never rings it.
    pub doorbells: Vec<EventFd>,
    /// The way back to the driver.
    pub interrupt: Arc<dyn Interrupt>,
    /// The feature bits that the driver accepted.
    pub features: u64,
}

/// A device behind a virtio transport. All methods may be called from any vCPU's thread.
pub trait VirtioDevice: Send + Sync {
    /// The virtio device id (virtio 1.2, chapter 5).
    fn device_type(&self) -> u32;
    /// The largest size of each queue, in descriptors; a power of two.
    fn queue_max_sizes(&self) -> &[u16];
    /// The feature bits that the device offers, VIRTIO_F_VERSION_1 among them.
    fn device_features(&self) -> u64;
    /// Reads `data.len()` bytes of the configuration space from `offset`; zeros beyond its end.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// Writes to the configuration space; devices without writable fields ignore it.
    fn write_config(&self, _offset: u64, _data: &[u8]) {}
    /// Starts the device on its queues. An error makes the transport report DEVICE_NEEDS_RESET.
    fn activate(&self, activation: Activation) -> Result<(), ActivateError>;
    /// Stops the device and joins its threads: when this returns, it touches guest memory no more.
    fn reset(&self);
    /// Has the device's threads bring to an end what they have begun, and hold still: from the return on it touches no
    /// guest memory until [`Self::resume`]. The machine's vCPUs stand meanwhile.
    fn pause(&self);
    /// Has the device's threads go on where they were.
    fn resume(&self);
    /// Queues whose doorbell is served inside its exit by [`Self::notify_in_exit`], on the vCPU's
    /// thread, and has no ioeventfd.
    fn exit_queues(&self) -> &[u16] {
        &[]
    }
    /// Serves the doorbell of a queue of [`Self::exit_queues`] before the vCPU resumes.
    fn notify_in_exit(&self, _queue: u16) {}
}

/// Why a device could not start.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// The driver left a queue unconfigured that the device cannot do without.
    #[error("queue {0} is not ready; the driver must configure it before DRIVER_OK")]
    QueueNotReady(usize),
    /// The host refused what the device needs to run: a thread, an eventfd, a ring.
    #[error("cannot start the device: {0}")]
    Host(#[from] std::io::Error),
}
