//! One chain of the put or the get queue: read, checked, executed, answered.

use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;

use virtio_queue::DescriptorChain;
use vm_memory::GuestMemory;
use zerocopy::IntoBytes;

use super::MAX_OPS;
use super::chain::{Malformed, Streams};
use super::stats::{Counters, count};
use crate::pool::{BATCH, Guest, Page, PageName, PoolError, PoolKind};
use crate::wire::{self, Op, OpResult, PAGE_SIZE, ReqHdr, RespHdr};

/// What executing a chain needs, and the buffers that it uses again and again.
pub(super) struct Executor {
    streams: Streams,
    ops: Vec<Op>,
    results: Vec<OpResult>,
    names: Vec<PageName>,
    /// BATCH of them.
    pages: Vec<Page>,
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
            names: Vec::with_capacity(BATCH),
            pages: vec![[0; PAGE_SIZE]; BATCH],
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
        let mut rest = 0;
        while let Some(op) = self.ops.get(rest) {
            let kind = op.kind.get();
            let alike = |op: &&Op| op.kind.get() == kind && op.flags.get() == 0;
            let run = self.ops[rest..].iter().take(BATCH).take_while(alike);
            let run = run.count().max(1);
            let ops = &self.ops[rest..rest + run];
            rest += run;
            match kind {
                wire::OP_PUT => {
                    let pages = &mut self.pages[..run];
                    // The pages are read in any case: the next ones follow them.
                    for page in pages.iter_mut() {
                        self.streams.read(memory, page)?;
                    }
                    put(
                        guest,
                        ops,
                        &mut self.names,
                        pages,
                        &mut self.results,
                        counters,
                    );
                }
                wire::OP_GET => {
                    let pages = &mut self.pages[..run];
                    let answered = self.results.len();
                    get(
                        guest,
                        ops,
                        &mut self.names,
                        pages,
                        &mut self.results,
                        counters,
                    );
                    for (page, result) in pages.iter().zip(&self.results[answered..]) {
                        let offset = page_offset;
                        page_offset += PAGE_SIZE as u64;
                        if result.status == wire::S_OK {
                            self.streams.write_at(memory, offset, page)?;
                            written = page_offset;
                        }
                    }
                }
                _ => self.results.extend(
                    ops.iter()
                        .map(|op| execute(guest, op, self.negotiated, counters)),
                ),
            }
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

    /// The operations of the chain that was served last without an error, and their results.
    pub fn served(&self) -> (&[Op], &[OpResult]) {
        (&self.ops, &self.results)
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

fn name(op: &Op) -> PageName {
    PageName {
        pool: op.pool.get(),
        object: op.object,
        index: op.index.get(),
    }
}

/// Stores the pages of operations whose flags are all clear, or of one that has some.
fn put(
    guest: &Guest,
    ops: &[Op],
    names: &mut Vec<PageName>,
    pages: &[Page],
    results: &mut Vec<OpResult>,
    counters: &Counters,
) {
    counters.puts.fetch_add(ops.len() as u64, Relaxed);
    if ops.iter().any(|op| op.flags.get() != 0) {
        results.extend(ops.iter().map(|_| answer(wire::S_INVALID)));
        return;
    }
    names.clear();
    names.extend(ops.iter().map(name));
    let mut outcomes = [Ok(()); BATCH];
    let outcomes = &mut outcomes[..ops.len()];
    guest.put_all(names, pages, outcomes);
    results.extend(outcomes.iter().map(|outcome| match outcome {
        Ok(()) => answer(wire::S_OK),
        Err(error) => {
            if *error == PoolError::Refused {
                count(&counters.puts_refused);
            }
            failure(*error)
        }
    }));
}

/// Reads the pages of operations whose flags are all clear, or of one that has some.
fn get(
    guest: &Guest,
    ops: &[Op],
    names: &mut Vec<PageName>,
    pages: &mut [Page],
    results: &mut Vec<OpResult>,
    counters: &Counters,
) {
    counters.gets.fetch_add(ops.len() as u64, Relaxed);
    if ops.iter().any(|op| op.flags.get() != 0) {
        results.extend(ops.iter().map(|_| answer(wire::S_INVALID)));
        return;
    }
    names.clear();
    names.extend(ops.iter().map(name));
    let mut outcomes = [Ok(false); BATCH];
    let outcomes = &mut outcomes[..ops.len()];
    guest.get_all(names, pages, outcomes);
    results.extend(outcomes.iter().map(|outcome| match outcome {
        Ok(true) => {
            count(&counters.hits);
            answer(wire::S_OK)
        }
        Ok(false) => answer(wire::S_ABSENT),
        Err(error) => failure(*error),
    }));
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
