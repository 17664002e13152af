//! One chain of the put or the get queue: read, checked, executed, answered; in several goes if it asks for much.

use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;

use virtio_queue::DescriptorChain;
use vm_memory::GuestMemory;
use zerocopy::IntoBytes;

use super::MAX_OPS;
use super::chain::{Malformed, Streams};
use super::stats::{Counters, count};
use crate::pool::{BATCH, Flush, Guest, Page, PageName, PoolError, PoolKind, indexes, work_done};
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
    /// The ring and the head of the chain that is being served.
    serving: Option<(u16, u16)>,
    /// Operations of it that are done, and where the page of the next get goes.
    done: usize,
    page_offset: u64,
    /// Bytes that its answer has so far.
    written: u64,
    /// The next operation has begun, and is this.
    flush: Option<Flush>,
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
            serving: None,
            done: 0,
            page_offset: 0,
            written: 0,
            flush: None,
        }
    }

    /// Reads a chain of a ring, which is to be served. After an error, nothing of it is executed.
    pub fn begin<M>(&mut self, mut chain: DescriptorChain<M>, ring: u16) -> Result<(), Malformed>
    where
        M: Deref,
        M::Target: GuestMemory + Sized,
    {
        self.streams.fill(&mut chain)?;
        self.read_ops(chain.memory())?;
        self.results.clear();
        self.done = 0;
        self.page_offset = (size_of::<RespHdr>() + self.ops.len() * size_of::<OpResult>()) as u64;
        self.written = self.page_offset;
        self.serving = Some((ring, chain.head_index()));
        Ok(())
    }

    /// The ring and the head of the chain that is being served.
    pub fn serving(&self) -> Option<(u16, u16)> {
        self.serving
    }

    /// Serves the chain that was begun, until it is done or the thread has done so much work. Returns the number of bytes written to it,
    /// or `None` when it is not done.
    pub fn go_on(
        &mut self,
        memory: &(impl GuestMemory + Sized),
        guest: &Guest,
        counters: &Counters,
        until: u64,
    ) -> Result<Option<u32>, Malformed> {
        while let Some(op) = self.ops.get(self.done) {
            if work_done() >= until {
                return Ok(None);
            }
            let kind = op.kind.get();
            let alike = |op: &&Op| op.kind.get() == kind && op.flags.get() == 0;
            let run = match kind {
                wire::OP_PUT | wire::OP_GET => {
                    let run = self.ops[self.done..].iter().take(BATCH).take_while(alike);
                    run.count().max(1)
                }
                _ => 1,
            };
            let ops = &self.ops[self.done..self.done + run];
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
                        let offset = self.page_offset;
                        self.page_offset += PAGE_SIZE as u64;
                        if result.status == wire::S_OK {
                            self.streams.write_at(memory, offset, page)?;
                            self.written = self.page_offset;
                        }
                    }
                }
                _ => {
                    let begun = match self.flush.take() {
                        Some(flush) => Begun::Flush(flush),
                        None => execute(guest, op, self.negotiated, counters),
                    };
                    let result = match begun {
                        Begun::Done(result) => result,
                        Begun::Flush(mut flush) => {
                            if !guest.go_on(&mut flush) {
                                self.flush = Some(flush);
                                continue;
                            }
                            // A pool that is destroyed may have been empty.
                            let none = flush.flushed() == 0 && kind != wire::OP_DESTROY_POOL;
                            answer(if none { wire::S_ABSENT } else { wire::S_OK })
                        }
                    };
                    self.results.push(result);
                }
            }
            self.done += run;
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
        Ok(Some(self.written as u32))
    }

    /// The chain that was begun is served, or cannot be.
    pub fn end(&mut self) {
        self.serving = None;
        self.flush = None;
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

/// What became of an operation that carries no page.
enum Begun {
    Done(OpResult),
    /// It takes turns.
    Flush(Flush),
}

/// Executes an operation that carries no page, or begins to.
fn execute(guest: &Guest, op: &Op, negotiated: Negotiated, counters: &Counters) -> Begun {
    let (kind, pool, index, arg) = (op.kind.get(), op.pool.get(), op.index.get(), op.arg.get());
    let known = kind <= wire::OP_DESTROY_POOL;
    if !known || (kind == wire::OP_FLUSH_RANGE && !negotiated.flush_range) {
        return Begun::Done(answer(wire::S_UNSUPPORTED));
    }
    if op.flags.get() != 0 {
        return Begun::Done(answer(wire::S_INVALID));
    }
    let flush = match kind {
        wire::OP_NOP => return Begun::Done(answer(wire::S_OK)),
        wire::OP_NEW_POOL => return Begun::Done(new_pool(guest, arg, negotiated)),
        wire::OP_DESTROY_POOL => guest.begin_destroy(pool),
        wire::OP_FLUSH_PAGE => {
            count(&counters.flushes);
            let flushed = guest.flush_page(pool, &op.object, index);
            return Begun::Done(match flushed {
                Ok(0) => answer(wire::S_ABSENT),
                Ok(_) => answer(wire::S_OK),
                Err(error) => failure(error),
            });
        }
        wire::OP_FLUSH_RANGE => guest.begin_flush(pool, &op.object, indexes(index, arg)),
        _ => guest.begin_flush(pool, &op.object, 0..=u64::MAX),
    };
    if kind != wire::OP_DESTROY_POOL {
        count(&counters.flushes);
    }
    flush.map_or_else(|error| Begun::Done(failure(error)), Begun::Flush)
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
