//! Every operation of virtio-tmem in any order, by two guests of one pool, against a model.
//!
//! Promised: a persistent page that was accepted is there, byte for byte, until it is flushed; an ephemeral one is, or is
//! a miss; nothing that was flushed, refused or replaced comes back; no page of another guest does; a put that
//! has credit is accepted; evictions are reported of ephemeral pages alone.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use arbitrary::Arbitrary;
use tmem_device::pool::{HostPool, PoolConfig};
use tmem_device::wire::{self, Event, Evicted, PAGE_SIZE};
use vm_memory::{Bytes, GuestAddress};
use zerocopy::FromBytes;

#[allow(dead_code, missing_docs)]
#[path = "../../../tmem-device/tests/device/driver.rs"]
mod driver;

use driver::{ALL_FEATURES, Driver, EVENT_IDX, Request, Response};

const GUESTS: usize = 2;
const MAX_POOLS: u32 = 3;
/// Operations in a chain, chains of the put queue that wait, and event buffers that are out, at most: what the driver's
/// memory holds.
const MOST_OPS: usize = 24;
const MOST_PENDING: usize = 6;
const MOST_EVENT_BUFFERS: usize = 8;
/// Records that an event buffer has room for.
const RECORDS: usize = 102;

#[derive(Debug, Arbitrary)]
pub struct Input {
    size: u8,
    little_credit: bool,
    reclaimable: bool,
    event_idx: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    /// A chain of operations.
    Batch {
        second: bool,
        put_queue: bool,
        ops: Vec<Operation>,
        cut: u16,
        out: u16,
    },
    /// Serves what waits on the put queue.
    Serve {
        second: bool,
        poll: bool,
    },
    OfferEventBuffer {
        second: bool,
    },
    Resize {
        size: u8,
    },
    FindTaken,
    Reset {
        second: bool,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Operation {
    kind: Kind,
    /// Which of the guest's pools, or one that it does not have.
    pool: u8,
    object: u8,
    index: u8,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Kind {
    Put(Contents),
    Fill { count: u8 },
    Get,
    Sweep { count: u8 },
    FlushPage,
    FlushRange { count: u8 },
    FlushObject,
    NewPool { kind: u8 },
    DestroyPool,
    Nop,
    Unknown { kind: u16, flags: bool },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Contents {
    Filled,
    Text,
    Noise,
}

type Page = [u8; PAGE_SIZE];

/// A page of these contents; no two seeds have the same.
fn page(contents: Contents, seed: u64) -> Page {
    let random = match contents {
        Contents::Filled => 0,
        Contents::Text => PAGE_SIZE / 16,
        Contents::Noise => PAGE_SIZE / 8,
    };
    let mut page = [0; PAGE_SIZE];
    let mut state = seed << 1 | 1;
    let (words, _) = page.as_chunks_mut::<8>();
    words.fill(state.to_le_bytes());
    for word in &mut words[..random] {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *word = state.to_le_bytes();
    }
    page
}

/// What a pool should hold.
struct ModelPool {
    persistent: bool,
    pages: BTreeMap<(u8, u64), Page>,
}

struct Guest {
    driver: Driver,
    pools: BTreeMap<u32, ModelPool>,
    credit: u64,
    /// Chains of the put queue that were not served yet: what was asked, and where the answer will be.
    pending: VecDeque<(Request, u64)>,
    event_buffers: VecDeque<u64>,
    features: u64,
}

struct World {
    pool: Arc<HostPool>,
    guests: Vec<Guest>,
    /// Puts so far: the seed of the next one.
    puts: u64,
}

fn pool_size(choice: u8) -> u64 {
    [0, 40 << 10, 200 << 10, 1 << 20, 8 << 20][usize::from(choice) % 5]
}

impl Guest {
    fn new(pool: &Arc<HostPool>, features: u64) -> Self {
        let driver = Driver::new(pool, features);
        Guest {
            credit: driver.first_credit(),
            driver,
            pools: BTreeMap::new(),
            pending: VecDeque::new(),
            event_buffers: VecDeque::new(),
            features,
        }
    }

    fn reset(&mut self) {
        self.driver.device.reset();
        self.driver.start(self.features);
        self.credit = self.driver.first_credit();
        self.pools.clear();
        self.pending.clear();
        self.event_buffers.clear();
    }

    /// The id of the guest's pool number `choice`; often enough one that does not exist.
    fn pool_id(&self, choice: u8) -> u32 {
        match self
            .pools
            .keys()
            .nth(usize::from(choice) % (MAX_POOLS as usize + 1))
        {
            Some(id) => *id,
            None => u32::MAX - u32::from(choice),
        }
    }

    /// Checks the answers of chains of the put queue that were served.
    fn collect_pending(&mut self) {
        while let Some((request, address)) = self.pending.pop_front() {
            let response = self.driver.response(wire::QUEUE_PUT, &request, address);
            self.check(&request, &response);
        }
        self.collect_events();
    }

    fn collect_events(&mut self) {
        while let Some(address) = self.event_buffers.front().copied() {
            let rings = &mut self.driver.queues[usize::from(wire::QUEUE_EVENT)];
            let Some((_, length)) = rings.take_used(&self.driver.memory) else {
                return;
            };
            self.event_buffers.pop_front();
            let mut bytes = vec![0; length as usize];
            self.driver
                .memory
                .read_slice(&mut bytes, GuestAddress(address))
                .expect("in memory");
            let (event, rest) = Event::read_from_prefix(&bytes).expect("an event");
            match event.kind.get() {
                wire::EV_CREDIT => self.credit += event.value.get(),
                wire::EV_EVICTED => {
                    assert_eq!(
                        rest.len(),
                        event.count.get() as usize * size_of::<Evicted>()
                    );
                    for record in rest.chunks(size_of::<Evicted>()) {
                        self.check_evicted(&Evicted::read_from_bytes(record).expect("a record"));
                    }
                }
                other => panic!("an event of type {other}"),
            }
        }
    }

    fn check_evicted(&self, record: &Evicted) {
        assert!(record.count.get() > 0, "a report of nothing");
        if let Some(pool) = self.pools.get(&record.pool.get()) {
            assert!(!pool.persistent, "a persistent page was evicted");
        }
    }

    /// Checks the answer to a chain, and does to the model what it says.
    fn check(&mut self, request: &Request, response: &Response) {
        let (mut put, mut got) = (0, 0);
        for (op, (status, value)) in request.ops.iter().zip(&response.results) {
            let (id, object, index, arg) =
                (op.pool.get(), op.object[0], op.index.get(), op.arg.get());
            let kind = op.kind.get();
            let page = (kind == wire::OP_PUT).then(|| {
                put += 1;
                request.pages[put - 1]
            });
            let read = (kind == wire::OP_GET).then(|| {
                got += 1;
                &response.pages[got - 1][..]
            });
            if op.flags.get() != 0 {
                let unknown = kind > wire::OP_DESTROY_POOL;
                assert_eq!(
                    *status,
                    if unknown {
                        wire::S_UNSUPPORTED
                    } else {
                        wire::S_INVALID
                    }
                );
                continue;
            }
            match kind {
                wire::OP_NOP => assert_eq!(*status, wire::S_OK),
                wire::OP_NEW_POOL => {
                    if arg > wire::POOL_PERSISTENT {
                        assert_eq!(*status, wire::S_INVALID);
                    } else if self.pools.len() == MAX_POOLS as usize {
                        assert_eq!(*status, wire::S_REFUSED);
                    } else {
                        assert_eq!(*status, wire::S_OK);
                        let pool = ModelPool {
                            persistent: arg == wire::POOL_PERSISTENT,
                            pages: BTreeMap::new(),
                        };
                        assert!(
                            self.pools.insert(*value, pool).is_none(),
                            "an id is given twice"
                        );
                    }
                    continue;
                }
                wire::OP_DESTROY_POOL => {
                    let expected = if self.pools.remove(&id).is_some() {
                        wire::S_OK
                    } else {
                        wire::S_INVALID
                    };
                    assert_eq!(*status, expected);
                    continue;
                }
                8.. => {
                    assert_eq!(*status, wire::S_UNSUPPORTED);
                    continue;
                }
                _ => {}
            }
            if kind == wire::OP_NOP {
                continue;
            }
            let Some(pool) = self.pools.get_mut(&id) else {
                assert_eq!(*status, wire::S_INVALID);
                continue;
            };
            let key = (object, index);
            match kind {
                wire::OP_PUT => {
                    let promised = pool.persistent && self.credit > 0;
                    self.credit -= u64::from(promised);
                    assert!(
                        *status == wire::S_OK || *status == wire::S_REFUSED && !promised,
                        "put: {status}"
                    );
                    pool.pages.remove(&key);
                    if *status == wire::S_OK {
                        pool.pages.insert(key, page.expect("a put has a page"));
                    }
                }
                wire::OP_GET => {
                    let expected = pool.pages.get(&key).copied();
                    if *status == wire::S_OK {
                        let expected = expected
                            .expect("a page that was never put, or was flushed, comes back");
                        assert!(
                            read == Some(&expected[..]),
                            "other bytes than those last put"
                        );
                    } else {
                        assert_eq!(*status, wire::S_ABSENT);
                        assert!(
                            !pool.persistent || expected.is_none(),
                            "a persistent page is lost"
                        );
                    }
                    if !pool.persistent {
                        pool.pages.remove(&key);
                    }
                }
                _ => {
                    let hit = |&(o, i): &(u8, u64)| {
                        o == object
                            && match kind {
                                wire::OP_FLUSH_PAGE => i == index,
                                wire::OP_FLUSH_RANGE => i >= index && i - index < arg,
                                _ => true,
                            }
                    };
                    let held = pool.pages.keys().any(hit);
                    match *status {
                        wire::S_OK => assert!(held, "something was flushed that is not there"),
                        wire::S_ABSENT => {
                            assert!(!held || !pool.persistent, "a persistent page is lost")
                        }
                        other => panic!("flush: {other}"),
                    }
                    pool.pages.retain(|key, _| !hit(key));
                }
            }
        }
        self.credit += u64::from(response.credit);
    }
}

impl World {
    fn new(input: &Input) -> Self {
        let pool = HostPool::new(PoolConfig {
            max_pools: MAX_POOLS,
            reclaimable: input.reclaimable,
            credit: if input.little_credit { 4 } else { 64 },
            ..PoolConfig::new(pool_size(input.size).max(pool_size(2)))
        });
        let features =
            ALL_FEATURES | 1 << wire::F_EVICTIONS | if input.event_idx { EVENT_IDX } else { 0 };
        World {
            guests: (0..GUESTS).map(|_| Guest::new(&pool, features)).collect(),
            pool,
            puts: 0,
        }
    }

    fn request(&mut self, guest: usize, ops: &[Operation]) -> Request {
        let mut request = Request::new();
        for op in ops {
            let id = self.guests[guest].pool_id(op.pool);
            let index = match op.index {
                // The last indexes that there are.
                250.. => u64::MAX - u64::from(op.index - 250),
                index => index.into(),
            };
            let object = op.object % 3;
            match op.kind {
                Kind::Put(contents) => request = self.put(request, id, object, index, contents),
                Kind::Fill { count } => {
                    // Not next to each other: each is a run of its own when it is evicted.
                    for at in 0..u64::from(count % 16) {
                        request = self.put(
                            request,
                            id,
                            object,
                            index.wrapping_add(2 * at),
                            Contents::Noise,
                        );
                    }
                }
                Kind::Get => request = request.get(id, object, index),
                Kind::Sweep { count } => {
                    for at in 0..u64::from(count % 16) {
                        request = request.get(id, object, index.wrapping_add(at));
                    }
                }
                Kind::FlushPage => request = request.op(wire::OP_FLUSH_PAGE, id, object, index, 0),
                Kind::FlushRange { count } => {
                    let count = if count == u8::MAX {
                        u64::MAX
                    } else {
                        count.into()
                    };
                    request = request.op(wire::OP_FLUSH_RANGE, id, object, index, count);
                }
                Kind::FlushObject => request = request.op(wire::OP_FLUSH_OBJECT, id, object, 0, 0),
                Kind::NewPool { kind } => {
                    request = request.op(wire::OP_NEW_POOL, 0, 0, 0, u64::from(kind % 3))
                }
                Kind::DestroyPool => request = request.op(wire::OP_DESTROY_POOL, id, 0, 0, 0),
                Kind::Nop => request = request.op(wire::OP_NOP, 0, 0, 0, 0),
                Kind::Unknown { kind, flags } => {
                    if matches!(kind, wire::OP_PUT | wire::OP_GET) {
                        continue;
                    }
                    let kind = if flags {
                        kind
                    } else {
                        kind.max(wire::OP_DESTROY_POOL + 1)
                    };
                    request = request.op(kind, id, object, index, 0);
                    let last = request.ops.last_mut().expect("just added");
                    last.flags = u16::from(flags).into();
                }
            }
            if request.ops.len() >= MOST_OPS {
                break;
            }
        }
        request
    }

    fn put(
        &mut self,
        mut request: Request,
        id: u32,
        object: u8,
        index: u64,
        contents: Contents,
    ) -> Request {
        self.puts += 1;
        request.pages.push(page(contents, self.puts));
        request.op(wire::OP_PUT, id, object, index, 0)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Batch {
                second,
                put_queue,
                ops,
                cut,
                out,
            } => {
                let request = self.request(usize::from(second), &ops);
                if request.ops.is_empty() {
                    return;
                }
                let guest = &mut self.guests[usize::from(second)];
                let (cuts, outs) = ([usize::from(cut)], [usize::from(out)]);
                let (cuts, outs) = (
                    if cut == 0 { &[][..] } else { &cuts[..] },
                    if out == 0 { &[][..] } else { &outs },
                );
                if put_queue {
                    if guest.pending.len() == MOST_PENDING {
                        guest.driver.serve_puts();
                        guest.collect_pending();
                    }
                    let address = guest
                        .driver
                        .submit_cut(wire::QUEUE_PUT, &request, cuts, outs);
                    guest.pending.push_back((request, address));
                } else {
                    let address = guest
                        .driver
                        .submit_cut(wire::QUEUE_GET, &request, cuts, outs);
                    guest.driver.serve_gets();
                    // What waits on the put queue goes first.
                    guest.collect_pending();
                    let response = guest.driver.response(wire::QUEUE_GET, &request, address);
                    guest.check(&request, &response);
                }
            }
            Step::Serve { second, poll } => {
                let guest = &mut self.guests[usize::from(second)];
                if poll {
                    guest.driver.device.poll_put_queue().expect("sound rings");
                    guest.driver.serve_puts();
                } else {
                    guest.driver.serve_puts();
                }
                guest.collect_pending();
            }
            Step::OfferEventBuffer { second } => {
                let guest = &mut self.guests[usize::from(second)];
                guest.collect_events();
                if guest.event_buffers.len() < MOST_EVENT_BUFFERS {
                    let address = guest.driver.offer_eviction_buffer(RECORDS);
                    guest.event_buffers.push_back(address);
                    guest
                        .driver
                        .device
                        .serve_event_queue()
                        .expect("sound rings");
                }
            }
            Step::Resize { size } => self.pool.set_size(pool_size(size)),
            Step::FindTaken => {
                self.pool.find_taken();
            }
            Step::Reset { second } => self.guests[usize::from(second)].reset(),
        }
    }

    /// Every persistent page is there.
    fn sweep(&mut self) {
        for guest in &mut self.guests {
            guest.driver.serve_puts();
            guest.collect_pending();
            let keys: Vec<_> = guest
                .pools
                .iter()
                .flat_map(|(id, pool)| pool.pages.keys().map(|key| (*id, *key)))
                .collect();
            for (id, (object, index)) in keys {
                let request = Request::new().get(id, object, index);
                let response = guest.driver.call(&request);
                guest.check(&request, &response);
            }
        }
    }
}

/// Does what the input says.
pub fn run(input: Input) {
    let mut world = World::new(&input);
    let mut largest = world.pool.size();
    for step in input.steps {
        world.step(step);
        largest = largest.max(world.pool.size());
        let used = world.pool.stats().used_bytes;
        assert!(used <= largest, "{used} bytes are used, of {largest}");
    }
    world.sweep();
    world.guests.iter_mut().for_each(Guest::reset);
    let stats = world.pool.stats();
    assert_eq!(
        (stats.stored_pages, stats.used_bytes),
        (0, 0),
        "all pools are gone"
    );
}
