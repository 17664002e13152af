//! The thread of a virtio-blk device: takes requests off the queue, keeps many of them in flight
//! and answers them.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK,
};
use virtio_queue::{DescriptorChain, Error as QueueError, Queue, QueueOwnedT, QueueT};
use vm_memory::{
    Address, Bytes, GuestAddress, GuestAddressSpace, GuestMemoryError, GuestMemoryMmap, Permissions,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::Counters;
use super::request::{Kind, Rejected, Request};
use crate::devices::virtio::reins::{Order, Reins};
use crate::devices::virtio::{Interrupt, Memory};
use crate::disk::Disk;
use crate::disk::buffers::{BOUNCE_SIZE, BounceBuffer, Buffers, Segment};
use crate::disk::engine::{Completion, Engine, MAX_IN_FLIGHT, Operation, Transfer};

/// How long to wait before the kernel is asked again to take what it had no room for.
const RESUBMIT_MILLISECONDS: i32 = 1;

/// The epoll datum of the doorbell; the other two descriptors only have to wake the thread.
const DOORBELL: u64 = 1;

/// Used length of an answer that is only its status byte.
const STATUS_ONLY: u32 = 1;

/// What a worker is given.
pub(super) struct Setup {
    pub id: String,
    pub disk: Arc<Disk>,
    pub counters: Arc<Counters>,
    pub queue: Queue,
    pub memory: Memory,
    pub doorbell: EventFd,
    pub interrupt: Arc<dyn Interrupt>,
    pub reins: Arc<Reins>,
    /// Whether the driver knows no write cache, so that every write must be durable by itself.
    pub durable_writes: bool,
}

/// A request whose transfer is in flight.
struct InFlight {
    head: u16,
    request: Request,
    memory: Arc<GuestMemoryMmap>,
    /// Bytes done of a request that goes through a bounce buffer, piece by piece.
    bounced: u64,
}

impl InFlight {
    /// Bytes of the piece that the bounce buffer holds, or will hold next.
    fn piece(&self) -> usize {
        (self.request.length - self.bounced).min(BOUNCE_SIZE as u64) as usize
    }
}

/// The worker, before and while it runs.
pub(super) struct Worker {
    setup: Setup,
    engine: Box<dyn Engine>,
    epoll: Epoll,
    /// The requests in flight, by their transfers' tokens.
    requests: Vec<Option<InFlight>>,
    free: Vec<u16>,
    completions: Vec<Completion>,
    /// Whether the engine has more to submit than the kernel took.
    backlog: bool,
    /// Whether there are answers that the driver was not signalled yet.
    answered: bool,
    io_errors: u64,
}

impl Worker {
    pub fn new(setup: Setup, engine: Box<dyn Engine>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let watch = |fd, datum| {
            epoll.ctl(
                ControlOperation::Add,
                fd,
                EpollEvent::new(EventSet::IN, datum),
            )
        };
        watch(setup.doorbell.as_raw_fd(), DOORBELL)?;
        watch(setup.reins.as_raw_fd(), 0)?;
        if let Some(fd) = engine.event_fd() {
            watch(fd, 0)?;
        }
        Ok(Worker {
            setup,
            engine,
            epoll,
            requests: (0..MAX_IN_FLIGHT).map(|_| None).collect(),
            free: (0..MAX_IN_FLIGHT as u16).rev().collect(),
            completions: Vec::new(),
            backlog: false,
            answered: false,
            io_errors: 0,
        })
    }

    /// Serves the queue until it is stopped; returns the engine with nothing in flight.
    pub fn run(mut self) -> Box<dyn Engine> {
        let mut broken = false;
        loop {
            let order = self.setup.reins.order();
            let served = match order {
                Order::End => break,
                _ if broken => Ok(()),
                Order::Hold => self.settle(),
                Order::Run => self.serve(),
            };
            if let Err(error) = served {
                tracing::error!(
                    "disk {}: the guest's virtqueue is broken ({error}); the disk stops until its \
                     driver resets it",
                    self.setup.id
                );
                broken = true;
                self.drain();
                self.setup.interrupt.needs_reset();
            }
            match order {
                Order::Hold => self.setup.reins.hold_here(),
                _ => self.sleep(),
            }
        }
        self.drain();
        self.engine
    }

    /// Waits for the doorbell, for completions or to be stopped.
    fn sleep(&mut self) {
        let timeout = if self.backlog {
            RESUBMIT_MILLISECONDS
        } else {
            -1
        };
        let mut events = [EpollEvent::default(); 3];
        // Interrupted by a signal is awake, too.
        let n = self.epoll.wait(timeout, &mut events).unwrap_or(0);
        if events[..n].iter().any(|event| event.data() == DOORBELL) {
            // Rings that come from here on make it readable again.
            let _ = self.setup.doorbell.read();
        }
    }

    /// Does all that can be done without waiting.
    fn serve(&mut self) -> Result<(), QueueError> {
        while self.setup.reins.order() == Order::Run {
            let mut completions = std::mem::take(&mut self.completions);
            self.engine.reap(&mut completions);
            let mut progress = !completions.is_empty();
            self.complete_all(completions)?;
            progress |= self.take_requests()?;
            self.backlog = !self.engine.submit();
            self.signal()?;
            if !progress {
                break;
            }
        }
        Ok(())
    }

    /// Starts what the driver made available; false when there was nothing, and its next request
    /// rings the doorbell.
    fn take_requests(&mut self) -> Result<bool, QueueError> {
        let memory = self.setup.memory.memory().into_inner();
        self.setup.queue.disable_notification(memory.as_ref())?;
        let mut taken = false;
        // Bounded, so that a guest that never ceases cannot keep the thread from being stopped.
        for _ in 0..MAX_IN_FLIGHT {
            if self.free.is_empty() {
                // The completions to come lead back here.
                return Ok(taken);
            }
            let chain = self.setup.queue.iter(memory.as_ref())?.next();
            match chain {
                Some(chain) => {
                    taken = true;
                    self.start(&memory, chain)?;
                }
                None if self.setup.queue.enable_notification(memory.as_ref())? => {
                    self.setup.queue.disable_notification(memory.as_ref())?;
                }
                None => return Ok(taken),
            }
        }
        Ok(true)
    }

    fn start(
        &mut self,
        memory: &Arc<GuestMemoryMmap>,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<(), QueueError> {
        let head = chain.head_index();
        let request = match Request::parse(memory, chain, &self.setup.disk) {
            Ok(request) => request,
            Err(Rejected::Unanswerable) => return self.give_back(memory, head, 0),
            Err(Rejected::Status(address, status)) => {
                return self.answer(memory, head, address, status, STATUS_ONLY);
            }
        };
        let (operation, access) = match request.kind {
            Kind::GetId => return self.answer_id(memory, head, &request),
            Kind::Flush => (Operation::Sync, Permissions::No),
            Kind::In { .. } | Kind::Out { .. } if request.length == 0 => {
                return self.answer_ok(memory, head, &request);
            }
            Kind::In { offset } => (Operation::Read { offset }, Permissions::Write),
            Kind::Out { offset } => (self.write(offset), Permissions::Read),
        };
        let Some(buffers) = Buffers::guest(memory, &request.data, access) else {
            return self.answer_error(memory, head, &request);
        };
        let in_place = match self.setup.disk.direct() {
            Some(alignment) => buffers.is_aligned(alignment),
            None => true,
        };
        let in_flight = InFlight {
            head,
            request,
            memory: Arc::clone(memory),
            bounced: 0,
        };
        if in_place {
            self.launch(in_flight, operation, buffers);
            Ok(())
        } else {
            self.start_piece(in_flight, BounceBuffer::new())
        }
    }

    /// Starts the next piece of a request through the bounce buffer.
    fn start_piece(
        &mut self,
        in_flight: InFlight,
        mut buffer: BounceBuffer,
    ) -> Result<(), QueueError> {
        let InFlight {
            request, bounced, ..
        } = &in_flight;
        let piece = in_flight.piece();
        let operation = match request.kind {
            Kind::Out { offset } => {
                let bytes = buffer.bytes(piece);
                let copied = pieces(&request.data, *bounced, piece)
                    .try_for_each(|(at, range)| in_flight.memory.read_slice(&mut bytes[range], at));
                if let Err(error) = copied {
                    return self.answer_memory_error(&in_flight, error);
                }
                self.write(offset + bounced)
            }
            Kind::In { offset } => Operation::Read {
                offset: offset + bounced,
            },
            Kind::Flush | Kind::GetId => unreachable!("moves no data through a bounce buffer"),
        };
        self.launch(in_flight, operation, Buffers::bounce(buffer, piece));
        Ok(())
    }

    fn write(&self, offset: u64) -> Operation {
        Operation::Write {
            offset,
            durable: self.setup.durable_writes,
        }
    }

    fn launch(&mut self, in_flight: InFlight, operation: Operation, buffers: Buffers) {
        let token = self.free.pop().expect("a free token was seen");
        self.requests[usize::from(token)] = Some(in_flight);
        self.engine.start(Transfer::new(token, operation, buffers));
    }

    /// After an error, those that are left are not answered, but not waited for any more, either.
    fn complete_all(&mut self, mut completions: Vec<Completion>) -> Result<(), QueueError> {
        let mut result = Ok(());
        for completion in completions.drain(..) {
            if result.is_ok() {
                result = self.complete(completion);
            } else {
                self.retire(&completion);
            }
        }
        self.completions = completions;
        result
    }

    fn complete(&mut self, completion: Completion) -> Result<(), QueueError> {
        let Some(mut in_flight) = self.retire(&completion) else {
            return Ok(());
        };
        if let Err(error) = completion.result {
            self.note_io_error(&in_flight.request, &error);
            return self.answer_error(&in_flight.memory, in_flight.head, &in_flight.request);
        }
        if let Some(mut buffer) = completion.transfer.buffers.into_bounce() {
            let piece = in_flight.piece();
            if let Kind::In { .. } = in_flight.request.kind {
                let bytes = buffer.bytes(piece);
                let copied = pieces(&in_flight.request.data, in_flight.bounced, piece)
                    .try_for_each(|(at, range)| in_flight.memory.write_slice(&bytes[range], at));
                if let Err(error) = copied {
                    return self.answer_memory_error(&in_flight, error);
                }
            }
            in_flight.bounced += piece as u64;
            if in_flight.bounced < in_flight.request.length {
                return self.start_piece(in_flight, buffer);
            }
        }
        self.answer_ok(&in_flight.memory, in_flight.head, &in_flight.request)
    }

    /// The request of a completed transfer, whose token is free again.
    fn retire(&mut self, completion: &Completion) -> Option<InFlight> {
        let token = completion.transfer.token;
        let in_flight = self.requests[usize::from(token)].take();
        self.free.push(token);
        in_flight
    }

    /// Waits for all that is in flight, and answers it.
    fn settle(&mut self) -> Result<(), QueueError> {
        while self.free.len() < self.requests.len() {
            self.engine.submit();
            self.engine.wait();
            let mut completions = std::mem::take(&mut self.completions);
            self.engine.reap(&mut completions);
            self.complete_all(completions)?;
        }
        self.backlog = false;
        self.signal()
    }

    /// Waits for all that is in flight, and answers none of it.
    fn drain(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        loop {
            for completion in completions.drain(..) {
                self.retire(&completion);
            }
            if self.free.len() == self.requests.len() {
                break;
            }
            self.engine.submit();
            self.engine.wait();
            self.engine.reap(&mut completions);
        }
        self.backlog = false;
    }

    /// Says why a request failed: each time at first, then ever more rarely, since a guest may try
    /// again for ever.
    fn note_io_error(&mut self, request: &Request, error: &io::Error) {
        self.io_errors += 1;
        if self.io_errors.is_power_of_two() {
            tracing::warn!(
                "disk {}: {:?} of {} bytes failed: {error} (error {} of this disk)",
                self.setup.id,
                request.kind,
                request.length,
                self.io_errors
            );
        }
    }

    fn answer_memory_error(
        &mut self,
        in_flight: &InFlight,
        error: GuestMemoryError,
    ) -> Result<(), QueueError> {
        self.note_io_error(&in_flight.request, &io::Error::other(error));
        self.answer_error(&in_flight.memory, in_flight.head, &in_flight.request)
    }

    fn answer_error(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        request: &Request,
    ) -> Result<(), QueueError> {
        let status = VIRTIO_BLK_S_IOERR as u8;
        self.answer(memory, head, request.status, status, STATUS_ONLY)
    }

    fn answer_id(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        request: &Request,
    ) -> Result<(), QueueError> {
        let mut id = [0; VIRTIO_BLK_ID_BYTES as usize];
        for (to, from) in id.iter_mut().zip(self.setup.id.bytes()) {
            *to = from;
        }
        let length = request.length.min(id.len() as u64) as usize;
        let written = pieces(&request.data, 0, length)
            .try_for_each(|(at, range)| memory.write_slice(&id[range], at));
        if written.is_err() {
            return self.answer_error(memory, head, request);
        }
        let status = VIRTIO_BLK_S_OK as u8;
        self.answer(
            memory,
            head,
            request.status,
            status,
            length as u32 + STATUS_ONLY,
        )
    }

    fn answer_ok(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        request: &Request,
    ) -> Result<(), QueueError> {
        // Before the guest can see the answer: whoever looks after that must find it counted.
        self.setup.counters.count(request);
        let written = match request.kind {
            // A chain is shorter than 4 GiB, its status included.
            Kind::In { .. } => request.length as u32 + STATUS_ONLY,
            _ => STATUS_ONLY,
        };
        let status = VIRTIO_BLK_S_OK as u8;
        self.answer(memory, head, request.status, status, written)
    }

    fn answer(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        address: GuestAddress,
        status: u8,
        written: u32,
    ) -> Result<(), QueueError> {
        memory
            .write_obj(status, address)
            .map_err(QueueError::GuestMemory)?;
        self.give_back(memory, head, written)
    }

    fn give_back(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        written: u32,
    ) -> Result<(), QueueError> {
        self.answered = true;
        self.setup.queue.add_used(memory, head, written)
    }

    fn signal(&mut self) -> Result<(), QueueError> {
        if std::mem::take(&mut self.answered) {
            let memory = self.setup.memory.memory();
            if self.setup.queue.needs_notification(&*memory)? {
                self.setup.interrupt.used_buffer();
            }
        }
        Ok(())
    }
}

/// Where in guest memory the bytes `skip..skip + length` of `data` are, each piece with its range
/// within these.
fn pieces(
    data: &[Segment],
    skip: u64,
    length: usize,
) -> impl Iterator<Item = (GuestAddress, std::ops::Range<usize>)> {
    let end = skip + length as u64;
    let mut position = 0;
    data.iter().filter_map(move |segment| {
        let start = position;
        position += u64::from(segment.length);
        let (from, to) = (start.max(skip), position.min(end));
        (from < to).then(|| {
            let address = segment.address.unchecked_add(from - start);
            (address, (from - skip) as usize..(to - skip) as usize)
        })
    })
}
