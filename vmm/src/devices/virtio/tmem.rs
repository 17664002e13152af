//! virtio-tmem: `tmem-device` on this VMM's threads and doorbells.
//!
//! Puts come by ioeventfd to a worker of the device, which looks for more by itself while they stream. A get's doorbell is
//! an exit, and is served on the vCPU's own thread before the guest resumes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use event_manager::{
    EventManager, EventOps, Events, MutEventSubscriber, SubscriberId, SubscriberOps,
};
use tmem_device::device::{
    Admission, DeviceConfig, DeviceError, NewDeviceError, Recorder, Signal, TmemDevice, TmemStats,
};
use tmem_device::pool::{Guest, HostPool};
use tmem_device::tier::disk::DiskConfig;
use tmem_device::wire;
use virtio_bindings::virtio_config::{VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::Queue;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::polling::Polling;
use super::reins::{Order, Reins};
use super::worker::WorkerThread;
use super::{ActivateError, Activation, Interrupt, Memory, VirtioDevice};
use crate::confine::Thread;

type Device = TmemDevice<Memory>;

/// What a virtio-tmem device is made of: `--tmem`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TmemConfig {
    /// Host memory that the pool may use, in bytes.
    pub size: u64,
    /// The size that a governor may bring the pool down to when the host runs short, in bytes. Without, its size is fixed.
    pub minimum: Option<u64>,
    /// For how long the worker looks for more puts before it sleeps, at most. Without: 50 µs, or 0 where this
    /// process has a single CPU.
    pub poll: Option<Duration>,
    /// Where the pool puts what it has no room for. Without, it refuses that, or drops it.
    pub spill: Option<SpillConfig>,
    /// What the device shows its driver.
    pub device: DeviceConfig,
    /// Where what the guest asks of the pool is recorded.
    pub record: Option<PathBuf>,
    /// For tests: the driver is to reach memory by the guest's DMA interface (VIRTIO_F_ACCESS_PLATFORM), as where a guest's memory is
    /// encrypted and what the device may see is copied.
    pub access_platform: bool,
}

/// What a pool spills to, and what it spills: `spill=` and so on of `--tmem`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillConfig {
    /// The file or block device.
    pub disk: DiskConfig,
    /// Bytes of swapped pages that may be in memory alone; without, half of the pool's size.
    pub dirty: Option<u64>,
    /// Whether page cache is spilled too.
    pub ephemeral: bool,
}

/// Why a virtio-tmem device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NewTmemError {
    /// The pool takes no other guest.
    #[error(transparent)]
    Device(#[from] NewDeviceError),
    /// The host refused a thread.
    #[error("the host refuses a thread for virtio-tmem: {0}")]
    Thread(#[from] io::Error),
    /// The recording.
    #[error("cannot create the recording {}: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A virtio-tmem device.
pub struct Tmem {
    device: Arc<Device>,
    polling: Polling,
    queue_sizes: [u16; wire::NR_QUEUES],
    access_platform: bool,
    /// What there is while the device is active; vCPUs read it in every get's exit.
    active: RwLock<Option<Active>>,
    worker: Mutex<Worker>,
}

/// Of an active device.
struct Active {
    /// The way to the driver.
    interrupt: Arc<dyn Interrupt>,
    /// The way to the worker.
    reins: Arc<Reins>,
}

/// The thread that serves the put queue and offers of event buffers.
struct Worker {
    thread: WorkerThread<()>,
    /// The way to lead it, while it serves.
    reins: Option<Arc<Reins>>,
    /// Ends what it does while it does not: it drops what a reset has left.
    rest: Option<Arc<AtomicBool>>,
}

impl Worker {
    /// Has the thread drop what a reset has left, until it is to serve again.
    fn begin_rest(&mut self, device: Arc<Device>) {
        let end = Arc::new(AtomicBool::new(false));
        self.rest = Some(end.clone());
        self.thread
            .run(move || while !end.load(Ordering::Relaxed) && !device.drop_leftovers() {});
    }

    /// The thread is free after this.
    fn end_rest(&mut self) {
        if let Some(end) = self.rest.take() {
            end.store(true, Ordering::Relaxed);
            if self.thread.wait().is_none() {
                tracing::error!("the virtio-tmem worker panicked");
            }
        }
    }
}

impl Tmem {
    /// A device for a new guest of `pool`, whose size is not looked at again.
    pub fn new(pool: Arc<HostPool>, config: &TmemConfig) -> Result<Self, NewTmemError> {
        let mut device = TmemDevice::new(pool, config.device)?;
        if let Some(path) = &config.record {
            let file = File::create(path).map_err(|source| NewTmemError::Record {
                path: path.clone(),
                source,
            })?;
            device.record(Recorder::new(file));
        }
        Ok(Tmem {
            device: Arc::new(device),
            polling: Polling::new(config.poll),
            queue_sizes: Device::queue_sizes(),
            access_platform: config.access_platform,
            active: RwLock::new(None),
            worker: Mutex::new(Worker {
                thread: WorkerThread::start(
                    "virtio-tmem".to_owned(),
                    Thread::Tmem {
                        spills: config.spill.is_some(),
                    },
                )?,
                reins: None,
                rest: None,
            }),
        })
    }

    fn worker(&self) -> MutexGuard<'_, Worker> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest of the pool.
    pub fn guest(&self) -> &Guest {
        self.device.guest()
    }

    /// Has the driver put other pages from now on, if it leaves that to the host.
    pub fn set_admission(&self, admission: Admission) {
        self.device.set_admission(admission);
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(active) = active.as_ref() {
            active.interrupt.config_changed();
        }
    }

    /// The device's figures and its pool's.
    pub fn stats(&self) -> TmemStats {
        self.device.stats()
    }
}

impl VirtioDevice for Tmem {
    fn device_type(&self) -> u32 {
        wire::DEVICE_ID
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn device_features(&self) -> u64 {
        self.device.device_features()
            | 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | u64::from(self.access_platform) << VIRTIO_F_ACCESS_PLATFORM
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.device.read_config(offset, data);
    }

    fn write_config(&self, offset: u64, data: &[u8]) {
        self.device.write_config(offset, data);
    }

    fn activate(&self, activation: Activation) -> Result<(), ActivateError> {
        let Activation {
            memory,
            queues,
            mut doorbells,
            interrupt,
            features,
        } = activation;
        let queues: [Queue; wire::NR_QUEUES] = queues
            .try_into()
            .map_err(|queues: Vec<_>| ActivateError::QueueNotReady(queues.len()))?;
        self.device.ack_features(features);
        self.device.activate(memory, queues).map_err(|error| {
            let tmem_device::device::ActivateError::InvalidQueue(queue) = error;
            ActivateError::QueueNotReady(queue)
        })?;
        let reins = Arc::new(Reins::new()?);
        let service = Service {
            device: self.device.clone(),
            interrupt: interrupt.clone(),
            event: doorbells.swap_remove(usize::from(wire::QUEUE_EVENT)),
            put: doorbells.swap_remove(usize::from(wire::QUEUE_PUT)),
            reins: reins.clone(),
            polling: self.polling,
            awake: false,
            served: Instant::now(),
        };
        let served = match service.manager() {
            Ok((manager, id)) => move || serve(manager, id),
            Err(error) => {
                self.device.reset();
                return Err(error.into());
            }
        };
        let mut worker = self.worker();
        worker.end_rest();
        worker.thread.run(served);
        worker.reins = Some(reins.clone());
        drop(worker);
        *self.active.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Active { interrupt, reins });
        Ok(())
    }

    fn reset(&self) {
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = None;
        let mut worker = self.worker();
        if let Some(reins) = worker.reins.take() {
            reins.end();
            if worker.thread.wait().is_none() {
                tracing::error!("the virtio-tmem worker panicked");
            }
        }
        worker.end_rest();
        // All that a driver can tell is done when this returns; a large pool takes seconds to drop.
        self.device.begin_reset();
        worker.begin_rest(self.device.clone());
    }

    fn pause(&self) {
        let worker = self.worker();
        if let Some(reins) = &worker.reins {
            reins.hold(|| worker.thread.is_idle());
        }
    }

    fn resume(&self) {
        if let Some(reins) = &self.worker().reins {
            reins.release();
        }
    }

    fn exit_queues(&self) -> &[u16] {
        &[wire::QUEUE_GET]
    }

    fn notify_in_exit(&self, queue: u16) {
        // Held over the service: a reset waits for the gets that run.
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Active { interrupt, reins }) = active.as_ref() {
            self.device.note_doorbell(queue);
            let serve = || report(interrupt.as_ref(), self.device.serve_get_queue());
            if (0..CALLS_IN_EXIT).all(|_| serve()) {
                // The driver looks at the ring until its answer is there; and this thread may be told to stop.
                reins.nudge();
            }
        }
    }
}

impl Drop for Tmem {
    fn drop(&mut self) {
        self.reset();
        // The rest goes with the guest.
        self.worker().end_rest();
    }
}

/// Tells the driver what a queue's service came to; returns whether there is more to serve.
fn report(interrupt: &dyn Interrupt, served: Result<Signal, DeviceError>) -> bool {
    match served {
        Ok(signal) => {
            if signal.interrupt {
                interrupt.used_buffer();
            }
            signal.again
        }
        Err(error) => {
            tracing::warn!(%error, "virtio-tmem stopped");
            interrupt.needs_reset();
            false
        }
    }
}

/// What the worker thread waits for and serves.
struct Service {
    device: Arc<Device>,
    interrupt: Arc<dyn Interrupt>,
    put: EventFd,
    event: EventFd,
    reins: Arc<Reins>,
    polling: Polling,
    /// The put queue's doorbell is off, so the queue has to be looked at.
    awake: bool,
    /// When the put queue was last served.
    served: Instant,
}

/// Calls in which a get's exit serves what was asked for. What is left then is the worker's, so that the vCPU can be told to stop.
const CALLS_IN_EXIT: usize = 8;

/// As a timeout of epoll, in ms.
const FOREVER: i32 = -1;

const PUT: u32 = 0;
const EVENT: u32 = 1;
const ORDER: u32 = 2;

/// Serves doorbells until the service is stopped.
fn serve(mut manager: EventManager<Service>, id: SubscriberId) {
    let mut timeout = FOREVER;
    loop {
        if let Err(error) = manager.run_with_timeout(timeout) {
            tracing::error!(?error, "the virtio-tmem worker cannot wait for doorbells");
            return;
        }
        let Ok(service) = manager.subscriber_mut(id) else {
            return;
        };
        match service.reins.order() {
            Order::Run => {}
            Order::Hold => service.reins.hold_here(),
            Order::End => return,
        }
        if service.awake {
            service.look();
        }
        // Between any two polls, and turns at what a reset has left, the other doorbells and the stop have their turn.
        let left = !service.device.drop_leftovers();
        timeout = if service.awake || left { 0 } else { FOREVER };
    }
}

impl Service {
    /// What waits for the doorbells.
    fn manager(self) -> io::Result<(EventManager<Service>, SubscriberId)> {
        let mut manager = EventManager::<Service>::new().map_err(io::Error::other)?;
        let id = manager.add_subscriber(self);
        Ok((manager, id))
    }

    /// The put queue's doorbell rang.
    fn rung(&mut self) {
        let _ = self.put.read();
        self.device.note_doorbell(wire::QUEUE_PUT);
        if !self.awake {
            self.polling.woken(self.served.elapsed());
        }
        if self.polling.is_on() {
            self.awake = true;
            self.serve_polled();
        } else {
            self.serve_and_sleep();
            self.served = Instant::now();
        }
    }

    /// While awake: polls once, and if that was in vain, goes to sleep.
    fn look(&mut self) {
        let found = self.polling.is_on() && {
            let mut polling = self.polling;
            let start = Instant::now();
            let found = polling.poll(|| start.elapsed(), || self.serve_polled());
            self.polling = polling;
            self.device.note_poll(found);
            found
        };
        if !found {
            self.serve_and_sleep();
        }
    }

    /// Serves what there is on the put queue, without asking for its doorbell; returns whether there was something.
    fn serve_polled(&mut self) -> bool {
        let served = self.device.poll_put_queue().transpose();
        let Some(served) = served else {
            return false;
        };
        report(self.interrupt.as_ref(), served);
        self.served = Instant::now();
        true
    }

    /// Serves the put queue and asks for its doorbell, unless the driver is faster than this.
    fn serve_and_sleep(&mut self) {
        self.awake = report(self.interrupt.as_ref(), self.device.serve_put_queue());
    }
}

impl MutEventSubscriber for Service {
    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        match events.data() {
            PUT => self.rung(),
            EVENT => {
                let _ = self.event.read();
                report(self.interrupt.as_ref(), self.device.serve_event_queue());
            }
            // The thread looks for orders after each round of events. Where an exit has left something, it goes on with that; and a
            // machine that was paused may have stood in the middle of it.
            _ => {
                self.reins.seen();
                self.awake = true;
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let sources = [
            (self.put.as_raw_fd(), PUT),
            (self.event.as_raw_fd(), EVENT),
            (self.reins.as_raw_fd(), ORDER),
        ];
        for (fd, data) in sources {
            if let Err(error) = ops.add(Events::with_data_raw(fd, data, EventSet::IN)) {
                tracing::error!(?error, fd, "cannot watch a doorbell");
                self.interrupt.needs_reset();
            }
        }
    }
}

#[cfg(test)]
#[path = "tmem_test.rs"]
mod tests;
