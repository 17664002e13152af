//! The disk tier: records in segments of a file or block device. `docs/tiers.md` has the format, the
//! guarantees and what happens when the disk fails.
//!
//! A store flows forward: `reserve` finds room, `cleaner` makes some when there is none, `record` forms
//! what is written, a `Medium` writes it, `table` and `segments` keep the books. One lock guards
//! the books; it is never held while the medium works.

mod cleaner;
#[cfg(test)]
pub(crate) mod fault;
mod file;
mod medium;
mod open;
mod read;
mod record;
mod segments;
mod table;
mod uring;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Handle, Load, LoadError, MAX_RECORD, StoreError, Tier, TierStats};

pub use open::{DiskConfig, MIN_SIZE, OpenError};

use medium::{Batch, Buffer, Direction, Medium, Transfer};
use read::Wanted;
use record::UNIT;
use segments::{Extent, Purpose, SEGMENT, Segments, Short};
use table::{Id, Place, Table};

/// Records that are read side by side.
const WINDOW: usize = 64;

/// A file or block device that holds records.
pub struct DiskTier {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The cleaner is done.
    cleaned: Condvar,
    medium: Box<dyn Medium>,
    /// Of all checksums.
    seed: u64,
    store_limit: Duration,
    load_limit: Duration,
}

struct State {
    table: Table,
    segments: Segments,
    /// A thread cleans.
    cleaning: bool,
    /// What was done so far; what there is now is counted when it is asked for.
    counted: TierStats,
}

impl State {
    /// Takes out a record, if it is still there.
    fn remove(&mut self, id: Id) {
        if let Some(place) = self.table.remove(id) {
            let space = record::space(place.length.into());
            self.segments.remove(place.segment, space);
        }
    }
}

/// Segments that a batch reads or writes; dropped when it no longer does.
struct Pins {
    shared: Arc<Shared>,
    segments: Vec<u32>,
    write: bool,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        for &segment in &self.segments {
            state.segments.unpin(segment, self.write);
        }
    }
}

impl DiskTier {
    /// Opens the file or block device, which is locked against other users until the tier is gone. What
    /// it held is lost.
    ///
    /// # Errors
    /// It cannot be used, or holds what is not ours to overwrite: see [`OpenError`].
    pub fn open(config: &DiskConfig) -> Result<Self, OpenError> {
        Self::open_with(config, || ())
    }

    /// As [`DiskTier::open`]; the one thread that this starts, which waits for transfers that take too long, calls `enter` first.
    /// No other is started later, and no ring is made.
    pub fn open_with(
        config: &DiskConfig,
        enter: impl FnOnce() + Send + 'static,
    ) -> Result<Self, OpenError> {
        let (medium, count) = open::open(config, enter)?;
        Ok(Self::on(Box::new(medium), count, config))
    }

    /// A tier of `count` segments.
    fn on(medium: Box<dyn Medium>, count: u32, config: &DiskConfig) -> Self {
        DiskTier {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    table: Table::default(),
                    segments: Segments::new(count),
                    cleaning: false,
                    counted: TierStats::default(),
                }),
                cleaned: Condvar::new(),
                medium,
                seed: RandomState::new().hash_one(0u64),
                store_limit: config.store_limit,
                load_limit: config.load_limit,
            }),
        }
    }
}

impl Tier for DiskTier {
    fn store(&self, records: &[&[u8]]) -> Result<Vec<Handle>, StoreError> {
        let deadline = Instant::now() + self.shared.store_limit;
        let result = self.shared.store(records, deadline);
        let counted = &mut self.shared.lock().counted;
        match &result {
            Ok(handles) => counted.stored += handles.len() as u64,
            Err(_) => counted.refused += records.len() as u64,
        }
        result
    }

    fn load(&self, wanted: &mut [Load<'_>]) {
        for window in wanted.chunks_mut(WINDOW) {
            self.shared.load(window);
        }
    }

    fn discard(&self, handles: &[Handle]) {
        let mut state = self.shared.lock();
        for &handle in handles {
            if let Some((id, _)) = state.table.find(handle) {
                state.remove(id);
            }
        }
    }

    fn stats(&self) -> TierStats {
        let state = self.shared.lock();
        TierStats {
            records: state.table.records(),
            live_bytes: state.segments.live_bytes(),
            used_bytes: state.segments.used_bytes(),
            unreadable_bytes: state.segments.unreadable_bytes(),
            capacity_bytes: state.segments.capacity_bytes(),
            index_bytes: (state.table.bytes() + state.segments.bytes()) as u64,
            ..state.counted
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no thread panics while it holds the books")
    }

    fn store(
        self: &Arc<Self>,
        records: &[&[u8]],
        deadline: Instant,
    ) -> Result<Vec<Handle>, StoreError> {
        if let Some(wrong) = records
            .iter()
            .find(|record| record.is_empty() || record.len() > MAX_RECORD)
        {
            return Err(StoreError::Length(wrong.len()));
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let spaces: Vec<usize> = records
            .iter()
            .map(|record| record::space(record.len()))
            .collect();
        let extents = self.reserve(&spaces, deadline)?;
        let pins = self.pins_of(&extents);
        let lengths: Vec<u16> = records.iter().map(|record| record.len() as u16).collect();
        let ids = self.enter(&places(&extents, &lengths))?;
        let batch = self.form(&extents, pins, &spaces, |at, target| {
            record::write(target, self.seed, ids[at], records[at]);
        });
        match self.write(batch, &extents, deadline) {
            Ok(_done) => Ok(ids.into_iter().map(Id::handle).collect()),
            Err(error) => {
                let mut state = self.lock();
                for id in ids {
                    state.remove(id);
                }
                Err(error)
            }
        }
    }

    /// Finds room for records of these sizes; cleans, and asks the medium for more, as long as that helps.
    fn reserve(
        self: &Arc<Self>,
        spaces: &[usize],
        deadline: Instant,
    ) -> Result<Vec<Extent>, StoreError> {
        let mut no_growth = None;
        loop {
            let reserved =
                self.lock()
                    .segments
                    .reserve(spaces, Purpose::Store, no_growth.is_none());
            match reserved {
                Ok(extents) => return Ok(extents),
                Err(Short::Grow(segment)) => {
                    let offset = segments::offset(segment);
                    let result = self.medium.allocate(offset, SEGMENT as u64);
                    self.lock().segments.grown(segment, result.is_ok());
                    no_growth = result.err();
                }
                Err(Short::Clean) if Instant::now() >= deadline => return Err(StoreError::Slow),
                Err(Short::Clean) => {
                    if !self.clean(deadline)? {
                        return Err(no_growth.map_or(StoreError::Full, StoreError::Medium));
                    }
                }
            }
        }
    }

    fn pins_of(self: &Arc<Self>, extents: &[Extent]) -> Pins {
        Pins {
            shared: Arc::clone(self),
            segments: extents.iter().map(|extent| extent.segment).collect(),
            write: true,
        }
    }

    /// Enters records into the books; the extents they lie in are pinned.
    fn enter(&self, places: &[Place]) -> Result<Vec<Id>, StoreError> {
        let mut state = self.lock();
        let mut ids = Vec::with_capacity(places.len());
        for &place in places {
            let Some(id) = state.table.insert(place) else {
                for id in ids {
                    state.remove(id);
                }
                return Err(StoreError::Full);
            };
            let space = record::space(place.length.into());
            state.segments.add(id.slot, place, space);
            ids.push(id);
        }
        Ok(ids)
    }

    /// What to write to the extents; `fill` writes one record to where it goes.
    fn form(
        &self,
        extents: &[Extent],
        pins: Pins,
        spaces: &[usize],
        mut fill: impl FnMut(usize, &mut [u8]),
    ) -> Batch {
        let mut next = 0;
        let transfers = extents.iter().map(|extent| {
            let mut buffer = Buffer::new(extent.length);
            let mut rest = buffer.bytes_mut();
            for _ in 0..extent.records {
                let (target, later) = rest.split_at_mut(spaces[next]);
                fill(next, target);
                rest = later;
                next += 1;
            }
            let offset = segments::offset(extent.segment) + extent.start as u64;
            Transfer::new(offset, buffer)
        });
        Batch {
            direction: Direction::Write,
            transfers: transfers.collect(),
            _pins: Box::new(pins),
        }
    }

    /// Writes all of the batch, or says why not all of it was; its pins hold until the result is dropped.
    fn write(
        &self,
        batch: Batch,
        extents: &[Extent],
        deadline: Instant,
    ) -> Result<Batch, StoreError> {
        let bytes: usize = extents.iter().map(|extent| extent.length).sum();
        self.lock().counted.written_bytes += bytes as u64;
        let mut outcome = self.medium.run(batch, deadline);
        let mut state = self.lock();
        let Ok(batch) = &mut outcome else {
            for extent in extents {
                state.segments.write_failed(extent.segment);
            }
            return Err(StoreError::Slow);
        };
        let mut failure = None;
        for (transfer, extent) in batch.transfers.iter_mut().zip(extents) {
            if let Err(error) = std::mem::replace(&mut transfer.result, Ok(())) {
                state.segments.write_failed(extent.segment);
                failure = Some(error);
            }
        }
        drop(state);
        match (failure, outcome) {
            (None, Ok(batch)) => Ok(batch),
            (failure, _) => Err(failure
                .unwrap_or_else(|| io::ErrorKind::TimedOut.into())
                .into()),
        }
    }

    fn load(self: &Arc<Self>, window: &mut [Load<'_>]) {
        let deadline = Instant::now() + self.load_limit;
        let mut wanted = Vec::with_capacity(window.len());
        let mut state = self.lock();
        for (at, load) in window.iter_mut().enumerate() {
            load.result = match state.table.find(load.handle) {
                None => Err(LoadError::Unknown),
                Some((_, place)) if load.buffer.len() < place.length.into() => {
                    Err(LoadError::Buffer(place.length.into()))
                }
                Some((id, place)) => {
                    state.segments.pin(place.segment);
                    wanted.push(Wanted { at, id, place });
                    Err(LoadError::Slow)
                }
            };
        }
        drop(state);
        self.read(wanted, deadline, |wanted, result| {
            let load = &mut window[wanted.at];
            load.result = result.map(|stored| {
                let length = usize::from(wanted.place.length);
                load.buffer[..length].copy_from_slice(&stored[record::HEADER..][..length]);
                length
            });
        });
        let loaded = window.iter().filter(|load| load.result.is_ok()).count();
        let counted = &mut self.lock().counted;
        counted.loaded += loaded as u64;
        counted.load_errors += (window.len() - loaded) as u64;
    }
}

/// Where each of the records lies that fill the extents in turn.
fn places(extents: &[Extent], lengths: &[u16]) -> Vec<Place> {
    let mut lengths = lengths.iter();
    let mut places = Vec::with_capacity(lengths.len());
    for extent in extents {
        let mut at = extent.start;
        for &length in lengths.by_ref().take(extent.records) {
            places.push(Place {
                segment: extent.segment,
                // Less than 65536: a segment has no more units.
                unit: (at / UNIT) as u16,
                length,
            });
            at += record::space(length.into());
        }
    }
    places
}

#[cfg(test)]
#[path = "model_test.rs"]
mod model_test;

#[cfg(test)]
#[path = "failures_test.rs"]
mod failures_test;

#[cfg(test)]
#[path = "cleaner_test.rs"]
mod cleaner_test;
