//! A recorded trace, reduced to what any policy has to answer.
//!
//! A trace is recorded above a pool that evicts nothing, so each of its gets that found a page is one that a smaller
//! pool could have answered; a get of what was never put is a miss for all of them, and left out. Pages of persistent
//! pools may not be evicted, and are left out as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use tmem_device::device::Record;
use tmem_device::wire;
use zerocopy::FromBytes;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Store this page.
    Put(u32),
    /// Fetch this page, which then is no longer stored.
    Get(u32),
    /// Forget this page.
    Flush(u32),
}

/// A page's object and its index in that.
pub type Name = (u64, u64);

/// What was asked for, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub name: String,
    pub steps: Vec<Step>,
    /// The pages by the numbers that they have in the steps.
    pub pages: Vec<Name>,
    /// How many are stored at once at most when none is evicted.
    pub footprint: usize,
}

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a recording; make one with `vtmem compare --record`", .0.display())]
    Format(PathBuf),
    #[error("{}: the pool refused or evicted pages; record with a larger --host-mem", .0.display())]
    TooSmall(PathBuf),
}

impl Trace {
    /// Reads a recording, compressed if it is called `*.lz4`.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let source = |source| TraceError::Read {
            path: path.to_owned(),
            source,
        };
        let format = || TraceError::Format(path.to_owned());
        let mut bytes = fs::read(path).map_err(source)?;
        if path.extension().is_some_and(|extension| extension == "lz4") {
            bytes = crate::packed::unpack(&bytes).ok_or_else(format)?;
        }
        let records = <[Record]>::ref_from_bytes(&bytes).map_err(|_| format())?;
        let mut builder = Builder::default();
        for record in records {
            if !builder.add(record) {
                return Err(TraceError::TooSmall(path.to_owned()));
            }
        }
        let mut trace = builder.trace;
        // What is flushed in the end, when the guest unmounts, changes nothing.
        let asked = |step: &Step| !matches!(step, Step::Flush(_));
        let length = trace.steps.iter().rposition(asked);
        trace.steps.truncate(length.map_or(0, |last| last + 1));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.split('.')
            .next()
            .unwrap_or_default()
            .clone_into(&mut trace.name);
        Ok(trace)
    }

    /// Both at once, as two programs would ask in turns: the one that has come less far goes on.
    pub fn beside(self, other: Trace) -> Self {
        let offset = self.pages.len() as u32;
        let moved = other.steps.iter().map(|step| match *step {
            Step::Put(page) => Step::Put(page + offset),
            Step::Get(page) => Step::Get(page + offset),
            Step::Flush(page) => Step::Flush(page + offset),
        });
        let (length, other_length) = (self.steps.len().max(1), other.steps.len().max(1));
        let mut steps: Vec<_> = self
            .steps
            .iter()
            .enumerate()
            .map(|(number, step)| (number * other_length, *step))
            .chain(
                moved
                    .enumerate()
                    .map(|(number, step)| (number * length, step)),
            )
            .collect();
        steps.sort_by_key(|(when, _)| *when);
        let mut builder = Builder::default();
        // Two recordings have pools of the same numbers, and perhaps objects.
        let others = other.pages.iter().map(|(object, index)| (!object, *index));
        builder.trace.pages = self.pages.iter().copied().chain(others).collect();
        for (_, step) in steps {
            builder.step(step);
        }
        Trace {
            name: format!("{}+{}", self.name, other.name),
            ..builder.trace
        }
    }

    /// How many gets there are.
    pub fn gets(&self) -> usize {
        let gets = self.steps.iter();
        gets.filter(|step| matches!(step, Step::Get(_))).count()
    }
}

#[derive(Default)]
struct Builder {
    trace: Trace,
    numbers: BTreeMap<(u32, Name), u32>,
    /// The pools whose pages may be evicted.
    ephemeral: BTreeSet<u32>,
    stored: BTreeSet<u32>,
}

impl Builder {
    /// False: what is recorded depends on what the pool evicted or refused.
    fn add(&mut self, record: &Record) -> bool {
        let pool = record.pool.get();
        let object = record.object.get();
        let (index, count) = (record.index.get(), record.count.get());
        let found = u32::from(record.status.get()) == wire::S_OK;
        match record.kind.get() {
            wire::OP_NEW_POOL if found && count == wire::POOL_EPHEMERAL => {
                self.ephemeral.insert(pool);
                return true;
            }
            wire::OP_DESTROY_POOL if self.ephemeral.remove(&pool) => {
                self.flush((pool, (0, 0)), (pool, (u64::MAX, u64::MAX)));
                return true;
            }
            _ if !self.ephemeral.contains(&pool) => return true,
            wire::OP_FLUSH_OBJECT => {
                self.flush((pool, (object, 0)), (pool, (object, u64::MAX)));
                return true;
            }
            wire::OP_FLUSH_PAGE | wire::OP_FLUSH_RANGE if count > 0 => {
                let last = index.saturating_add(count - 1);
                self.flush((pool, (object, index)), (pool, (object, last)));
                return true;
            }
            _ => {}
        }
        for index in (index..).take(count as usize) {
            let key = (pool, (object, index));
            let number = self.numbers.get(&key).copied();
            let stored = number.filter(|number| self.stored.contains(number));
            match (record.kind.get(), found, stored) {
                (wire::OP_PUT, true, _) => {
                    let number = number.unwrap_or_else(|| self.number(key));
                    self.step(Step::Put(number));
                }
                (wire::OP_GET, true, Some(number)) => self.step(Step::Get(number)),
                (wire::OP_GET, false, None) => {}
                _ => return false,
            }
        }
        true
    }

    fn number(&mut self, key: (u32, Name)) -> u32 {
        let number = self.trace.pages.len() as u32;
        let (pool, (object, index)) = key;
        // Object ids are hashes, so pools need not be told apart but for a guest that means to confuse this.
        self.trace
            .pages
            .push((object.rotate_left(pool % 64), index));
        self.numbers.insert(key, number);
        number
    }

    fn flush(&mut self, first: (u32, Name), last: (u32, Name)) {
        let numbers = self.numbers.range(first..=last).map(|(_, number)| *number);
        let stored: Vec<_> = numbers
            .filter(|number| self.stored.contains(number))
            .collect();
        for number in stored {
            self.step(Step::Flush(number));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(page) => self.stored.insert(page),
            Step::Get(page) | Step::Flush(page) => self.stored.remove(&page),
        };
        self.trace.footprint = self.trace.footprint.max(self.stored.len());
        self.trace.steps.push(step);
    }
}

#[cfg(test)]
#[path = "trace_test.rs"]
mod tests;
