//! What whoever runs the host may ask of the pool and of a guest's part of it while both are used.

use std::sync::atomic::Ordering::Relaxed;

use super::books::Holding;
use super::filled::Queue;
use super::{Guest, HostPool, MAX_SIZE, PoolKind};

/// Why a pool was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// The guest has no pool of this id.
    #[error("the guest has no pool {0}")]
    NoSuchPool(u32),
    /// Its pages are the only copy of what the guest has swapped out.
    #[error("pool {0} is persistent: the guest would lose what it swapped out")]
    Persistent(u32),
}

/// A pool of a guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestPool {
    /// As the guest knows it.
    pub id: u32,
    /// What it does when there is no room.
    pub kind: PoolKind,
    /// Pages that it has, in memory or a tier.
    pub pages: u64,
}

impl HostPool {
    /// The first half of [`HostPool::set_size`]: from now on nothing is stored beyond `size` bytes. Returns at once.
    pub fn announce_size(&self, size: u64) {
        let size = size.min(MAX_SIZE);
        let dirty_limit = self.config.dirty_limit(size, &self.tiers);
        self.books.set_size(size, dirty_limit);
    }

    /// The other half: drops ephemeral pages until the pool keeps to its size, gives free memory to the kernel, and has persistent
    /// pages written to the tiers if that is needed.
    pub fn keep_to_size(&self) {
        self.shrink();
        self.arena.trim();
        self.wake_writer();
    }

    /// Whether pages are compressed when room is short (as at first), or never from now on. Compressed ones stay so.
    pub fn set_compressing(&self, compressing: bool) {
        self.compressing.store(compressing, Relaxed);
    }

    /// Whether pages are compressed when room is short.
    pub fn is_compressing(&self) -> bool {
        self.compressing.load(Relaxed)
    }
}

impl Guest {
    /// The guest's pools, by id.
    pub fn pools(&self) -> Vec<GuestPool> {
        let pools = self.pools_by_id();
        let pool = |(&id, &kind)| GuestPool {
            id,
            kind,
            pages: self.store.sum(|shard| shard.objects.pages_of(id)),
        };
        pools.kinds.iter().map(pool).collect()
    }

    /// What the guest has of the pool, and may have.
    pub fn holding(&self) -> Holding {
        self.pool.books.holding(self.store.guest)
    }

    /// Whether all its puts are refused.
    pub fn is_frozen(&self) -> bool {
        self.store.frozen.load(Relaxed)
    }

    /// Drops all ephemeral pages that the guest has now, as if there were no room for them: the driver is told.
    pub fn evict_all(&self) {
        // What is put meanwhile may stay, or the end would be the guest's to say.
        self.evict_older(self.store.age(), || {});
        // Where a tier alone has them, they are not told from what is put meanwhile.
        self.pool.evict_all_below(&self.store);
        self.pool.arena.trim();
    }

    /// Drops ephemeral pages in segments that are older than that; calls `evicted` after each.
    fn evict_older(&self, until: u64, mut evicted: impl FnMut()) {
        for queue in [Queue::Small, Queue::Main] {
            while let Some((age, shard)) = self.store.oldest(queue)
                && age < until
                && self.pool.evict_segment(&self.store, shard, queue)
            {
                evicted();
            }
        }
    }

    /// Drops all pages of an ephemeral pool, which stays; the driver finds out when it asks for one.
    ///
    /// # Errors
    /// There is no such pool, or it is persistent.
    pub fn flush_pool(&self, pool: u32) -> Result<(), FlushError> {
        // Not held meanwhile: the guest's calls do not wait for this one.
        let kind = self.pools_by_id().kinds.get(&pool).copied();
        match kind {
            None => Err(FlushError::NoSuchPool(pool)),
            Some(PoolKind::Persistent) => Err(FlushError::Persistent(pool)),
            Some(PoolKind::Ephemeral) => {
                self.pool.flush_pool(&self.store, pool, PoolKind::Ephemeral);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
#[path = "control_test.rs"]
mod tests;
