//! Descriptor chains of every queue of virtio-tmem: well-formed ones, garbage, and what lies between; rings that move, memory
//! that changes while the device reads it, resets at any point.
//!
//! Promised: no panic and no endless loop; bytes go only to the used rings and to what a descriptor named as
//! writable; the pages of another guest of the same pool stay what they are; the pool keeps its size; after a reset
//! the device serves a proper driver.

use std::sync::Arc;

use arbitrary::Arbitrary;
use tmem_device::device::TmemDevice;
use tmem_device::pool::{Guest, HostPool, PoolConfig, PoolKind};
use tmem_device::wire::{self, NR_QUEUES, Op, PAGE_SIZE, ReqHdr};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::IntoBytes;

use crate::memory::{HostileMemory, LOW, UPPER, UPPER_SIZE};

/// Where a queue's parts are unless the input says otherwise, 16 KiB a queue; buffers follow.
const RING_AREA: u64 = 0x4000;
const BUFFERS: u64 = NR_QUEUES as u64 * RING_AREA;
const QUEUE_SIZE: u16 = 32;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Pages that the other guest keeps.
const OTHERS: u64 = 8;

#[derive(Debug, Arbitrary)]
pub struct Input {
    tight: bool,
    setup: Setup,
    actions: Vec<Action>,
}

/// How the device is started.
#[derive(Debug, Arbitrary)]
struct Setup {
    features: u8,
    event_idx: bool,
    /// Moves a ring's part somewhere else.
    moved: Option<(u8, u8, Place)>,
    /// A size that a queue may not have.
    size: Option<(u8, u16)>,
}

/// An address.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Place {
    Buffer(u16),
    /// Within the parts of a queue.
    Ring(u16),
    /// So many bytes before the end of the lower region, or of the upper one.
    EndOfLow(u8),
    EndOfUpper(u8),
    Upper(u16),
    Any(u64),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Length {
    Small(u8),
    Page,
    Medium(u16),
    Any(u32),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Descriptor {
    place: Place,
    length: Length,
    flags: u8,
    next: u8,
}

/// An operation, mostly of the pools that were made first.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Operation {
    kind: u8,
    flags: bool,
    pool: u16,
    object: u8,
    index: i8,
    arg: i8,
}

#[derive(Debug, Arbitrary)]
enum Action {
    /// Writes a descriptor into a queue's table.
    Describe {
        queue: u8,
        at: u8,
        descriptor: Descriptor,
    },
    /// Writes bytes somewhere.
    Poke {
        place: Place,
        bytes: [u8; 8],
    },
    /// Writes a request somewhere.
    Request {
        place: Place,
        count: u8,
        ops: Vec<Operation>,
    },
    /// Makes a well-formed chain available, of this many readable and writable pieces.
    Chain {
        queue: u8,
        ops: Vec<Operation>,
        cuts: (u8, u8),
        wrong_by: i8,
    },
    /// Makes whatever is at this place in the table available.
    Offer {
        queue: u8,
        head: u8,
        far: bool,
    },
    AvailIndex {
        queue: u8,
        index: u16,
    },
    AvailFlags {
        queue: u8,
        flags: u8,
        used_event: u16,
    },
    /// Has memory change under the device.
    ChangeDescriptor {
        after: u8,
        queue: u8,
        at: u8,
        descriptor: Descriptor,
    },
    ChangeBytes {
        after: u8,
        place: Place,
        bytes: [u8; 8],
    },
    ChangeIndex {
        after: u8,
        queue: u8,
        index: u16,
    },
    Serve(Call),
    Reset(Setup),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Call {
    Put,
    Get,
    Event,
    Poll,
}

#[derive(Clone, Copy)]
struct Rings {
    parts: [u64; 3],
    size: u16,
    offered: u16,
    next: u16,
}

struct Driver {
    memory: Arc<HostileMemory>,
    device: TmemDevice<Arc<HostileMemory>>,
    rings: [Rings; NR_QUEUES],
    pool: Arc<HostPool>,
    next_buffer: u64,
}

impl Place {
    fn address(self) -> u64 {
        match self {
            Place::Buffer(at) => BUFFERS + u64::from(at) * 3 % (LOW - BUFFERS),
            Place::Ring(at) => u64::from(at) % BUFFERS,
            Place::EndOfLow(before) => LOW - u64::from(before),
            Place::EndOfUpper(before) => UPPER + UPPER_SIZE - u64::from(before),
            Place::Upper(at) => UPPER + u64::from(at),
            Place::Any(address) => address,
        }
    }
}

impl Length {
    fn bytes(self) -> u32 {
        match self {
            Length::Small(length) => length.into(),
            Length::Page => PAGE_SIZE as u32,
            Length::Medium(length) => length.into(),
            Length::Any(length) => length,
        }
    }
}

impl Descriptor {
    fn raw(self) -> [u8; 16] {
        // Flags that do not exist are given now and then, indirect tables too.
        let flags = u64::from(if self.flags < 224 {
            self.flags & 3
        } else {
            self.flags & 7
        });
        let next = u64::from(self.next % (QUEUE_SIZE as u8 + 1));
        let words = [
            self.place.address(),
            u64::from(self.length.bytes()) | flags << 32 | next << 48,
        ];
        words
            .map(u64::to_le)
            .as_bytes()
            .try_into()
            .expect("two words")
    }
}

impl Operation {
    fn op(self) -> Op {
        let pool = match self.pool {
            pool @ ..0x4000 => pool,
            pool => pool % 16,
        };
        Op {
            kind: u16::from(self.kind % 10).into(),
            flags: u16::from(self.flags).into(),
            pool: u32::from(pool).into(),
            object: [self.object % 4; wire::OBJECT_SIZE],
            index: (i64::from(self.index) as u64).into(),
            arg: (i64::from(self.arg) as u64).into(),
        }
    }
}

fn request(count: u32, ops: &[Operation]) -> Vec<u8> {
    let header = ReqHdr {
        nr_ops: count.into(),
        flags: 0.into(),
    };
    let mut bytes = header.as_bytes().to_vec();
    for op in ops {
        bytes.extend_from_slice(op.op().as_bytes());
    }
    bytes
}

impl Driver {
    fn new(pool: &Arc<HostPool>) -> Self {
        Driver {
            memory: Arc::default(),
            device: TmemDevice::new(pool.clone(), Default::default()).expect("a guest"),
            rings: std::array::from_fn(|queue| Rings::new(queue as u64 * RING_AREA)),
            pool: pool.clone(),
            next_buffer: BUFFERS,
        }
    }

    /// Starts the device, as far as it lets itself be started.
    fn start(&mut self, setup: &Setup) {
        self.rings = std::array::from_fn(|queue| Rings::new(queue as u64 * RING_AREA));
        for rings in &self.rings {
            self.memory.poke(rings.parts[0], &[0; RING_AREA as usize]);
        }
        if let Some((queue, part, place)) = setup.moved {
            self.rings[usize::from(queue) % NR_QUEUES].parts[usize::from(part) % 3] =
                place.address();
        }
        if let Some((queue, size)) = setup.size {
            self.rings[usize::from(queue) % NR_QUEUES].size = size;
        }
        let sizes = TmemDevice::<Arc<HostileMemory>>::queue_sizes();
        let queues = std::array::from_fn(|at| {
            let queue = self.rings[at].queue(sizes[at]);
            self.memory
                .allow(queue.used_ring(), 6 + 8 * u64::from(queue.size()));
            queue
        });
        let features = u64::from(setup.features) | u64::from(setup.event_idx) << 29;
        self.device.ack_features(features);
        self.memory.begin_call();
        let _ = self.device.activate(self.memory.clone(), queues);
    }

    fn rings(&mut self, queue: u8) -> &mut Rings {
        &mut self.rings[usize::from(queue) % NR_QUEUES]
    }

    fn table_entry(&mut self, queue: u8, at: u8) -> u64 {
        let table = self.rings(queue).parts[0];
        table.wrapping_add(16 * u64::from(u16::from(at) % QUEUE_SIZE))
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Describe {
                queue,
                at,
                descriptor,
            } => {
                let entry = self.table_entry(queue, at);
                self.memory.poke(entry, &descriptor.raw());
            }
            Action::Poke { place, bytes } => self.memory.poke(place.address(), &bytes),
            Action::Request { place, count, ops } => {
                self.memory
                    .poke(place.address(), &request(count.into(), &ops));
            }
            Action::Chain {
                queue,
                ops,
                cuts,
                wrong_by,
            } => {
                self.chain(queue, &ops, cuts, wrong_by);
            }
            Action::Offer { queue, head, far } => {
                let head = u16::from(head) % QUEUE_SIZE + u16::from(far) * QUEUE_SIZE;
                self.offer(queue, head);
            }
            Action::AvailIndex { queue, index } => {
                let avail = self.rings(queue).parts[1];
                self.memory
                    .poke(avail.wrapping_add(2), &index.to_le_bytes());
            }
            Action::AvailFlags {
                queue,
                flags,
                used_event,
            } => {
                let Rings {
                    parts: [_, avail, _],
                    size,
                    ..
                } = *self.rings(queue);
                self.memory.poke(avail, &u16::from(flags).to_le_bytes());
                let at = avail.wrapping_add(4 + 2 * u64::from(size));
                self.memory.poke(at, &used_event.to_le_bytes());
            }
            Action::ChangeDescriptor {
                after,
                queue,
                at,
                descriptor,
            } => {
                let entry = self.table_entry(queue, at);
                self.memory
                    .schedule(after.into(), entry, descriptor.raw().to_vec());
            }
            Action::ChangeBytes {
                after,
                place,
                bytes,
            } => {
                self.memory
                    .schedule(after.into(), place.address(), bytes.to_vec());
            }
            Action::ChangeIndex {
                after,
                queue,
                index,
            } => {
                let avail = self.rings(queue).parts[1];
                let at = avail.wrapping_add(2);
                self.memory
                    .schedule(after.into(), at, index.to_le_bytes().to_vec());
            }
            Action::Serve(call) => self.serve(call),
            Action::Reset(setup) => {
                self.device.reset();
                self.start(&setup);
            }
        }
    }

    fn serve(&mut self, call: Call) {
        self.memory.begin_call();
        // A broken ring ends the service, and is an ordinary answer.
        let _ = match call {
            Call::Put => self.device.serve_put_queue(),
            Call::Get => self.device.serve_get_queue(),
            Call::Event => self.device.serve_event_queue(),
            Call::Poll => self.device.poll_put_queue().map(Option::unwrap_or_default),
        };
    }

    fn offer(&mut self, queue: u8, head: u16) {
        let memory = self.memory.clone();
        let rings = self.rings(queue);
        let slot = u64::from(rings.offered % rings.size.max(1));
        memory.poke(
            rings.parts[1].wrapping_add(4 + 2 * slot),
            &head.to_le_bytes(),
        );
        rings.offered = rings.offered.wrapping_add(1);
        memory.poke(rings.parts[1].wrapping_add(2), &rings.offered.to_le_bytes());
    }

    /// Makes a chain of a request and its response available, in a few pieces each; `wrong_by` makes the response too
    /// long, or too short.
    fn chain(
        &mut self,
        queue: u8,
        ops: &[Operation],
        cuts: (u8, u8),
        wrong_by: i8,
    ) -> GuestAddress {
        let ops = &ops[..ops.len().min(20)];
        let mut bytes = request(ops.len() as u32, ops);
        let kinds = |kind| ops.iter().filter(|op| op.op().kind.get() == kind).count();
        for put in 0..kinds(wire::OP_PUT) {
            bytes.extend_from_slice(&page(put as u8));
        }
        let response = 8 + 8 * ops.len() + kinds(wire::OP_GET) * PAGE_SIZE;
        let response = response.saturating_add_signed(wrong_by.into()) as u64;
        let length = bytes.len() as u64;
        if self.next_buffer + length + response > LOW {
            self.next_buffer = BUFFERS;
        }
        let start = self.next_buffer;
        self.next_buffer += length + response;
        self.memory.poke(start, &bytes);
        let mut pieces = vec![];
        for (from, length, flags, cut) in [
            (start, length, 0, cuts.0),
            (start + length, response, WRITE, cuts.1),
        ] {
            let first = length * u64::from(cut) / 255;
            pieces.push((from, first, flags));
            pieces.push((from + first, length - first, flags));
        }
        let memory = self.memory.clone();
        let rings = self.rings(queue);
        let head = rings.next;
        let last = pieces.len() - 1;
        for (at, (address, length, flags)) in pieces.into_iter().enumerate() {
            let entry = rings.parts[0].wrapping_add(16 * u64::from(rings.next));
            rings.next = (rings.next + 1) % QUEUE_SIZE;
            let flags = u64::from(flags | if at < last { NEXT } else { 0 });
            let words = [address, length | flags << 32 | u64::from(rings.next) << 48];
            memory.poke(entry, words.map(u64::to_le).as_bytes());
        }
        self.offer(queue, head);
        GuestAddress(start + bytes.len() as u64)
    }

    /// Has the device execute operations that are given properly; the bytes of its answer.
    fn call(&mut self, ops: &[Operation], answer: usize) -> Vec<u8> {
        let response = self.chain(wire::QUEUE_GET as u8, ops, (128, 0), 0);
        self.memory.begin_call();
        let mut served = self.device.serve_get_queue();
        while served.expect("sound rings").again {
            served = self.device.serve_put_queue();
        }
        let mut bytes = vec![0; answer];
        self.memory
            .driver()
            .read_slice(&mut bytes, response)
            .expect("in memory");
        bytes
    }

    /// A proper driver stores a page and reads it back.
    fn must_work(&mut self) {
        self.device.reset();
        self.memory.settle();
        self.start(&Setup {
            features: 0b11_1111,
            event_idx: false,
            moved: None,
            size: None,
        });
        self.next_buffer = BUFFERS;
        let word = |bytes: &[u8], at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
        };
        let op = |kind: u16, pool, arg| Operation {
            kind: kind as u8,
            flags: false,
            pool,
            object: 1,
            index: 1,
            arg,
        };
        let made = self.call(&[op(wire::OP_NEW_POOL, 0, 1)], 16);
        assert_eq!(word(&made, 8), wire::S_OK, "a pool");
        let pool = word(&made, 12) as u16;
        let answer = self.call(
            &[op(wire::OP_PUT, pool, 0), op(wire::OP_GET, pool, 0)],
            24 + PAGE_SIZE,
        );
        if word(&answer, 8) == wire::S_OK {
            assert_eq!(
                word(&answer, 16),
                wire::S_OK,
                "a page that was accepted is there"
            );
            assert!(answer[24..] == page(0), "and is what it was");
        } else {
            assert_eq!(
                (word(&answer, 8), word(&answer, 16)),
                (wire::S_REFUSED, wire::S_ABSENT)
            );
        }
    }

    fn check_bounds(&self) {
        let (size, stats) = (self.pool.size(), self.pool.stats());
        assert!(
            stats.used_bytes <= size,
            "{} of {size} bytes",
            stats.used_bytes
        );
    }
}

impl Rings {
    fn new(base: u64) -> Self {
        Rings {
            parts: [base, base + 0x1000, base + 0x2000],
            size: QUEUE_SIZE,
            offered: 0,
            next: 0,
        }
    }

    fn queue(&self, most: u16) -> Queue {
        let mut queue = Queue::new(most).expect("a power of two");
        let half = |at: usize| {
            (
                Some(self.parts[at] as u32),
                Some((self.parts[at] >> 32) as u32),
            )
        };
        queue.set_size(self.size);
        let (low, high) = half(0);
        queue.set_desc_table_address(low, high);
        let (low, high) = half(1);
        queue.set_avail_ring_address(low, high);
        let (low, high) = half(2);
        queue.set_used_ring_address(low, high);
        queue.set_ready(true);
        queue
    }
}

fn page(seed: u8) -> [u8; PAGE_SIZE] {
    std::array::from_fn(|at| if at < 64 { at as u8 } else { seed })
}

/// What the other guest of the pool has put.
struct Other {
    guest: Guest,
    persistent: u32,
    ephemeral: u32,
    kept: Vec<u64>,
}

impl Other {
    fn new(pool: &Arc<HostPool>) -> Self {
        let guest = pool.register().expect("a guest");
        let persistent = guest.new_pool(PoolKind::Persistent).expect("a pool");
        let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
        let mut kept = vec![];
        for index in 0..OTHERS {
            let page = page(0x80 + index as u8);
            if guest
                .put(persistent, &[1; wire::OBJECT_SIZE], index, &page)
                .is_ok()
            {
                kept.push(index);
            }
            let _ = guest.put(ephemeral, &[1; wire::OBJECT_SIZE], index, &page);
        }
        Other {
            guest,
            persistent,
            ephemeral,
            kept,
        }
    }

    fn check(&self) {
        let mut read = [0; PAGE_SIZE];
        for index in 0..OTHERS {
            let expected = page(0x80 + index as u8);
            let object = [1; wire::OBJECT_SIZE];
            let kept = self
                .guest
                .get(self.persistent, &object, index, &mut read)
                .expect("a pool");
            assert_eq!(
                kept,
                self.kept.contains(&index),
                "page {index} of another guest"
            );
            assert!(!kept || read == expected, "page {index} of another guest");
            let kept = self
                .guest
                .get(self.ephemeral, &object, index, &mut read)
                .expect("a pool");
            assert!(!kept || read == expected, "page {index} of another guest");
        }
    }
}

/// Does what the input says.
pub fn run(input: Input) {
    let size = if input.tight { 96 << 10 } else { 4 << 20 };
    let pool = HostPool::new(PoolConfig::new(size));
    let other = Other::new(&pool);
    let mut driver = Driver::new(&pool);
    driver.start(&input.setup);
    for action in input.actions {
        driver.act(action);
        driver.check_bounds();
    }
    driver.serve(Call::Event);
    driver.serve(Call::Put);
    driver.serve(Call::Get);
    let _ = driver.device.stats();
    driver.check_bounds();
    other.check();
    driver.must_work();
}
