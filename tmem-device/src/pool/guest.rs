//! One guest of the pool: its pools, and the only way to its pages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use super::books::Share;
use super::evictions::Evicted;
use super::flush::{Flush, indexes};
use super::key::{Key, ObjectId, ObjectKey, object_words};
use super::store::Store;
use super::{BATCH, HostPool, Page, PoolError, PoolKind, work};

/// The pool as one guest sees it. Dropping it drops all pages of the guest.
pub struct Guest {
    pub(super) pool: Arc<HostPool>,
    pub(super) store: Arc<Store>,
    pools: RwLock<Pools>,
    /// What is left of pools that a reset destroyed.
    leftovers: Mutex<VecDeque<Flush>>,
}

/// Names one page of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageName {
    /// The guest's pool.
    pub pool: u32,
    /// The object in it.
    pub object: ObjectId,
    /// The page of the object.
    pub index: u64,
}

impl PageName {
    fn key(&self) -> Key {
        Key {
            object: ObjectKey {
                pool: self.pool,
                object: object_words(&self.object),
            },
            index: self.index,
        }
    }
}

#[derive(Default)]
pub(super) struct Pools {
    pub(super) kinds: BTreeMap<u32, PoolKind>,
    /// Where the search for a free id begins; ids are not used again before all others were.
    next: u32,
}

impl HostPool {
    /// Adds a guest. `None` when as many guests were added as the pool can tell apart (2^32 - 1).
    pub fn register(self: &Arc<Self>) -> Option<Guest> {
        let id = self
            .next_guest
            .fetch_update(Relaxed, Relaxed, |id| {
                // The last one stands for none.
                id.checked_add(1).filter(|next| *next < u32::MAX)
            })
            .ok()?;
        let store = Arc::new(Store::new(id, &self.config, &self.arena));
        self.books.open(id);
        self.stores
            .write()
            .expect("no thread panics while it holds the stores")
            .insert(id, Arc::clone(&store));
        Some(Guest {
            pool: Arc::clone(self),
            store,
            pools: RwLock::default(),
            leftovers: Mutex::default(),
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
        work::add(work::CALL);
        while pools.kinds.contains_key(&pools.next) {
            work::add(1);
            pools.next = pools.next.wrapping_add(1);
        }
        let id = pools.next;
        pools.kinds.insert(id, kind);
        pools.next = id.wrapping_add(1);
        Ok(id)
    }

    /// Drops a pool with all its pages.
    pub fn destroy_pool(&self, pool: u32) -> Result<(), PoolError> {
        let flush = self.begin_destroy(pool)?;
        self.finish(flush);
        Ok(())
    }

    /// The guest has no such pool any more; its kind, if it had one. Waits for what is being done with its pages.
    pub(super) fn remove_pool(&self, pool: u32) -> Option<PoolKind> {
        let mut pools = self
            .pools
            .write()
            .expect("no thread panics while it holds the pools");
        pools.kinds.remove(&pool)
    }

    /// Drops all pools, and takes back all credit.
    pub fn reset(&self) {
        self.begin_reset();
        while !self.drop_leftovers() {}
    }

    /// The same, for the guest: no page that was put before can be got. The pages themselves go as
    /// [`Guest::drop_leftovers`] is called.
    pub fn begin_reset(&self) {
        let mut pools = self
            .pools
            .write()
            .expect("no thread panics while it holds the pools");
        let kinds = std::mem::take(&mut pools.kinds);
        drop(pools);
        // Pools without a page leave nothing, or a guest could have many of those remembered.
        let left = kinds.into_iter().filter(|(pool, _)| {
            work::add(work::CALL);
            self.store.sum(|shard| shard.objects.pages_of(*pool)) > 0
        });
        self.leftovers()
            .extend(left.map(|(pool, kind)| Flush::of_pool(pool, kind)));
        self.pool.books.revoke(self.store.guest);
        self.store.evictions.set_wanted(false);
    }

    /// Takes a turn at dropping what resets have left; whether nothing is left.
    pub fn drop_leftovers(&self) -> bool {
        let mut leftovers = self.leftovers();
        let Some(flush) = leftovers.front_mut() else {
            return true;
        };
        if self.go_on(flush) {
            leftovers.pop_front();
        }
        leftovers.is_empty()
    }

    fn leftovers(&self) -> MutexGuard<'_, VecDeque<Flush>> {
        self.leftovers
            .lock()
            .expect("no thread panics while it holds what is left")
    }

    /// Stores a page, in place of an older one of the same key. After an error the key is absent.
    /// A persistent put spends one page of credit if the guest has any, and is then refused only if the guest is frozen.
    pub fn put(
        &self,
        pool: u32,
        object: &ObjectId,
        index: u64,
        page: &Page,
    ) -> Result<(), PoolError> {
        let name = PageName {
            pool,
            object: *object,
            index,
        };
        let mut result = [Ok(())];
        self.put_all(&[name], std::slice::from_ref(page), &mut result);
        result[0]
    }

    /// Stores pages, one after the other, each as [`Guest::put`] does; those of an object are stored together.
    ///
    /// # Panics
    /// The three slices are not of one length.
    pub fn put_all(
        &self,
        names: &[PageName],
        pages: &[Page],
        results: &mut [Result<(), PoolError>],
    ) {
        assert!(names.len() == pages.len() && names.len() == results.len());
        let pools = self.pools_by_id();
        let mut at = 0;
        while at < names.len() {
            let Some((kind, run)) = self.run(&pools, &names[at..]) else {
                results[at] = Err(PoolError::NoSuchPool);
                at += 1;
                continue;
            };
            let mut keys = [(run.first, &pages[at]); BATCH];
            for (place, number) in keys.iter_mut().zip(at..at + run.length) {
                *place = (names[number].key(), &pages[number]);
            }
            let results = &mut results[at..at + run.length];
            self.pool
                .put(&self.store, kind, &keys[..run.length], results);
            at += run.length;
        }
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
        let name = PageName {
            pool,
            object: *object,
            index,
        };
        let mut result = [Ok(false)];
        self.get_all(&[name], std::slice::from_mut(page), &mut result);
        result[0]
    }

    /// Reads pages, one after the other, each as [`Guest::get`] does; those of an object are read together.
    ///
    /// # Panics
    /// The three slices are not of one length.
    pub fn get_all(
        &self,
        names: &[PageName],
        pages: &mut [Page],
        results: &mut [Result<bool, PoolError>],
    ) {
        assert!(names.len() == pages.len() && names.len() == results.len());
        let pools = self.pools_by_id();
        let mut at = 0;
        while at < names.len() {
            let Some((kind, run)) = self.run(&pools, &names[at..]) else {
                results[at] = Err(PoolError::NoSuchPool);
                at += 1;
                continue;
            };
            let mut keys = [run.first; BATCH];
            for (key, name) in keys.iter_mut().zip(&names[at..at + run.length]) {
                *key = name.key();
            }
            let (keys, end) = (&keys[..run.length], at + run.length);
            let (pages, results) = (&mut pages[at..end], &mut results[at..end]);
            self.pool.get(&self.store, kind, keys, pages, results);
            at = end;
        }
    }

    /// How many of the first pages are of one pool, and of objects in one shard; [`BATCH`] at most. `None` if the first one's
    /// pool does not exist.
    fn run(&self, pools: &Pools, names: &[PageName]) -> Option<(PoolKind, Run)> {
        let first = names.first()?;
        let kind = *pools.kinds.get(&first.pool)?;
        let first = first.key();
        let shard = self.store.shard_of(&first.object);
        let alike = names.iter().take(BATCH).take_while(|name| {
            let object = name.key().object;
            object == first.object
                || object.pool == first.object.pool && self.store.shard_of(&object) == shard
        });
        let length = alike.count();
        Some((kind, Run { first, length }))
    }

    /// Drops one page; returns how many pages there were.
    pub fn flush_page(&self, pool: u32, object: &ObjectId, index: u64) -> Result<u64, PoolError> {
        self.with(pool, object, index, |key, kind| {
            u64::from(self.pool.flush_page(&self.store, kind, &key))
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
        let flush = self.begin_flush(pool, object, indexes(index, count))?;
        Ok(self.finish(flush))
    }

    /// Drops all pages of an object; returns how many there were.
    pub fn flush_object(&self, pool: u32, object: &ObjectId) -> Result<u64, PoolError> {
        let flush = self.begin_flush(pool, object, 0..=u64::MAX)?;
        Ok(self.finish(flush))
    }

    /// Promises as many further persistent puts as the guest's limit and the room in the pool
    /// allow; returns how many pages that is.
    pub fn grant_credit(&self) -> u32 {
        self.pool.books.grant(self.store.guest)
    }

    /// Persistent puts that could be promised now in addition, in pages.
    pub fn grantable_credit(&self) -> u32 {
        self.pool.books.grantable(self.store.guest)
    }

    /// Persistent puts that were promised and have not been sent yet, in pages.
    pub fn credit(&self) -> u32 {
        self.pool.books.promised_to(self.store.guest)
    }

    /// Takes back all credit.
    pub fn revoke_credit(&self) {
        self.pool.books.revoke(self.store.guest);
    }

    /// Whether evictions of the guest's pages are noted from now on; what was noted before is forgotten.
    pub fn note_evictions(&self, wanted: bool) {
        self.store.evictions.set_wanted(wanted);
    }

    /// Runs of evicted pages that [`Guest::take_evictions`] would yield now, but for the latest that hold `latest` pages.
    pub fn evictions_waiting(&self, latest: u64) -> usize {
        match latest {
            0 => self.store.evictions.waiting(),
            pages => self.store.evictions.waiting_before(pages),
        }
    }

    /// Pages whose eviction was noted and forgotten again, because nobody fetched it in time.
    pub fn evictions_forgotten(&self) -> u64 {
        self.store.evictions.forgotten()
    }

    /// Moves at most `limit` runs of pages that were evicted to the end of `to`, the earliest first. A page among
    /// them may have been put again since.
    pub fn take_evictions(&self, limit: usize, to: &mut Vec<Evicted>) {
        self.store.evictions.take(limit, to);
    }

    fn with<R>(
        &self,
        pool: u32,
        object: &ObjectId,
        index: u64,
        f: impl FnOnce(Key, PoolKind) -> R,
    ) -> Result<R, PoolError> {
        let name = PageName {
            pool,
            object: *object,
            index,
        };
        let pools = self.pools_by_id();
        let kind = *pools.kinds.get(&pool).ok_or(PoolError::NoSuchPool)?;
        Ok(f(name.key(), kind))
    }

    pub(super) fn pools_by_id(&self) -> RwLockReadGuard<'_, Pools> {
        self.pools
            .read()
            .expect("no thread panics while it holds the pools")
    }

    /// Sets what the guest may take of the pool. What it has beyond its new maximum goes as it puts.
    pub fn set_share(&self, share: Share) {
        self.pool.books.set_share(self.store.guest, share);
    }

    /// Refuses all puts from now on, or no longer. A put that is refused drops the older page of its key, and spends the credit that
    /// it was sent with.
    pub fn freeze(&self, frozen: bool) {
        self.store.frozen.store(frozen, Relaxed);
    }
}

/// Pages that are put or got together.
struct Run {
    first: Key,
    length: usize,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.reset();
        if let Ok(mut stores) = self.pool.stores.write() {
            stores.remove(&self.store.guest);
        }
        self.pool.books.close(self.store.guest);
    }
}
