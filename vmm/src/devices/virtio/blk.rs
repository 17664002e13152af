//! virtio-blk: a disk of the guest's (virtio 1.2, chapter 5.2).
//!
//! One queue, served by one thread per disk ([`worker`]), which keeps many requests in flight.
//! The guest's data moves between disk and guest memory in place; only buffers that direct I/O
//! cannot address are copied.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_queue::QueueT;
use vm_memory::GuestAddressSpace;

use super::reins::Reins;
use super::worker::WorkerThread;
use super::{ActivateError, Activation, VirtioDevice};
use crate::confine::Thread;
use crate::disk::engine::{self, Engine};
use crate::disk::plain::PlainEngine;
use crate::disk::{Disk, DiskError, DiskOptions, HostCounters, SECTOR};
use request::{Kind, Request};
use worker::{Setup, Worker};

#[path = "blk_request.rs"]
mod request;
#[path = "blk_worker.rs"]
mod worker;

/// Descriptors in the queue.
const QUEUE_SIZE: u16 = 256;

/// Most data descriptors in a request: the queue's, less header and status.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;

/// Bytes of `struct virtio_blk_config` up to and including `blk_size`; the rest belongs to
/// features that are not offered, and reads as zero.
const CONFIG_SIZE: usize = 24;

/// What the guest had done on a disk since it was opened, and what that cost the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskCounters {
    /// The disk's name in the guest, such as `vda`.
    pub id: String,
    /// Bytes that completed reads asked for.
    pub read_bytes: u64,
    /// Bytes that completed writes asked for.
    pub write_bytes: u64,
    /// Completed reads.
    pub read_ops: u64,
    /// Completed writes.
    pub write_ops: u64,
    /// Completed flushes.
    pub flush_ops: u64,
    /// What the host's own block layer saw; `None` where the host does not say.
    pub host: Option<HostCounters>,
}

#[derive(Default)]
struct Counters {
    read_bytes: AtomicU64,
    write_bytes: AtomicU64,
    read_ops: AtomicU64,
    write_ops: AtomicU64,
    flush_ops: AtomicU64,
}

impl Counters {
    fn count(&self, request: &Request) {
        let (ops, bytes) = match request.kind {
            Kind::In { .. } => (&self.read_ops, Some(&self.read_bytes)),
            Kind::Out { .. } => (&self.write_ops, Some(&self.write_bytes)),
            Kind::Flush => (&self.flush_ops, None),
            Kind::GetId => return,
        };
        ops.fetch_add(1, Ordering::Relaxed);
        if let Some(bytes) = bytes {
            bytes.fetch_add(request.length, Ordering::Relaxed);
        }
    }
}

/// A virtio-blk device.
pub struct Blk {
    id: String,
    disk: Arc<Disk>,
    counters: Arc<Counters>,
    state: Mutex<State>,
}

struct State {
    thread: WorkerThread<Box<dyn Engine>>,
    /// The way to the disk, while no worker has it.
    engine: Option<Box<dyn Engine>>,
    /// The way to lead the worker, while there is one.
    running: Option<Arc<Reins>>,
}

impl Blk {
    /// Opens and locks the disk. `id` is what the guest reads as the disk's serial number, at most
    /// 20 bytes of it.
    pub fn open(id: &str, options: &DiskOptions) -> Result<Blk, DiskError> {
        let disk = Arc::new(Disk::open(options)?);
        let engine = engine::choose(&disk, id);
        Blk::with_engine(id, disk, engine).map_err(|source| DiskError::Thread {
            path: options.path.clone(),
            source,
        })
    }

    fn with_engine(id: &str, disk: Arc<Disk>, engine: Box<dyn Engine>) -> io::Result<Blk> {
        Ok(Blk {
            id: id.to_owned(),
            disk,
            counters: Arc::default(),
            state: Mutex::new(State {
                thread: WorkerThread::start(format!("blk-{id}"), Thread::Disk)?,
                engine: Some(engine),
                running: None,
            }),
        })
    }

    /// What was done on the disk so far. A request that the guest knows to be complete is counted.
    pub fn counters(&self) -> DiskCounters {
        let counters = &self.counters;
        DiskCounters {
            id: self.id.clone(),
            read_bytes: counters.read_bytes.load(Ordering::Relaxed),
            write_bytes: counters.write_bytes.load(Ordering::Relaxed),
            read_ops: counters.read_ops.load(Ordering::Relaxed),
            write_ops: counters.write_ops.load(Ordering::Relaxed),
            flush_ops: counters.flush_ops.load(Ordering::Relaxed),
            host: self.disk.host_counters(),
        }
    }

    fn config(&self) -> [u8; CONFIG_SIZE] {
        let mut config = [0; CONFIG_SIZE];
        config[0..8].copy_from_slice(&(self.disk.size() / SECTOR).to_le_bytes());
        config[12..16].copy_from_slice(&SEG_MAX.to_le_bytes());
        config[20..24].copy_from_slice(&self.disk.block_size().to_le_bytes());
        config
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every state is a valid one: an engine that was lost with its worker is replaced.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VirtioDevice for Blk {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn device_features(&self) -> u64 {
        let mut features = 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE;
        if self.disk.readonly() {
            features |= 1 << VIRTIO_BLK_F_RO;
        }
        // A driver that is not offered FLUSH knows that there is no write cache.
        if self.disk.cache().has_write_cache() {
            features |= 1 << VIRTIO_BLK_F_FLUSH;
        }
        features
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let config = self.config();
        let from = usize::try_from(offset).map_or(CONFIG_SIZE, |offset| offset.min(CONFIG_SIZE));
        for (to, byte) in data.iter_mut().zip(&config[from..]) {
            *to = *byte;
        }
    }

    fn activate(&self, activation: Activation) -> Result<(), ActivateError> {
        self.reset();
        let Activation {
            memory,
            mut queues,
            mut doorbells,
            interrupt,
            features,
        } = activation;
        let (Some(mut queue), Some(doorbell)) = (queues.pop(), doorbells.pop()) else {
            return Err(ActivateError::QueueNotReady(0));
        };
        if !queue.is_valid(&*memory.memory()) {
            return Err(ActivateError::QueueNotReady(0));
        }
        queue.set_event_idx(features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0);

        let mut state = self.state();
        // A vCPU's thread cannot set up a ring in place of one that was lost.
        let engine = state
            .engine
            .take()
            .unwrap_or_else(|| Box::new(PlainEngine::new(Arc::clone(&self.disk))));
        let reins = Arc::new(Reins::new()?);
        let setup = Setup {
            id: self.id.clone(),
            disk: Arc::clone(&self.disk),
            counters: Arc::clone(&self.counters),
            queue,
            memory,
            doorbell,
            interrupt,
            reins: Arc::clone(&reins),
            // With cache=writethrough the file itself was opened so (O_DSYNC).
            durable_writes: self.disk.cache().has_write_cache()
                && features & (1 << VIRTIO_BLK_F_FLUSH) == 0,
        };
        let worker = Worker::new(setup, engine)?;
        state.thread.run(|| worker.run());
        state.running = Some(reins);
        Ok(())
    }

    fn reset(&self) {
        let mut state = self.state();
        if let Some(reins) = state.running.take() {
            reins.end();
            state.engine = state.thread.wait();
            if state.engine.is_none() {
                tracing::error!("disk {}: its worker panicked", self.id);
            }
        }
    }

    fn pause(&self) {
        let state = self.state();
        if let Some(reins) = &state.running {
            reins.hold(|| state.thread.is_idle());
        }
    }

    fn resume(&self) {
        if let Some(reins) = &self.state().running {
            reins.release();
        }
    }
}

impl Drop for Blk {
    fn drop(&mut self) {
        self.reset();
    }
}

#[cfg(test)]
#[path = "blk_test.rs"]
mod tests;
