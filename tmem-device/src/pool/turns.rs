//! Removing many pages of a shard: a turn at a time, so that its lock is held briefly.

use super::PoolKind;
use super::below::At;
use super::entries::PageKey;
use super::key::{Key, ObjectKey};
use super::objects::Object;
use super::shard::{Left, Shard, split};

/// Lookups that a range operation makes in one go, under the lock.
const STEP: u64 = 256;

/// Entries that can be looked at in the time of one lookup.
const SWEEP: u64 = super::work::LOOKS;

/// Parts of an object that are looked up one by one, rather than looked for.
const FEW_PARTS: u32 = 16;

/// How far a range operation has come.
#[derive(Default)]
pub(super) struct Progress {
    parts: Parts,
    /// The part that is being emptied.
    part: u32,
    /// The low half of the next index in it to look at.
    next: u32,
    /// Entries that are still to be looked at.
    sweep: Option<u32>,
}

/// How the parts of an object are found.
#[derive(Default, Clone, Copy)]
enum Parts {
    #[default]
    NotBegun,
    /// One after the other, to this one.
    Each(u32),
    /// Among all pages, in one pass.
    Among,
}

impl Progress {
    fn turn_to(&mut self, part: u32) {
        if self.part != part {
            *self = Progress {
                parts: self.parts,
                part,
                ..Progress::default()
            };
        }
    }
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
        let (first_part, last_part) = (split(first).0, split(last).0);
        if let Parts::NotBegun = progress.parts {
            progress.parts = if !self.objects.has_later_parts() {
                Parts::Each(0)
            } else if last_part - first_part < FEW_PARTS {
                Parts::Each(last_part)
            } else {
                Parts::Among
            };
            progress.part = first_part;
        }
        match progress.parts {
            Parts::NotBegun => true,
            Parts::Each(to) => {
                for part in progress.part..=to {
                    progress.turn_to(part);
                    if let Some(number) = self.objects.find(object, part)
                        && !self.remove_part(
                            number,
                            object,
                            (first, last),
                            progress,
                            &mut steps,
                            left,
                        )
                    {
                        return false;
                    }
                }
                true
            }
            Parts::Among => self.sweep(progress, left, |found, index| {
                let index = u64::from(found.part) << 32 | u64::from(index);
                found.key == *object && (first..=last).contains(&index)
            }),
        }
    }

    /// The same of one part of an object, which is the one that `progress` is at.
    fn remove_part(
        &mut self,
        number: u32,
        key: &ObjectKey,
        (first, last): (u64, u64),
        progress: &mut Progress,
        steps: &mut u64,
        left: &mut Left,
    ) -> bool {
        let object = self.objects.get(number);
        let base = u64::from(object.part) << 32;
        let low = split(first.max(base)).1.max(progress.next);
        let high = last.saturating_sub(base).min(object.highest.into()) as u32;
        low > high || self.remove_of(number, key, (low, high), progress, steps, left)
    }

    /// The same of the pages of a part with indexes whose low half is in a range.
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
                    progress.next = index;
                    return false;
                }
                *steps -= 1;
                left.looked += SWEEP;
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
                progress.next = low;
                return false;
            }
            turns -= 1;
            left.looked += 1;
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
        let gone = |shard: &Shard| shard.objects.pages_of(pool) == 0;
        gone(self) || self.sweep(progress, left, |object, _| object.key.pool == pool) || gone(self)
    }

    /// Looks at as many pages as one turn allows, and removes those that are `wanted`, by object and low half of the index; whether it has
    /// looked at all.
    fn sweep(
        &mut self,
        progress: &mut Progress,
        left: &mut Left,
        wanted: impl Fn(&Object, u32) -> bool,
    ) -> bool {
        // The last entry moves into the place of a removed one: it has been looked at.
        let count = self.entries.next_slot();
        let mut slot = progress.sweep.map_or(count, |rest| rest.min(count));
        let end = slot.saturating_sub((STEP * SWEEP) as u32);
        let mut last = None;
        while slot > end {
            slot -= 1;
            let page = self.entries.key(slot);
            // Another object must be looked up.
            left.looked += if last == Some(page.object) { 1 } else { SWEEP };
            last = Some(page.object);
            if wanted(self.objects.get(page.object), page.index) {
                self.take(slot, left);
            }
        }
        progress.sweep = Some(slot);
        slot == 0
    }

    /// Turns of [`Shard::evict_below`] that look at every entry.
    pub fn turns_of_all(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(STEP * SWEEP)
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
            left.looked += 1;
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
