//! The event queue: what the device tells the driver unasked.

use vm_memory::GuestMemory;
use zerocopy::IntoBytes;

use super::DeviceError;
use super::chain::Streams;
use super::ring::Ring;
use super::stats::{Counters, count};
use crate::pool::Guest;
use crate::wire::{EV_CREDIT, Event};

/// Credit sent by event is worth an interrupt only if it is so many pages.
const CREDIT_MIN: u32 = 32;

/// Grants credit to a driver that has none left, and tells it so, when it has offered a buffer.
/// While it has some, it gets more with its next response.
pub(super) fn offer_credit<M: GuestMemory>(
    ring: &mut Ring,
    memory: &M,
    guest: &Guest,
    counters: &Counters,
) -> Result<(), DeviceError> {
    if guest.credit() > 0 {
        return Ok(());
    }
    let worthwhile = CREDIT_MIN.min(guest.host_pool().config().credit).max(1);
    let mut streams = Streams::default();
    for _ in 0..ring.size() {
        // Looked at before a buffer is taken: a buffer can not be given back unused.
        if guest.grantable_credit() < worthwhile {
            return Ok(());
        }
        let Some(mut chain) = ring.pop(memory)? else {
            return Ok(());
        };
        let head = chain.head_index();
        let usable = streams.fill(&mut chain).is_ok()
            && streams.writable_bytes() >= size_of::<Event>() as u64;
        if !usable {
            count(&counters.malformed_chains);
            ring.push(memory, head, 0)?;
            continue;
        }
        let granted = guest.grant_credit();
        let event = Event {
            kind: EV_CREDIT.into(),
            reserved: 0.into(),
            value: u64::from(granted).into(),
        };
        // The range was checked: memory of the guest does not go away under a device.
        let written = match streams.write_at(memory, 0, event.as_bytes()) {
            Ok(()) => size_of::<Event>() as u32,
            Err(_) => 0,
        };
        count(&counters.events);
        return ring.push(memory, head, written);
    }
    Ok(())
}
