//! One chain of the put or the get queue: read, checked, executed, answered.

use std::ops::Deref;

use virtio_queue::DescriptorChain;
use vm_memory::GuestMemory;
use zerocopy::IntoBytes;

use super::MAX_OPS;
use super::chain::{Malformed, Streams};
use super::stats::{Counters, count};
use crate::pool::{Guest, Page, PageCopy, PoolError, PoolKind};
use crate::wire::{self, Op, OpResult, PAGE_SIZE, ReqHdr, RespHdr};

/// What executing a chain needs, and the buffers that it uses again and again.
pub(super) struct Executor {
    streams: Streams,
    ops: Vec<Op>,
    results: Vec<OpResult>,
    page: Box<Page>,
    negotiated: Negotiated,
}

/// What the driver negotiated that operations depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Negotiated {
    pub ephemeral: bool,
    pub persistent: bool,
    pub flush_range: bool,
}

impl Executor {
    pub fn new(negotiated: Negotiated) -> Self {
        Executor {
            streams: Streams::default(),
            ops: Vec::with_capacity(MAX_OPS as usize),
            results: Vec::with_capacity(MAX_OPS as usize),
            page: Box::new([0; PAGE_SIZE]),
            negotiated,
        }
    }

    /// Serves one chain. Returns the number of bytes written to it; after an error, none, and
    /// then nothing of the chain was executed.
    pub fn serve<M>(
        &mut self,
        mut chain: DescriptorChain<M>,
        guest: &Guest,
        counters: &Counters,
    ) -> Result<u32, Malformed>
    where
        M: Deref,
        M::Target: GuestMemory + Sized,
    {
        self.streams.fill(&mut chain)?;
        let memory = chain.memory();
        self.read_ops(memory)?;

        self.results.clear();
        let results_end = (size_of::<RespHdr>() + self.ops.len() * size_of::<OpResult>()) as u64;
        let mut page_offset = results_end;
        let mut written = results_end;
        for op in &self.ops {
            let result = match op.kind.get() {
                wire::OP_PUT => {
                    // The page is read in any case: the next one follows it.
                    let page = PageCopy::read(|part| self.streams.read(memory, part))?;
                    count(&counters.puts);
                    let result = put(guest, op, page);
                    if result.status == wire::S_REFUSED {
                        count(&counters.puts_refused);
                    }
                    result
                }
                wire::OP_GET => {
                    count(&counters.gets);
                    let offset = page_offset;
                    page_offset += PAGE_SIZE as u64;
                    let result = get(guest, op, &mut self.page);
                    if result.status == wire::S_OK {
                        count(&counters.hits);
                        self.streams.write_at(memory, offset, &self.page[..])?;
                        written = page_offset;
                    }
                    result
                }
                _ => execute(guest, op, self.negotiated, counters),
            };
            self.results.push(result);
        }
        let credit = if self.negotiated.persistent {
            guest.grant_credit()
        } else {
            0
        };
        let header = RespHdr {
            nr_ops: (self.ops.len() as u32).into(),
            credit: credit.into(),
        };
        self.streams.write_at(memory, 0, header.as_bytes())?;
        self.streams
            .write_at(memory, size_of::<RespHdr>() as u64, self.results.as_bytes())?;
        // At most MAX_OPS pages and results.
        Ok(written as u32)
    }

    /// Reads header and operations into host memory, and checks that the chain has exactly the
    /// pages that these ask for.
    fn read_ops(&mut self, memory: &impl GuestMemory) -> Result<(), Malformed> {
        let mut header = ReqHdr::default();
        self.streams.read(memory, header.as_mut_bytes())?;
        let nr_ops = header.nr_ops.get();
        if nr_ops == 0 || nr_ops > MAX_OPS || header.flags.get() != 0 {
            return Err(Malformed);
        }
        let nr_ops = nr_ops as usize;
        self.ops.clear();
        self.ops.resize(nr_ops, Op::default());
        self.streams.read(memory, self.ops.as_mut_bytes())?;

        let pages = |kind| self.ops.iter().filter(|op| op.kind.get() == kind).count();
        let readable = size_of::<ReqHdr>() + size_of_val(&self.ops[..]);
        let readable = readable + pages(wire::OP_PUT) * PAGE_SIZE;
        let writable = size_of::<RespHdr>() + nr_ops * size_of::<OpResult>();
        let writable = writable + pages(wire::OP_GET) * PAGE_SIZE;
        let fits = self.streams.readable_bytes() == readable as u64
            && self.streams.writable_bytes() >= writable as u64;
        if fits { Ok(()) } else { Err(Malformed) }
    }
}

fn answer(status: u32) -> OpResult {
    OpResult {
        status: status.into(),
        value: 0.into(),
    }
}

fn failure(error: PoolError) -> OpResult {
    answer(match error {
        PoolError::NoSuchPool => wire::S_INVALID,
        PoolError::Refused => wire::S_REFUSED,
        PoolError::Lost => wire::S_IOERR,
    })
}

fn put(guest: &Guest, op: &Op, page: PageCopy) -> OpResult {
    if op.flags.get() != 0 {
        return answer(wire::S_INVALID);
    }
    match guest.put(op.pool.get(), &op.object, op.index.get(), page) {
        Ok(()) => answer(wire::S_OK),
        Err(error) => failure(error),
    }
}

fn get(guest: &Guest, op: &Op, page: &mut Page) -> OpResult {
    if op.flags.get() != 0 {
        return answer(wire::S_INVALID);
    }
    match guest.get(op.pool.get(), &op.object, op.index.get(), page) {
        Ok(true) => answer(wire::S_OK),
        Ok(false) => answer(wire::S_ABSENT),
        Err(error) => failure(error),
    }
}

/// Executes an operation that carries no page.
fn execute(guest: &Guest, op: &Op, negotiated: Negotiated, counters: &Counters) -> OpResult {
    let (kind, pool, index, arg) = (op.kind.get(), op.pool.get(), op.index.get(), op.arg.get());
    let known = kind <= wire::OP_DESTROY_POOL;
    if !known || (kind == wire::OP_FLUSH_RANGE && !negotiated.flush_range) {
        return answer(wire::S_UNSUPPORTED);
    }
    if op.flags.get() != 0 {
        return answer(wire::S_INVALID);
    }
    let flushed = match kind {
        wire::OP_NOP => return answer(wire::S_OK),
        wire::OP_NEW_POOL => return new_pool(guest, arg, negotiated),
        wire::OP_DESTROY_POOL => {
            return guest
                .destroy_pool(pool)
                .map_or_else(failure, |()| answer(wire::S_OK));
        }
        wire::OP_FLUSH_PAGE => guest.flush_page(pool, &op.object, index),
        wire::OP_FLUSH_RANGE => guest.flush_range(pool, &op.object, index, arg),
        _ => guest.flush_object(pool, &op.object),
    };
    count(&counters.flushes);
    match flushed {
        Ok(0) => answer(wire::S_ABSENT),
        Ok(_) => answer(wire::S_OK),
        Err(error) => failure(error),
    }
}

fn new_pool(guest: &Guest, kind: u64, negotiated: Negotiated) -> OpResult {
    let (kind, offered) = match kind {
        wire::POOL_EPHEMERAL => (PoolKind::Ephemeral, negotiated.ephemeral),
        wire::POOL_PERSISTENT => (PoolKind::Persistent, negotiated.persistent),
        _ => return answer(wire::S_INVALID),
    };
    if !offered {
        return answer(wire::S_UNSUPPORTED);
    }
    match guest.new_pool(kind) {
        Ok(pool) => OpResult {
            status: wire::S_OK.into(),
            value: pool.into(),
        },
        Err(error) => failure(error),
    }
}
