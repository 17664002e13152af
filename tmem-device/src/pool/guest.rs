//! One guest of the pool: its pools, and the only way to its pages.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use super::evictions::{Evicted, EvictionLog};
use super::key::{Key, ObjectId, ObjectKey, object_words};
use super::{HostPool, Page, PageCopy, PoolError, PoolKind, trim};
use crate::wire::PAGE_SIZE;

/// A release of so many pages is worth a request to the C library to return memory.
const TRIM_PAGES: u64 = (8 << 20) / PAGE_SIZE as u64;

/// The pool as one guest sees it. Dropping it drops all pages of the guest.
pub struct Guest {
    pool: Arc<HostPool>,
    id: u32,
    pools: RwLock<Pools>,
    evictions: Arc<EvictionLog>,
}

#[derive(Default)]
struct Pools {
    kinds: BTreeMap<u32, PoolKind>,
    /// Where the search for a free id begins; ids are not used again before all others were.
    next: u32,
}

impl HostPool {
    /// Adds a guest. `None` when as many guests were added as the pool can tell apart (2^32 - 1).
    pub fn register(self: &Arc<Self>) -> Option<Guest> {
        use std::sync::atomic::Ordering::Relaxed;
        let id = self
            .next_guest
            .fetch_update(Relaxed, Relaxed, |id| id.checked_add(1))
            .ok()?;
        let evictions = Arc::<EvictionLog>::default();
        self.eviction_logs
            .write()
            .expect("no thread panics while it holds the logs")
            .insert(id, Arc::clone(&evictions));
        Some(Guest {
            evictions,
            pool: Arc::clone(self),
            id,
            pools: RwLock::default(),
        })
    }
}

impl Guest {
    /// The pool that the guest is one of.
    pub fn host_pool(&self) -> &Arc<HostPool> {
        &self.pool
    }

    /// Creates a pool and returns its id.
    pub fn new_pool(&self, kind: PoolKind) -> Result<u32, PoolError> {
        let mut pools = self
            .pools
            .write()
            .expect("no thread panics while it holds the pools");
        if pools.kinds.len() >= self.pool.config.max_pools as usize {
            return Err(PoolError::Refused);
        }
        while pools.kinds.contains_key(&pools.next) {
            pools.next = pools.next.wrapping_add(1);
        }
        let id = pools.next;
        pools.kinds.insert(id, kind);
        pools.next = id.wrapping_add(1);
        Ok(id)
    }

    /// Drops a pool with all its pages.
    pub fn destroy_pool(&self, pool: u32) -> Result<(), PoolError> {
        // Held until the pages are gone: an operation that found the pool has ended, none begins.
        let mut pools = self
            .pools
            .write()
            .expect("no thread panics while it holds the pools");
        let kind = pools.kinds.remove(&pool).ok_or(PoolError::NoSuchPool)?;
        if self.pool.flush_pool(self.id, pool, kind) >= TRIM_PAGES {
            trim::return_free_memory();
        }
        Ok(())
    }

    /// Drops all pools, and takes back all credit.
    pub fn reset(&self) {
        let mut pools = self
            .pools
            .write()
            .expect("no thread panics while it holds the pools");
        let mut flushed = 0;
        while let Some((pool, kind)) = pools.kinds.pop_first() {
            flushed += self.pool.flush_pool(self.id, pool, kind);
        }
        self.pool.ledger.revoke(self.id);
        self.evictions.set_wanted(false);
        if flushed >= TRIM_PAGES {
            trim::return_free_memory();
        }
    }

    /// Stores a page, in place of an older one of the same key. After an error the key is absent.
    /// A persistent put spends one page of credit if the guest has any, and is then never refused.
    pub fn put(
        &self,
        pool: u32,
        object: &ObjectId,
        index: u64,
        page: impl Into<PageCopy>,
    ) -> Result<(), PoolError> {
        self.with(pool, object, index, |key, kind| {
            self.pool.put(key, kind, page.into().0)
        })?
    }

    /// Writes the page to `page` and returns true, or returns false when it is absent; then
    /// what is in `page` means nothing. Removes the page when the pool is ephemeral.
    pub fn get(
        &self,
        pool: u32,
        object: &ObjectId,
        index: u64,
        page: &mut Page,
    ) -> Result<bool, PoolError> {
        self.with(pool, object, index, |key, kind| {
            self.pool.get(key, kind, page)
        })?
    }

    /// Drops one page; returns how many pages there were.
    pub fn flush_page(&self, pool: u32, object: &ObjectId, index: u64) -> Result<u64, PoolError> {
        self.with(pool, object, index, |key, kind| {
            u64::from(self.pool.flush_page(key, kind))
        })
    }

    /// Drops `count` pages of an object from `index` on, or all that follow when that is
    /// beyond the last index; returns how many pages there were.
    pub fn flush_range(
        &self,
        pool: u32,
        object: &ObjectId,
        index: u64,
        count: u64,
    ) -> Result<u64, PoolError> {
        self.with(pool, object, index, |key, kind| {
            match count.checked_sub(1) {
                None => 0,
                Some(more) => self.pool.flush_range(key, index.saturating_add(more), kind),
            }
        })
    }

    /// Drops all pages of an object; returns how many there were.
    pub fn flush_object(&self, pool: u32, object: &ObjectId) -> Result<u64, PoolError> {
        self.with(pool, object, 0, |key, kind| {
            self.pool.flush_range(key, u64::MAX, kind)
        })
    }

    /// Promises as many further persistent puts as the guest's limit and the room in the pool
    /// allow; returns how many pages that is.
    pub fn grant_credit(&self) -> u32 {
        self.pool.ledger.grant(self.id)
    }

    /// Persistent puts that could be promised now in addition, in pages.
    pub fn grantable_credit(&self) -> u32 {
        self.pool.ledger.grantable(self.id)
    }

    /// Persistent puts that were promised and have not been sent yet, in pages.
    pub fn credit(&self) -> u32 {
        self.pool.ledger.promised_to(self.id)
    }

    /// Takes back all credit.
    pub fn revoke_credit(&self) {
        self.pool.ledger.revoke(self.id);
    }

    /// Whether evictions of the guest's pages are noted from now on; what was noted before is forgotten.
    pub fn note_evictions(&self, wanted: bool) {
        self.evictions.set_wanted(wanted);
    }

    /// Runs of evicted pages that [`Guest::take_evictions`] would yield now, but for the latest that hold `latest` pages.
    pub fn evictions_waiting(&self, latest: u64) -> usize {
        match latest {
            0 => self.evictions.waiting(),
            pages => self.evictions.waiting_before(pages),
        }
    }

    /// Pages whose eviction was noted and forgotten again, because nobody fetched it in time.
    pub fn evictions_forgotten(&self) -> u64 {
        self.evictions.forgotten()
    }

    /// Moves at most `limit` runs of pages that were evicted to the end of `to`, the earliest first. A page among
    /// them may have been put again since.
    pub fn take_evictions(&self, limit: usize, to: &mut Vec<Evicted>) {
        self.evictions.take(limit, to);
    }

    fn with<R>(
        &self,
        pool: u32,
        object: &ObjectId,
        index: u64,
        f: impl FnOnce(Key, PoolKind) -> R,
    ) -> Result<R, PoolError> {
        let pools = self
            .pools
            .read()
            .expect("no thread panics while it holds the pools");
        let kind = *pools.kinds.get(&pool).ok_or(PoolError::NoSuchPool)?;
        Ok(f(
            Key {
                object: ObjectKey {
                    guest: self.id,
                    pool,
                    object: object_words(object),
                },
                index,
            },
            kind,
        ))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.reset();
        if let Ok(mut logs) = self.pool.eviction_logs.write() {
            logs.remove(&self.id);
        }
    }
}
