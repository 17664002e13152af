//! The virtio-tmem device: serves the driver's queues out of the pool.
//!
//! The VMM owns transport, threads and doorbells, and calls the `serve_*` methods. All of a
//! device's queues are behind one lock, which is what makes the order of operations that
//! `guest-driver/virtio_tmem_wire.h` promises hold: chains of the put queue run one after
//! the other, and a get runs after every put that was available before it.
//!
//! The guest is not trusted. A chain is read once, checked, and only then executed; what is
//! wrong with it costs it its own answer only. A ring that is itself broken ends the service until
//! the driver resets the device. A call does a bounded amount of work, whatever the guest writes
//! to its rings meanwhile.

mod chain;
mod config;
mod event;
mod record;
mod request;
mod ring;
mod stats;

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddressSpace;
use zerocopy::IntoBytes;

pub use config::{Admission, DeviceConfig, EventFault};
pub use record::{RECORD_LIMIT, Record, Recorder};
pub use stats::TmemStats;

use crate::pool::{Guest, HostPool, work_done};
use crate::wire;
use chain::Malformed;
use event::EventSender;
use request::{Executor, Negotiated};
use ring::Ring;
use stats::{Counters, count};

/// Operations that a chain may carry.
pub const MAX_OPS: u32 = 128;

/// The largest size of each queue, in descriptors.
const QUEUE_SIZES: [u16; wire::NR_QUEUES] = [256, 256, 64];

const FEATURES: u64 = 1 << wire::F_EPHEMERAL
    | 1 << wire::F_PERSISTENT
    | 1 << wire::F_FLUSH_RANGE
    | 1 << wire::F_EVENTS
    | 1 << wire::F_EVICTIONS
    | 1 << wire::F_ADMISSION
    | 1 << wire::F_DRIVER_MEMORY;

/// VIRTIO_F_RING_EVENT_IDX, virtio 1.2, chapter 6.
const F_RING_EVENT_IDX: u32 = 29;

/// Rounds over a ring in one call, for a driver that adds chains as fast as they are served.
const MAX_ROUNDS: usize = 8;

/// Units of work that a call does, and what was begun then: a few milliseconds, whatever the guest asks for. What is left is for the
/// next call.
pub const CALL_WORK: u64 = 4 << 10;

/// Why the device's lock is never poisoned.
const NO_PANIC: &str = "no thread panics while it serves the device";

/// What the VMM has to do after a queue was served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signal {
    /// The driver wants an interrupt now.
    pub interrupt: bool,
    /// The call stopped, to bound its work, while chains were still available and their
    /// doorbells suppressed, or a chain was not done: call [`TmemDevice::serve_put_queue`] without waiting for a doorbell.
    pub again: bool,
}

/// The rings are broken, the device has stopped; the VMM must set DEVICE_NEEDS_RESET.
#[derive(Debug, thiserror::Error)]
#[error("the driver broke queue {queue}: {source}; the device serves nothing until it is reset")]
pub struct DeviceError {
    queue: u16,
    source: virtio_queue::Error,
}

/// Why a device could not start.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// A queue is not ready, or lies outside the guest's memory.
    #[error("queue {0} is not ready or not in guest memory; the driver must set it up first")]
    InvalidQueue(usize),
}

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NewDeviceError {
    /// The pool has had as many guests as it can tell apart.
    #[error("the pool cannot take another guest; restart the process that holds it")]
    TooManyGuests,
}

struct Active<M> {
    memory: M,
    put: Ring,
    get: Ring,
    event: Option<EventSender>,
    executor: Executor,
    negotiated: Negotiated,
    /// The get queue's doorbell rang, and what it rang for may not be served.
    get_rang: bool,
}

impl<M> Active<M> {
    /// Whether a call has left something.
    fn owes(&self) -> bool {
        self.get_rang || self.executor.serving().is_some()
    }
}

/// A virtio-tmem device; all its methods may be called from any thread.
pub struct TmemDevice<M> {
    guest: Guest,
    event_fault: EventFault,
    /// As in config space.
    admission: AtomicU32,
    counters: Counters,
    features: AtomicU64,
    /// Credit promised in config space, in pages.
    first_credit: AtomicU64,
    /// As the driver wrote it to config space; a claim, and used as nothing else.
    driver_memory: Mutex<[u8; 8]>,
    /// Locked while `active` is, if at all.
    recorder: Option<Mutex<Recorder>>,
    active: Mutex<Option<Active<M>>>,
}

impl<M: GuestAddressSpace + Clone + Send + 'static> TmemDevice<M> {
    /// Makes a device for a new guest of `pool`. When the device is dropped, the guest's pages are.
    pub fn new(pool: Arc<HostPool>, config: DeviceConfig) -> Result<Self, NewDeviceError> {
        let guest = pool.register().ok_or(NewDeviceError::TooManyGuests)?;
        let first_credit = guest.grant_credit();
        Ok(TmemDevice {
            guest,
            event_fault: config.event_fault,
            admission: AtomicU32::new(config.admission.number()),
            counters: Counters::default(),
            features: AtomicU64::new(0),
            first_credit: AtomicU64::new(first_credit.into()),
            driver_memory: Mutex::default(),
            recorder: None,
            active: Mutex::new(None),
        })
    }

    /// Records what is asked of the put and the get queue, from now on.
    pub fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(Mutex::new(recorder));
    }

    /// The guest of the pool that the device serves.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Shows drivers another admission from now on; the VMM tells them that config space has changed.
    pub fn set_admission(&self, admission: Admission) {
        self.admission.store(admission.number(), Ordering::Release);
    }

    /// The feature bits of the device type; those of the transport and the rings are the VMM's.
    pub fn device_features(&self) -> u64 {
        FEATURES
    }

    /// Takes the bits that the driver accepted. With VIRTIO_F_RING_EVENT_IDX among them,
    /// [`TmemDevice::activate`] sets the queues so.
    pub fn ack_features(&self, features: u64) {
        self.features.store(features, Ordering::Release);
    }

    /// Reads the configuration space from `offset`; beyond its end there are zeros.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        let config = wire::Config {
            version: wire::VERSION.into(),
            max_ops: MAX_OPS.into(),
            credit: self.first_credit.load(Ordering::Acquire).into(),
            admission: self.admission.load(Ordering::Acquire).into(),
            reserved: 0.into(),
            driver_memory: self.driver_memory().into(),
        };
        let tail = usize::try_from(offset)
            .ok()
            .and_then(|offset| config.as_bytes().get(offset..));
        let tail = tail.unwrap_or(&[]);
        let length = tail.len().min(data.len());
        data[..length].copy_from_slice(&tail[..length]);
        data[length..].fill(0);
    }

    /// Writes to the configuration space at `offset`: what falls on [`wire::Config::driver_memory`] is taken, if the driver
    /// accepted [`wire::F_DRIVER_MEMORY`], and the rest ignored.
    pub fn write_config(&self, offset: u64, data: &[u8]) {
        if self.features.load(Ordering::Acquire) & 1 << wire::F_DRIVER_MEMORY == 0 {
            return;
        }
        let mut field = self.driver_memory.lock().expect(NO_PANIC);
        let start = offset_of!(wire::Config, driver_memory) as u64;
        for (place, position) in field.iter_mut().zip(start..) {
            let byte = position
                .checked_sub(offset)
                .and_then(|place| data.get(usize::try_from(place).ok()?));
            if let Some(byte) = byte {
                *place = *byte;
            }
        }
    }

    fn driver_memory(&self) -> u64 {
        u64::from_le_bytes(*self.driver_memory.lock().expect(NO_PANIC))
    }

    /// The largest size of each queue, in descriptors.
    pub fn queue_sizes() -> [u16; wire::NR_QUEUES] {
        QUEUE_SIZES
    }

    /// Starts service on queues that the driver has set up.
    pub fn activate(
        &self,
        mem: M,
        mut queues: [Queue; wire::NR_QUEUES],
    ) -> Result<(), ActivateError> {
        let features = self.features.load(Ordering::Acquire);
        let has = |bit: u32| features & 1 << bit != 0;
        let negotiated = Negotiated {
            ephemeral: has(wire::F_EPHEMERAL),
            persistent: has(wire::F_PERSISTENT),
            flush_range: has(wire::F_FLUSH_RANGE),
        };
        let events = has(wire::F_EVENTS);
        {
            let memory = mem.memory();
            for (number, queue) in queues.iter_mut().enumerate() {
                let used = events || number != usize::from(wire::QUEUE_EVENT);
                if used && !queue.is_valid(&*memory) {
                    return Err(ActivateError::InvalidQueue(number));
                }
                if has(F_RING_EVENT_IDX) {
                    queue.set_event_idx(true);
                }
            }
        }
        if !negotiated.persistent {
            self.guest.revoke_credit();
        }
        self.guest.note_evictions(events && has(wire::F_EVICTIONS));
        let [put, get, event] = queues;
        *self.lock() = Some(Active {
            memory: mem,
            put: Ring::new(wire::QUEUE_PUT, put),
            get: Ring::new(wire::QUEUE_GET, get),
            event: events.then(|| {
                let ring = Ring::new(wire::QUEUE_EVENT, event);
                EventSender::new(ring, self.event_fault)
            }),
            executor: Executor::new(negotiated),
            negotiated,
            get_rang: false,
        });
        Ok(())
    }

    /// Counts a doorbell of the queue; the VMM calls it as a notification arrives.
    pub fn note_doorbell(&self, queue: u16) {
        match queue {
            wire::QUEUE_PUT => count(&self.counters.put_doorbells),
            wire::QUEUE_GET => count(&self.counters.get_doorbells),
            _ => {}
        }
    }

    /// Counts a poll: a while during which the VMM called [`TmemDevice::poll_put_queue`] again and again;
    /// `found` when that served chains.
    pub fn note_poll(&self, found: bool) {
        count(&self.counters.polls);
        if !found {
            count(&self.counters.polls_in_vain);
        }
    }

    /// Serves the put queue if it has chains, and what other calls have left, and leaves its doorbell off: the driver need not ring for
    /// those that follow, so whoever calls this calls it again, or [`TmemDevice::serve_put_queue`] before
    /// waiting for the doorbell. `None` when there was nothing to serve, or another thread is at it. When there
    /// is nothing, the device is locked for as long as one load takes; it is never waited for.
    pub fn poll_put_queue(&self) -> Result<Option<Signal>, DeviceError> {
        let mut slot = match self.active.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Poisoned(_)) => panic!("{NO_PANIC}"),
        };
        let Some(active) = slot.as_ref() else {
            return Ok(None);
        };
        // A broken ring is served: that says what is wrong with it, and ends the service.
        if !active.owes()
            && !active
                .put
                .has_chains(&*active.memory.memory())
                .unwrap_or(true)
        {
            return Ok(None);
        }
        self.serve_locked(&mut slot, |active, memory| {
            active.put.disable_doorbell(memory)?;
            self.work(active, memory, work_done() + CALL_WORK)
        })
        .map(Some)
    }

    /// Serves the put queue, and what a call of [`TmemDevice::serve_get_queue`] has left, and has the driver ring for what comes
    /// next; for a worker thread, after the doorbell, and for as long as a call says `again`.
    pub fn serve_put_queue(&self) -> Result<Signal, DeviceError> {
        self.serve(|active, memory| {
            let until = work_done() + CALL_WORK;
            for _ in 0..MAX_ROUNDS {
                active.put.disable_doorbell(memory)?;
                if self.work(active, memory, until)? {
                    return Ok(true);
                }
                if !active.put.enable_doorbell(memory)? {
                    return Ok(false);
                }
            }
            active.put.disable_doorbell(memory)?;
            Ok(true)
        })
    }

    /// Executes what is available on the put queue, then serves the get queue; for a vCPU's thread,
    /// inside the doorbell's exit. If it says `again`, that was not all, and the worker is to go on.
    pub fn serve_get_queue(&self) -> Result<Signal, DeviceError> {
        self.serve(|active, memory| {
            let until = work_done() + CALL_WORK;
            // The put queue's doorbell is left as it is: whoever enabled it is told of the next
            // chain, and finds that those served here are gone.
            for _ in 0..MAX_ROUNDS {
                active.get_rang = true;
                if self.work(active, memory, until)? {
                    return Ok(true);
                }
                // This queue's doorbell is never suppressed.
                if !active.get.enable_doorbell(memory)? {
                    break;
                }
            }
            Ok(false)
        })
    }

    /// Sends the events that wait for a buffer; for when the driver offers buffers. Credit for a
    /// driver that ran dry is sent by every `serve_*` call; this one may be made at any time, and is
    /// the one to make when pages of *other* guests of the pool were freed.
    pub fn serve_event_queue(&self) -> Result<Signal, DeviceError> {
        self.serve(|active, memory| {
            if let Some(events) = &mut active.event {
                events.ring().enable_doorbell(memory)?;
            }
            Ok(false)
        })
    }

    /// Stops service, drops all pools of the guest and takes back its credit: no key that was put
    /// before can be got after.
    pub fn reset(&self) {
        self.begin_reset();
        while !self.drop_leftovers() {}
    }

    /// The same, as far as a driver can tell; the pages go as [`TmemDevice::drop_leftovers`] is called, from any thread. What they
    /// take is not promised as credit before.
    pub fn begin_reset(&self) {
        let mut active = self.lock();
        *active = None;
        self.features.store(0, Ordering::Release);
        *self.driver_memory.lock().expect(NO_PANIC) = [0; 8];
        self.guest.begin_reset();
        self.first_credit
            .store(self.guest.grant_credit().into(), Ordering::Release);
    }

    /// Takes a turn at dropping what resets have left; whether nothing is left.
    pub fn drop_leftovers(&self) -> bool {
        self.guest.drop_leftovers()
    }

    /// The figures of this device, and of the pool behind it.
    pub fn stats(&self) -> TmemStats {
        let pool = self.guest.host_pool().stats();
        TmemStats {
            evictions_forgotten: self.guest.evictions_forgotten(),
            driver_memory_bytes: self.driver_memory(),
            ..self.counters.with_pool(pool)
        }
    }

    /// Runs `f` on the queues, if the device is active; `f` says whether to call it again. An error
    /// ends the service.
    fn serve(
        &self,
        f: impl FnOnce(&mut Active<M>, &M::M) -> Result<bool, DeviceError>,
    ) -> Result<Signal, DeviceError> {
        self.serve_locked(&mut self.lock(), f)
    }

    fn serve_locked(
        &self,
        slot: &mut Option<Active<M>>,
        f: impl FnOnce(&mut Active<M>, &M::M) -> Result<bool, DeviceError>,
    ) -> Result<Signal, DeviceError> {
        let Some(active) = slot.as_mut() else {
            return Ok(Signal::default());
        };
        let memory = active.memory.memory();
        let result = f(active, &memory).and_then(|again| {
            let mut interrupt = active.put.wants_interrupt(&*memory)?;
            interrupt |= active.get.wants_interrupt(&*memory)?;
            if let Some(events) = &mut active.event {
                if active.negotiated.persistent {
                    events.offer_credit(&*memory, &self.guest, &self.counters)?;
                }
                events.report_evictions(&*memory, &self.guest, &self.counters)?;
                interrupt |= events.ring().wants_interrupt(&*memory)?;
            }
            Ok(Signal { interrupt, again })
        });
        if result.is_err() {
            *slot = None;
        }
        result
    }

    /// Serves the chain that was begun, then the put queue, then the get queue if it rang, until the thread has done so much work. Whether
    /// there may be more.
    fn work(&self, active: &mut Active<M>, memory: &M::M, until: u64) -> Result<bool, DeviceError> {
        let Active {
            put, get, executor, ..
        } = active;
        if let Some((number, _)) = executor.serving() {
            let ring = if number == wire::QUEUE_PUT {
                &mut *put
            } else {
                &mut *get
            };
            if self.go_on(ring, executor, memory, until)? {
                return Ok(true);
            }
        }
        if self.drain(put, executor, memory, until)?
            || active.get_rang && self.drain(get, executor, memory, until)?
        {
            return Ok(true);
        }
        active.get_rang = false;
        Ok(false)
    }

    /// Serves at most as many chains as a ring can hold, until the thread has done so much work. Whether there may be more.
    fn drain(
        &self,
        ring: &mut Ring,
        executor: &mut Executor,
        memory: &M::M,
        until: u64,
    ) -> Result<bool, DeviceError> {
        for _ in 0..ring.size() {
            if work_done() >= until {
                return Ok(true);
            }
            let Some(chain) = ring.pop(memory)? else {
                break;
            };
            let head = chain.head_index();
            count(&self.counters.chains);
            if executor.begin(chain, ring.number()).is_err() {
                count(&self.counters.malformed_chains);
                ring.push(memory, head, 0)?;
            } else if self.go_on(ring, executor, memory, until)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Serves the chain that was begun, which is of this ring, and returns it when it is done; whether it is not.
    fn go_on(
        &self,
        ring: &mut Ring,
        executor: &mut Executor,
        memory: &M::M,
        until: u64,
    ) -> Result<bool, DeviceError> {
        let Some((_, head)) = executor.serving() else {
            return Ok(false);
        };
        let written = match executor.go_on(memory, &self.guest, &self.counters, until) {
            Ok(None) => return Ok(true),
            Ok(Some(written)) => {
                if let Some(recorder) = &self.recorder {
                    let (ops, results) = executor.served();
                    recorder.lock().expect(NO_PANIC).note(ops, results);
                }
                written
            }
            Err(Malformed) => {
                count(&self.counters.malformed_chains);
                0
            }
        };
        executor.end();
        ring.push(memory, head, written)?;
        Ok(false)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Active<M>>> {
        self.active.lock().expect(NO_PANIC)
    }
}
