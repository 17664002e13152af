//! One virtqueue, as the device sees it.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use super::DeviceError;

/// A queue in service.
pub(super) struct Ring {
    number: u16,
    queue: Queue,
    /// A chain was returned since the driver's wish for an interrupt was last looked at.
    returned: bool,
}

impl Ring {
    pub fn new(number: u16, queue: Queue) -> Self {
        Ring {
            number,
            queue,
            returned: false,
        }
    }

    /// Which queue it is.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The largest number of chains that can be available at once.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Whether chains are available. Reads one word of the guest's memory.
    pub fn has_chains<M: GuestMemory>(&self, memory: &M) -> Result<bool, DeviceError> {
        self.queue
            .avail_idx(memory, Ordering::Acquire)
            .map(|index| index.0 != self.queue.next_avail())
            .map_err(|source| self.broken(source))
    }

    /// Takes the next available chain.
    pub fn pop<'a, M: GuestMemory>(
        &mut self,
        memory: &'a M,
    ) -> Result<Option<DescriptorChain<&'a M>>, DeviceError> {
        let chain = self
            .queue
            .iter(memory)
            .map(|mut available| available.next());
        chain.map_err(|source| self.broken(source))
    }

    /// Returns a chain with `written` bytes written to it.
    pub fn push<M: GuestMemory>(
        &mut self,
        memory: &M,
        head: u16,
        written: u32,
    ) -> Result<(), DeviceError> {
        self.returned = true;
        self.queue
            .add_used(memory, head, written)
            .map_err(|source| self.broken(source))
    }

    /// Tells the driver that it need not ring the doorbell.
    pub fn disable_doorbell<M: GuestMemory>(&mut self, memory: &M) -> Result<(), DeviceError> {
        self.queue
            .disable_notification(memory)
            .map_err(|source| self.broken(source))
    }

    /// Asks the driver to ring the doorbell for the next chain; returns whether there already are
    /// chains, for which it may not.
    pub fn enable_doorbell<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, DeviceError> {
        self.queue
            .enable_notification(memory)
            .map_err(|source| self.broken(source))
    }

    /// Whether the driver wants an interrupt for the chains returned since the last call.
    pub fn wants_interrupt<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, DeviceError> {
        if !std::mem::take(&mut self.returned) {
            return Ok(false);
        }
        let wanted = if self.queue.event_idx_enabled() {
            self.queue.needs_notification(memory)
        } else {
            // The used index must be visible before the flag is read: a driver that clears it
            // looks at the index afterwards.
            fence(Ordering::SeqCst);
            memory
                .load::<u16>(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed)
                .map(|flags| u16::from_le(flags) & VRING_AVAIL_F_NO_INTERRUPT as u16 == 0)
                .map_err(Error::GuestMemory)
        };
        wanted.map_err(|source| self.broken(source))
    }

    fn broken(&self, source: Error) -> DeviceError {
        DeviceError {
            queue: self.number,
            source,
        }
    }
}
