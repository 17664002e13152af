//! Dropping many pages for a guest: in turns, between which whoever serves the guest may do something else.

use std::ops::RangeInclusive;

use super::arena::TRIMMED;
use super::guest::Guest;
use super::key::{ObjectKey, object_words};
use super::turns::Progress;
use super::{ObjectId, PoolError, PoolKind, work};

/// A flush that has begun. What it drops is gone when [`Guest::go_on`] says so; of a pool that is destroyed, for the guest at once.
pub struct Flush {
    what: What,
    kind: PoolKind,
    /// In which shard it is.
    shard: usize,
    progress: Progress,
    flushed: u64,
}

#[derive(Clone, Copy)]
enum What {
    /// Indexes of one object, from the first to the last.
    Range(ObjectKey, (u64, u64)),
    /// All pages of a pool, which nobody can find any more, and then free memory.
    Pool(u32),
}

/// `count` indexes from one on, or all that follow when that is beyond the last one.
pub fn indexes(index: u64, count: u64) -> RangeInclusive<u64> {
    match count.checked_sub(1) {
        Some(more) => index..=index.saturating_add(more),
        // None at all.
        None => RangeInclusive::new(1, 0),
    }
}

impl Flush {
    /// Of all pages of a pool that the guest has no more.
    pub(super) fn of_pool(pool: u32, kind: PoolKind) -> Self {
        Flush {
            what: What::Pool(pool),
            kind,
            shard: 0,
            progress: Progress::default(),
            flushed: 0,
        }
    }

    /// Pages that were dropped so far.
    pub fn flushed(&self) -> u64 {
        self.flushed
    }
}

impl Guest {
    /// Begins to drop the pages of an object with these indexes.
    ///
    /// # Errors
    /// There is no such pool.
    pub fn begin_flush(
        &self,
        pool: u32,
        object: &ObjectId,
        indexes: RangeInclusive<u64>,
    ) -> Result<Flush, PoolError> {
        work::add(work::CALL);
        let kinds = self.pools_by_id();
        let kind = *kinds.kinds.get(&pool).ok_or(PoolError::NoSuchPool)?;
        let object = ObjectKey {
            pool,
            object: object_words(object),
        };
        Ok(Flush {
            what: What::Range(object, indexes.into_inner()),
            kind,
            shard: self.store.shard_of(&object),
            progress: Progress::default(),
            flushed: 0,
        })
    }

    /// Destroys a pool, and begins to drop its pages.
    ///
    /// # Errors
    /// There is no such pool.
    pub fn begin_destroy(&self, pool: u32) -> Result<Flush, PoolError> {
        work::add(work::CALL);
        // An operation that found the pool has ended, none begins. What follows needs no lock for that.
        let kind = self.remove_pool(pool).ok_or(PoolError::NoSuchPool)?;
        Ok(Flush::of_pool(pool, kind))
    }

    /// Takes one turn of a flush; whether it was the last.
    pub fn go_on(&self, flush: &mut Flush) -> bool {
        work::add(1);
        let (store, progress) = (&self.store, &mut flush.progress);
        let what = flush.what;
        if let What::Pool(_) = what
            && flush.shard == store.numbers().len()
        {
            return self.pool.arena.trim_some(TRIMMED);
        }
        let done = self
            .pool
            .with(store, flush.shard, flush.kind, |shard, left| {
                let done = match what {
                    What::Range(object, range) => {
                        shard.remove_range(&object, range, progress, left)
                    }
                    What::Pool(pool) => shard.remove_pool(pool, progress, left),
                };
                flush.flushed += left.pages;
                done
            });
        match what {
            What::Range(..) => done,
            What::Pool(_) => {
                if done {
                    flush.shard += 1;
                    flush.progress = Progress::default();
                }
                false
            }
        }
    }

    /// Takes all turns; how many pages were dropped.
    pub(super) fn finish(&self, mut flush: Flush) -> u64 {
        while !self.go_on(&mut flush) {}
        flush.flushed
    }
}
