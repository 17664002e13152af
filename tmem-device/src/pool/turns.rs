//! Removing many pages of a shard: a turn at a time, so that its lock is held briefly.

use super::PoolKind;
use super::below::At;
use super::entries::PageKey;
use super::key::{Key, ObjectKey};
use super::shard::{Left, Shard, split};

/// Lookups that a range operation makes in one go, under the lock.
const STEP: u64 = 1024;

/// Entries that can be looked at in the time of one lookup.
const SWEEP: u64 = 8;

/// How far a range operation has come.
#[derive(Default)]
pub(super) struct Progress {
    /// The next index to look at.
    next: u64,
    /// Entries that are still to be looked at.
    sweep: Option<u32>,
}

impl Shard {
    /// Removes pages of an object with indexes from `first` to `last`, as many as one turn allows; whether these were all.
    pub fn remove_range(
        &mut self,
        object: &ObjectKey,
        (first, last): (u64, u64),
        progress: &mut Progress,
        left: &mut Left,
    ) -> bool {
        let mut steps = STEP;
        let from = first.max(progress.next);
        if from > last {
            return true;
        }
        let mut parts = self.objects.parts(object, split(from).0, split(last).0);
        parts.sort_unstable_by_key(|number| self.objects.get(*number).part);
        for number in parts {
            let (part, highest) = {
                let object = self.objects.get(number);
                (object.part, object.highest)
            };
            let base = u64::from(part) << 32;
            if split(progress.next).0 != part {
                progress.sweep = None;
            }
            let low = split(from.max(base)).1;
            let high = last.saturating_sub(base).min(highest.into()) as u32;
            if low <= high
                && !self.remove_of(number, object, (low, high), progress, &mut steps, left)
            {
                progress.next = base | progress.next & u64::from(u32::MAX);
                return false;
            }
        }
        true
    }

    /// The same of one part of an object. If it stops, `progress` has the low half of the next index.
    fn remove_of(
        &mut self,
        number: u32,
        key: &ObjectKey,
        (low, high): (u32, u32),
        progress: &mut Progress,
        steps: &mut u64,
        left: &mut Left,
    ) -> bool {
        let lookups = u64::from(high - low) + 1;
        if progress.sweep.is_none() && lookups <= self.entries.len() as u64 / SWEEP + STEP {
            for index in low..=high {
                if *steps == 0 {
                    progress.next = index.into();
                    return false;
                }
                *steps -= 1;
                let page = PageKey {
                    object: number,
                    index,
                };
                if let Some(slot) = self.entries.find(page) {
                    self.take(slot, left);
                    if !self.objects.is(number, key) {
                        return true;
                    }
                }
            }
            return true;
        }
        // The last entry moves into the place of a removed one: it has been looked at.
        let count = self.entries.next_slot();
        let mut slot = progress.sweep.map_or(count, |rest| rest.min(count));
        let mut turns = *steps * SWEEP;
        while slot > 0 {
            if turns == 0 {
                *steps = 0;
                progress.sweep = Some(slot);
                progress.next = low.into();
                return false;
            }
            turns -= 1;
            slot -= 1;
            let page = self.entries.key(slot);
            if page.object == number && (low..=high).contains(&page.index) {
                self.take(slot, left);
                if !self.objects.is(number, key) {
                    return true;
                }
            }
        }
        true
    }

    /// Removes pages of a pool, as many as one turn allows; whether these were all. Nobody puts to the pool meanwhile.
    pub fn remove_pool(&mut self, pool: u32, progress: &mut Progress, left: &mut Left) -> bool {
        let count = self.entries.next_slot();
        let mut slot = progress.sweep.map_or(count, |rest| rest.min(count));
        let end = slot.saturating_sub((STEP * SWEEP) as u32);
        while slot > end {
            slot -= 1;
            let object = self.entries.key(slot).object;
            if self.objects.get(object).key.pool == pool {
                self.take(slot, left);
            }
        }
        progress.sweep = Some(slot);
        slot == 0
    }

    /// Removes up to `limit` ephemeral pages that a tier alone has, and tells `report` which; how many there were. Looks at
    /// [`STEP`] times [`SWEEP`] entries at most.
    pub fn evict_below(
        &mut self,
        limit: usize,
        left: &mut Left,
        mut report: impl FnMut(Key),
    ) -> usize {
        let (mut evicted, mut turns) = (0, STEP * SWEEP);
        while evicted < limit && turns > 0 && self.below_ephemeral > 0 {
            turns -= 1;
            if self.hand >= self.entries.next_slot() {
                self.hand = 0;
            }
            match self.entries.at(self.hand) {
                At::Below(_, PoolKind::Ephemeral) => {
                    report(self.name(self.entries.key(self.hand)));
                    // The last entry comes in its place.
                    self.take(self.hand, left);
                    evicted += 1;
                }
                _ => self.hand += 1,
            }
        }
        evicted
    }
}
