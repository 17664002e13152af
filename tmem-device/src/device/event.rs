//! The event queue: what the device tells the driver unasked.

use vm_memory::GuestMemory;
use zerocopy::IntoBytes;

use super::DeviceError;
use super::chain::Streams;
use super::config::EventFault;
use super::ring::Ring;
use super::stats::{Counters, count};
use crate::pool::{Evicted, Guest};
use crate::wire::{self, EV_CREDIT, EV_EVICTED, Event};

/// Credit sent by event is worth an interrupt only if it is so many pages.
const CREDIT_MIN: u32 = 32;

/// Evictions are worth an interrupt only if there are so many records: the driver's buffers of one page hold
/// 102. Those that wait meanwhile cost the driver at most a useless get each.
const EVICTED_MIN: usize = 96;

/// Records in one event at most, whatever the size of its buffer.
const EVICTED_MAX: usize = 1024;

/// Sends events into the buffers that the driver has offered.
pub(super) struct EventSender {
    ring: Ring,
    /// Of the pages that were evicted last, so many are not reported yet; `None`: none ever is.
    held_back: Option<u64>,
    streams: Streams,
    evicted: Vec<Evicted>,
    records: Vec<wire::Evicted>,
}

impl EventSender {
    pub fn new(ring: Ring, fault: EventFault) -> Self {
        EventSender {
            ring,
            held_back: fault.held_back(),
            streams: Streams::default(),
            evicted: Vec::new(),
            records: Vec::new(),
        }
    }

    pub fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// Grants credit to a driver that has none left, and tells it so, when it has offered a buffer.
    /// While it has some, it gets more with its next response.
    pub fn offer_credit<M: GuestMemory>(
        &mut self,
        memory: &M,
        guest: &Guest,
        counters: &Counters,
    ) -> Result<(), DeviceError> {
        if guest.credit() > 0 {
            return Ok(());
        }
        let worthwhile = CREDIT_MIN.min(guest.host_pool().config().credit).max(1);
        // Looked at before a buffer is taken: a buffer can not be given back unused.
        if guest.grantable_credit() < worthwhile {
            return Ok(());
        }
        let Some((head, _)) = self.take_buffer(memory, 0, counters)? else {
            return Ok(());
        };
        let event = Event {
            kind: EV_CREDIT.into(),
            count: 0.into(),
            value: u64::from(guest.grant_credit()).into(),
        };
        self.send(memory, head, event, counters)
    }

    /// Reports evictions, as long as they fill the buffers that the driver has offered.
    pub fn report_evictions<M: GuestMemory>(
        &mut self,
        memory: &M,
        guest: &Guest,
        counters: &Counters,
    ) -> Result<(), DeviceError> {
        let Some(held_back) = self.held_back else {
            return Ok(());
        };
        for _ in 0..self.ring.size() {
            let due = guest.evictions_waiting(held_back);
            if due < EVICTED_MIN {
                return Ok(());
            }
            let Some((head, room)) = self.take_buffer(memory, 1, counters)? else {
                return Ok(());
            };
            self.evicted.clear();
            guest.take_evictions(due.min(room).min(EVICTED_MAX), &mut self.evicted);
            self.records.clear();
            self.records.extend(self.evicted.iter().map(record));
            let event = Event {
                kind: EV_EVICTED.into(),
                count: (self.records.len() as u32).into(),
                value: 0.into(),
            };
            self.send(memory, head, event, counters)?;
            self.records.clear();
        }
        Ok(())
    }

    /// The next buffer with room for an event and at least so many records, and for how many. Useless ones are
    /// returned.
    fn take_buffer<M: GuestMemory>(
        &mut self,
        memory: &M,
        least: u64,
        counters: &Counters,
    ) -> Result<Option<(u16, usize)>, DeviceError> {
        for _ in 0..self.ring.size() {
            let Some(mut chain) = self.ring.pop(memory)? else {
                return Ok(None);
            };
            let head = chain.head_index();
            let filled = self.streams.fill(&mut chain).is_ok();
            let room = self.streams.writable_bytes();
            if filled && let Some(rest) = room.checked_sub(size_of::<Event>() as u64) {
                let records = rest / size_of::<wire::Evicted>() as u64;
                if records >= least {
                    return Ok(Some((head, usize::try_from(records).unwrap_or(usize::MAX))));
                }
            }
            count(&counters.malformed_chains);
            self.ring.push(memory, head, 0)?;
        }
        Ok(None)
    }

    /// Writes the event and its records to the buffer that was taken last, and returns that.
    fn send<M: GuestMemory>(
        &mut self,
        memory: &M,
        head: u16,
        event: Event,
        counters: &Counters,
    ) -> Result<(), DeviceError> {
        let records = self.records.as_bytes();
        let written =
            self.streams
                .write_at(memory, 0, event.as_bytes())
                .and_then(|()| match records {
                    [] => Ok(()),
                    records => self
                        .streams
                        .write_at(memory, size_of::<Event>() as u64, records),
                });
        // The range was checked: memory of the guest does not go away under a device.
        let length = match written {
            Ok(()) => (size_of::<Event>() + records.len()) as u32,
            Err(_) => 0,
        };
        count(&counters.events);
        self.ring.push(memory, head, length)
    }
}

fn record(evicted: &Evicted) -> wire::Evicted {
    wire::Evicted {
        pool: evicted.pool.into(),
        count: evicted.count.into(),
        object: evicted.object,
        index: evicted.index.into(),
    }
}
