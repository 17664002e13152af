//! A driver for the tests: builds chains in guest memory, and reads what came back.

use std::sync::Arc;

use tmem_device::device::{DeviceConfig, TmemDevice};
use tmem_device::pool::HostPool;
use tmem_device::wire::{self, Event, Evicted, Op, OpResult, PAGE_SIZE, ReqHdr, RespHdr};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use zerocopy::{FromBytes, IntoBytes};

pub type Memory = GuestMemoryMmap;

/// Bytes of guest memory.
pub const MEMORY: u64 = 4 << 20;
/// Where buffers begin; the rings are before.
pub const BUFFERS: u64 = 0x1_0000;
/// Where buffers for events begin, which stay with the device while others are used again.
const EVENT_BUFFERS: u64 = MEMORY - (64 << 10);
/// All features of the device.
pub const ALL_FEATURES: u64 = 0b1111;
/// VIRTIO_F_RING_EVENT_IDX.
pub const EVENT_IDX: u64 = 1 << 29;

/// Descriptor flag: another one follows.
pub const NEXT: u16 = 1;
/// Descriptor flag: the device writes it.
pub const WRITE: u16 = 2;

const SIZE: u16 = 256;

/// Where a queue's three parts are.
pub struct Rings {
    pub descriptors: u64,
    pub avail: u64,
    pub used: u64,
    pub size: u16,
    next_descriptor: u16,
    avail_idx: u16,
    last_used: u16,
}

/// One descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    pub address: u64,
    pub length: u32,
    pub flags: u16,
    pub next: u16,
}

/// What came back for a well-formed chain.
#[derive(Debug)]
pub struct Response {
    pub credit: u32,
    pub results: Vec<(u32, u32)>,
    /// For each get, the page area as it is now.
    pub pages: Vec<Vec<u8>>,
    /// The length in the used ring.
    pub written: u32,
}

/// A request that is being built.
#[derive(Default, Clone)]
pub struct Request {
    pub ops: Vec<Op>,
    pub pages: Vec<[u8; PAGE_SIZE]>,
}

/// A driver with its device.
pub struct Driver {
    pub memory: Arc<Memory>,
    pub device: TmemDevice<Arc<Memory>>,
    pub queues: [Rings; 3],
    next_buffer: u64,
    next_event_buffer: u64,
}

/// Makes an operation.
pub fn op(kind: u16, pool: u32, object: u8, index: u64, arg: u64) -> Op {
    Op {
        kind: kind.into(),
        flags: 0.into(),
        pool: pool.into(),
        object: [object; _],
        index: index.into(),
        arg: arg.into(),
    }
}

impl Request {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn op(mut self, kind: u16, pool: u32, object: u8, index: u64, arg: u64) -> Self {
        self.ops.push(op(kind, pool, object, index, arg));
        self
    }

    pub fn put(mut self, pool: u32, object: u8, index: u64, fill: u8) -> Self {
        self.pages.push(page(fill));
        self.op(wire::OP_PUT, pool, object, index, 0)
    }

    /// The contents of the put number `put`.
    pub fn page_mut(&mut self, put: usize) -> &mut [u8; PAGE_SIZE] {
        &mut self.pages[put]
    }

    pub fn get(self, pool: u32, object: u8, index: u64) -> Self {
        self.op(wire::OP_GET, pool, object, index, 0)
    }

    /// The bytes that the device reads.
    pub fn bytes(&self) -> Vec<u8> {
        let header = ReqHdr {
            nr_ops: (self.ops.len() as u32).into(),
            flags: 0.into(),
        };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(self.ops.as_bytes());
        self.pages
            .iter()
            .for_each(|page| bytes.extend_from_slice(page));
        bytes
    }

    fn gets(&self) -> usize {
        self.ops
            .iter()
            .filter(|op| op.kind.get() == wire::OP_GET)
            .count()
    }

    /// How many bytes the device may write.
    pub fn response_len(&self) -> usize {
        size_of::<RespHdr>() + self.ops.len() * size_of::<OpResult>() + self.gets() * PAGE_SIZE
    }
}

/// A page that is recognizable, and not same-filled.
pub fn page(fill: u8) -> [u8; PAGE_SIZE] {
    std::array::from_fn(|at| if at < 8 { at as u8 } else { fill })
}

impl Rings {
    fn new(base: u64, size: u16) -> Self {
        Rings {
            descriptors: base,
            avail: base + 0x1000,
            used: base + 0x2000,
            size,
            next_descriptor: 0,
            avail_idx: 0,
            last_used: 0,
        }
    }

    fn queue(&self, max_size: u16) -> Queue {
        let mut queue = Queue::new(max_size).expect("a power of two");
        queue.set_size(self.size);
        queue.set_desc_table_address(Some(self.descriptors as u32), Some(0));
        queue.set_avail_ring_address(Some(self.avail as u32), Some(0));
        queue.set_used_ring_address(Some(self.used as u32), Some(0));
        queue.set_ready(true);
        queue
    }

    /// Writes descriptor `index` of the table.
    pub fn write_descriptor(&self, memory: &Memory, index: u16, descriptor: Descriptor) {
        let Descriptor {
            address,
            length,
            flags,
            next,
        } = descriptor;
        let at = GuestAddress(self.descriptors + 16 * u64::from(index));
        let low = u64::from(length) | u64::from(flags) << 32 | u64::from(next) << 48;
        memory
            .write_slice([address.to_le(), low.to_le()].as_bytes(), at)
            .expect("in memory");
    }

    /// Makes the chain that begins at `head` available.
    pub fn offer(&mut self, memory: &Memory, head: u16) {
        let entry = self.avail + 4 + 2 * u64::from(self.avail_idx % self.size);
        memory
            .write_obj(head.to_le(), GuestAddress(entry))
            .expect("in memory");
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.set_avail_idx(memory, self.avail_idx);
    }

    pub fn set_avail_idx(&self, memory: &Memory, index: u16) {
        memory
            .write_obj(index.to_le(), GuestAddress(self.avail + 2))
            .expect("in memory");
    }

    pub fn set_avail_flags(&self, memory: &Memory, flags: u16) {
        memory
            .write_obj(flags.to_le(), GuestAddress(self.avail))
            .expect("in memory");
    }

    /// Whether the device wants no doorbell at all (without VIRTIO_F_RING_EVENT_IDX).
    pub fn no_doorbell(&self, memory: &Memory) -> bool {
        let flags: u16 = memory.read_obj(GuestAddress(self.used)).expect("in memory");
        u16::from_le(flags) & 1 != 0
    }

    /// After how many used chains the driver wants an interrupt (VIRTIO_F_RING_EVENT_IDX).
    pub fn set_used_event(&self, memory: &Memory, index: u16) {
        let at = self.avail + 4 + 2 * u64::from(self.size);
        memory
            .write_obj(index.to_le(), GuestAddress(at))
            .expect("in memory");
    }

    /// For which chain the device wants a doorbell (VIRTIO_F_RING_EVENT_IDX).
    pub fn avail_event(&self, memory: &Memory) -> u16 {
        let at = self.used + 4 + 8 * u64::from(self.size);
        u16::from_le(memory.read_obj(GuestAddress(at)).expect("in memory"))
    }

    /// How many chains were made available so far, wrapping.
    pub fn offered(&self) -> u16 {
        self.avail_idx
    }

    /// The next used chain: its head and length.
    pub fn take_used(&mut self, memory: &Memory) -> Option<(u16, u32)> {
        let index: u16 = memory
            .read_obj(GuestAddress(self.used + 2))
            .expect("in memory");
        if u16::from_le(index) == self.last_used {
            return None;
        }
        let entry = self.used + 4 + 8 * u64::from(self.last_used % self.size);
        self.last_used = self.last_used.wrapping_add(1);
        let [head, length]: [u32; 2] = memory.read_obj(GuestAddress(entry)).expect("in memory");
        Some((u32::from_le(head) as u16, u32::from_le(length)))
    }
}

impl Driver {
    /// A driver that accepted `features`, on a device of `pool`.
    pub fn new(pool: &Arc<HostPool>, features: u64) -> Self {
        Self::with_config(pool, features, DeviceConfig::default())
    }

    /// The same, with a device of that configuration.
    pub fn with_config(pool: &Arc<HostPool>, features: u64, config: DeviceConfig) -> Self {
        let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).expect("memory");
        let memory = Arc::new(memory);
        let device = TmemDevice::new(Arc::clone(pool), config).expect("a guest");
        let mut driver = Driver {
            memory,
            device,
            queues: fresh_rings(),
            next_buffer: BUFFERS,
            next_event_buffer: EVENT_BUFFERS,
        };
        driver.start(features);
        driver
    }

    /// Sets the queues up and the device going.
    pub fn start(&mut self, features: u64) {
        self.queues = fresh_rings();
        self.memory
            .write_slice(&[0; BUFFERS as usize], GuestAddress(0))
            .expect("in memory");
        let sizes = TmemDevice::<Arc<Memory>>::queue_sizes();
        let queues = std::array::from_fn(|at| self.queues[at].queue(sizes[at]));
        self.device.ack_features(features);
        self.device
            .activate(Arc::clone(&self.memory), queues)
            .expect("the queues are set up");
    }

    fn allocate(&mut self, queue: u16, length: usize) -> u64 {
        let (next, area) = match queue {
            wire::QUEUE_EVENT => (&mut self.next_event_buffer, EVENT_BUFFERS..MEMORY),
            _ => (&mut self.next_buffer, BUFFERS..EVENT_BUFFERS),
        };
        if *next + length as u64 > area.end {
            *next = area.start;
        }
        let address = *next;
        *next += length as u64;
        address
    }

    /// Builds a chain of the given pieces without making it available; returns its head and the
    /// address of each piece.
    pub fn chain(&mut self, queue: u16, pieces: &[(&[u8], u16)]) -> (u16, Vec<u64>) {
        let addresses: Vec<u64> = pieces
            .iter()
            .map(|(piece, _)| self.allocate(queue, piece.len()))
            .collect();
        let rings = &mut self.queues[usize::from(queue)];
        let head = rings.next_descriptor;
        for (at, ((data, flags), address)) in pieces.iter().zip(&addresses).enumerate() {
            self.memory
                .write_slice(data, GuestAddress(*address))
                .expect("in memory");
            let index = rings.next_descriptor;
            let next = (index + 1) % rings.size;
            let more = if at + 1 < pieces.len() { NEXT } else { 0 };
            let (address, length) = (*address, data.len() as u32);
            let descriptor = Descriptor {
                address,
                length,
                flags: flags | more,
                next,
            };
            rings.write_descriptor(&self.memory, index, descriptor);
            rings.next_descriptor = next;
        }
        (head, addresses)
    }

    /// Makes a request available, one descriptor each way; returns where its response will be.
    pub fn submit(&mut self, queue: u16, request: &Request) -> u64 {
        self.submit_cut(queue, request, &[], &[])
    }

    /// The same, with both sides cut into descriptors at the given offsets, in rising order.
    pub fn submit_cut(
        &mut self,
        queue: u16,
        request: &Request,
        cuts: &[usize],
        out: &[usize],
    ) -> u64 {
        let bytes = request.bytes();
        let response = vec![0xee; request.response_len()];
        let mut pieces = cut(&bytes, cuts, 0);
        let first_writable = pieces.len();
        pieces.extend(cut(&response, out, WRITE));
        let (head, addresses) = self.chain(queue, &pieces);
        self.queues[usize::from(queue)].offer(&self.memory, head);
        addresses[first_writable]
    }

    /// Reads the response of the oldest chain that was not looked at.
    pub fn response(&mut self, queue: u16, request: &Request, address: u64) -> Response {
        let used = self.queues[usize::from(queue)].take_used(&self.memory);
        let (_, written) = used.expect("the chain was served");
        let mut bytes = vec![0; request.response_len()];
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .expect("in memory");
        let (header, mut rest) = RespHdr::read_from_prefix(&bytes).expect("a header");
        assert_eq!(header.nr_ops.get() as usize, request.ops.len());
        let mut results = Vec::new();
        for _ in &request.ops {
            let (result, tail) = OpResult::read_from_prefix(rest).expect("a result");
            results.push((result.status.get(), result.value.get()));
            rest = tail;
        }
        let pages = rest.chunks(PAGE_SIZE).map(<[u8]>::to_vec).collect();
        Response {
            credit: header.credit.get(),
            results,
            pages,
            written,
        }
    }

    /// Rings the get queue's doorbell, and has the worker do what the exit has left.
    pub fn serve_gets(&self) {
        let served = self.device.serve_get_queue();
        if served.expect("the rings are sound").again {
            self.serve_puts();
        }
    }

    /// Has the worker serve the put queue until nothing is left.
    pub fn serve_puts(&self) {
        let serve = || self.device.serve_put_queue();
        while serve().expect("the rings are sound").again {}
    }

    /// Sends a request on the get queue and has it served.
    pub fn call(&mut self, request: &Request) -> Response {
        let address = self.submit(wire::QUEUE_GET, request);
        self.serve_gets();
        self.response(wire::QUEUE_GET, request, address)
    }

    /// The statuses alone.
    pub fn statuses(&mut self, request: &Request) -> Vec<u32> {
        self.call(request)
            .results
            .iter()
            .map(|(status, _)| *status)
            .collect()
    }

    /// Creates a pool that must succeed.
    pub fn new_pool(&mut self, kind: u64) -> u32 {
        let response = self.call(&Request::new().op(wire::OP_NEW_POOL, 0, 0, 0, kind));
        assert_eq!(response.results[0].0, wire::S_OK);
        response.results[0].1
    }

    /// Offers a buffer for an event; returns its address.
    pub fn offer_event_buffer(&mut self) -> u64 {
        let (head, addresses) = self.chain(wire::QUEUE_EVENT, &[(&[0; size_of::<Event>()], WRITE)]);
        self.queues[usize::from(wire::QUEUE_EVENT)].offer(&self.memory, head);
        addresses[0]
    }

    /// The event that the device put into the oldest buffer, as (type, value).
    pub fn take_event(&mut self, address: u64) -> Option<(u32, u64)> {
        let (_, length) = self.queues[usize::from(wire::QUEUE_EVENT)].take_used(&self.memory)?;
        assert_eq!(length as usize, size_of::<Event>());
        let mut event = Event::default();
        self.memory
            .read_slice(event.as_mut_bytes(), GuestAddress(address))
            .expect("in memory");
        assert_eq!(event.count.get(), 0);
        Some((event.kind.get(), event.value.get()))
    }

    /// Offers a buffer for an event and `records` records of evicted pages; returns its address.
    pub fn offer_eviction_buffer(&mut self, records: usize) -> u64 {
        let length = size_of::<Event>() + records * size_of::<Evicted>();
        let (head, addresses) = self.chain(wire::QUEUE_EVENT, &[(&vec![0; length], WRITE)]);
        self.queues[usize::from(wire::QUEUE_EVENT)].offer(&self.memory, head);
        addresses[0]
    }

    /// The evictions that the device reported in the oldest buffer, as (pool, index, count).
    pub fn take_evictions(&mut self, address: u64) -> Option<Vec<(u32, u64, u32)>> {
        let (_, length) = self.queues[usize::from(wire::QUEUE_EVENT)].take_used(&self.memory)?;
        let mut event = Event::default();
        self.memory
            .read_slice(event.as_mut_bytes(), GuestAddress(address))
            .expect("in memory");
        assert_eq!(event.kind.get(), wire::EV_EVICTED);
        let count = event.count.get() as usize;
        assert_eq!(
            length as usize,
            size_of::<Event>() + count * size_of::<Evicted>()
        );
        let mut records = vec![Evicted::default(); count];
        let from = GuestAddress(address + size_of::<Event>() as u64);
        self.memory
            .read_slice(records.as_mut_bytes(), from)
            .expect("in memory");
        let short = |record: &Evicted| (record.pool.get(), record.index.get(), record.count.get());
        Some(records.iter().map(short).collect())
    }

    /// The credit in configuration space.
    pub fn first_credit(&self) -> u64 {
        let mut credit = [0; 8];
        self.device.read_config(8, &mut credit);
        u64::from_le_bytes(credit)
    }
}

fn fresh_rings() -> [Rings; 3] {
    [
        Rings::new(0, SIZE),
        Rings::new(0x4000, SIZE),
        Rings::new(0x8000, 64),
    ]
}

fn cut<'a>(bytes: &'a [u8], cuts: &[usize], flags: u16) -> Vec<(&'a [u8], u16)> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for to in cuts
        .iter()
        .copied()
        .filter(|to| *to < bytes.len())
        .chain([bytes.len()])
    {
        pieces.push((&bytes[from..to], flags));
        from = to;
    }
    pieces
}
