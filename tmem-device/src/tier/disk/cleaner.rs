//! Making room: the records of the emptiest segment are moved to the open one, and the segment is free.
//!
//! The thread that needs room cleans, one at a time; loads go on meanwhile. A record that cannot be read, or reads
//! damaged, stays where it is, in a segment that is not free before the record is discarded: a disk may
//! come back, and a load says what is wrong with it until then.

use std::sync::Arc;
use std::time::Instant;

use super::read::Wanted;
use super::segments::Purpose;
use super::{LoadError, Shared, StoreError, places, record};

/// This thread cleans, and nobody else.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().cleaning = false;
        self.0.cleaned.notify_all();
    }
}

impl Shared {
    /// Cleans one segment, or waits for the thread that does; false when none is worth it.
    pub(super) fn clean(self: &Arc<Self>, deadline: Instant) -> Result<bool, StoreError> {
        let mut state = self.lock();
        if state.cleaning {
            let left = deadline.saturating_duration_since(Instant::now());
            let (_state, waited) = self
                .cleaned
                .wait_timeout_while(state, left, |state| state.cleaning)
                .expect("no thread panics while it holds the books");
            return if waited.timed_out() {
                Err(StoreError::Slow)
            } else {
                Ok(true)
            };
        }
        let Some(victim) = state.segments.victim() else {
            return Ok(false);
        };
        state.cleaning = true;
        // A slot is there twice when its record was discarded and the next one came here as well.
        let mut slots = state.segments.slots(victim).to_vec();
        slots.sort_unstable();
        slots.dedup();
        let wanted: Vec<Wanted> = slots
            .iter()
            .filter_map(|&slot| state.table.in_segment(slot, victim))
            .map(|(id, place)| Wanted { at: 0, id, place })
            .collect();
        for _ in &wanted {
            state.segments.pin(victim);
        }
        drop(state);
        let _turn = Turn(self);
        self.empty(victim, wanted, deadline)
    }

    /// Moves the records out of the segment as far as they can be read.
    fn empty(
        self: &Arc<Self>,
        victim: u32,
        wanted: Vec<Wanted>,
        deadline: Instant,
    ) -> Result<bool, StoreError> {
        let (mut good, mut stored) = (Vec::with_capacity(wanted.len()), Vec::new());
        let mut failure = None;
        self.read(wanted, deadline, |one, result| match result {
            Ok(bytes) => {
                good.push(*one);
                stored.push(bytes.to_vec());
            }
            Err(error) => failure = Some(error),
        });
        match failure {
            Some(LoadError::Slow) => return Err(StoreError::Slow),
            Some(_) => self.lock().segments.read_failed(victim),
            None => {}
        }
        self.relocate(&good, &stored, deadline)
    }

    /// Writes the records elsewhere, and enters where they are now.
    fn relocate(
        self: &Arc<Self>,
        good: &[Wanted],
        stored: &[Vec<u8>],
        deadline: Instant,
    ) -> Result<bool, StoreError> {
        if good.is_empty() {
            return Ok(true);
        }
        let lengths: Vec<u16> = good.iter().map(|one| one.place.length).collect();
        let spaces: Vec<usize> = lengths
            .iter()
            .map(|&length| record::space(length.into()))
            .collect();
        let reserved = self.lock().segments.reserve(&spaces, Purpose::Clean, false);
        let Ok(extents) = reserved else {
            return Ok(false);
        };
        let pins = self.pins_of(&extents);
        let batch = self.form(&extents, pins, &spaces, |at, target| {
            target[..stored[at].len()].copy_from_slice(&stored[at]);
        });
        let _done = self.write(batch, &extents, deadline)?;
        let mut state = self.lock();
        for ((one, to), space) in good.iter().zip(places(&extents, &lengths)).zip(spaces) {
            // Unless it was discarded meanwhile.
            if state.table.relocate(one.id, one.place, to) {
                state.segments.add(one.id.slot, to, space);
                state.segments.remove(one.place.segment, space);
                state.counted.moved_bytes += space as u64;
            }
        }
        Ok(true)
    }
}
