//! What the pool holds of one guest: a few shards, so that threads rarely meet.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use super::PoolConfig;
use super::arena::Arena;
use super::evictions::EvictionLog;
use super::filled::Queue;
use super::key::ObjectKey;
use super::shard::{Hints, Shard};

/// Shards of a guest at most.
const MAX_SHARDS: u64 = 8;

/// Bytes of a pool's size for which a guest has one shard: each has up to six open segments, which take memory before
/// they hold data.
const SHARD_SIZE: u64 = 32 << 20;

/// How often a thread looks whether a shard is free before it sleeps: a batch holds one for a few microseconds, while to sleep
/// and to be woken takes tens of them where the processor is a virtual one, and the waker a system call.
const LOOKS: usize = 1000;

/// A shard behind its lock, and what is known of it without.
struct Locked {
    shard: Mutex<Shard>,
    raw: AtomicU64,
    dead_ephemeral: AtomicU64,
    dead_persistent: AtomicU64,
    dirty: AtomicU64,
    below_ephemeral: AtomicU64,
    below_persistent: AtomicU64,
}

impl Locked {
    fn lock(&self) -> MutexGuard<'_, Shard> {
        for _ in 0..LOOKS {
            match self.shard.try_lock() {
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(_)) => break,
            }
        }
        self.shard
            .lock()
            .expect("no thread panics while it holds a shard")
    }
}

/// A guest's pages.
pub(super) struct Store {
    pub guest: u32,
    seed: u64,
    shards: Box<[Locked]>,
    /// Rises with each segment that is opened.
    ages: AtomicU64,
    pub evictions: EvictionLog,
    /// No page is taken.
    pub frozen: AtomicBool,
}

impl Store {
    /// An empty store in a pool of that configuration.
    pub fn new(guest: u32, config: &PoolConfig, arena: &Arc<Arena>) -> Self {
        let shard = |_| Locked {
            shard: Mutex::new(Shard::new(Arc::clone(arena), config.seed)),
            raw: AtomicU64::new(0),
            dead_ephemeral: AtomicU64::new(0),
            dead_persistent: AtomicU64::new(0),
            dirty: AtomicU64::new(0),
            below_ephemeral: AtomicU64::new(0),
            below_persistent: AtomicU64::new(0),
        };
        Store {
            guest,
            seed: config.seed,
            shards: (0..(config.size / SHARD_SIZE).clamp(1, MAX_SHARDS))
                .map(shard)
                .collect(),
            ages: AtomicU64::new(0),
            evictions: EvictionLog::default(),
            frozen: AtomicBool::new(false),
        }
    }

    /// The number of the shard that an object's pages are in.
    pub fn shard_of(&self, object: &ObjectKey) -> usize {
        (object.hash(self.seed) >> 32) as usize % self.shards.len()
    }

    /// The numbers of all shards.
    pub fn numbers(&self) -> Range<usize> {
        0..self.shards.len()
    }

    /// Calls `f` with a shard locked. `f` may take the lock of the pool's books, and no other shard's. Returns how the
    /// figures changed, too.
    pub fn with<R>(&self, shard: usize, f: impl FnOnce(&mut Shard) -> R) -> (R, Change) {
        let locked = &self.shards[shard];
        let mut guard = locked.lock();
        let before = guard.hints();
        let result = f(&mut guard);
        let after = guard.hints();
        if after != before {
            locked.raw.store(after.raw, Relaxed);
            locked.dead_ephemeral.store(after.dead_ephemeral, Relaxed);
            locked.dead_persistent.store(after.dead_persistent, Relaxed);
            locked.dirty.store(after.dirty, Relaxed);
            locked.below_ephemeral.store(after.below_ephemeral, Relaxed);
            locked
                .below_persistent
                .store(after.below_persistent, Relaxed);
        }
        (result, Change { before, after })
    }

    /// The next age of a segment.
    pub fn next_age(&self) -> u64 {
        self.ages.fetch_add(1, Relaxed)
    }

    /// What [`Store::next_age`] would return.
    pub fn age(&self) -> u64 {
        self.ages.load(Relaxed)
    }

    /// What is known of a shard.
    pub fn hints(&self, shard: usize) -> Hints {
        let locked = &self.shards[shard];
        Hints {
            raw: locked.raw.load(Relaxed),
            dead_ephemeral: locked.dead_ephemeral.load(Relaxed),
            dead_persistent: locked.dead_persistent.load(Relaxed),
            dirty: locked.dirty.load(Relaxed),
            below_ephemeral: locked.below_ephemeral.load(Relaxed),
            below_persistent: locked.below_persistent.load(Relaxed),
        }
    }

    /// The age of the oldest segment of a queue, and its shard.
    pub fn oldest(&self, queue: Queue) -> Option<(u64, usize)> {
        let age = |shard: usize| {
            let locked: &Locked = &self.shards[shard];
            locked.lock().segments.oldest_age(queue)
        };
        let ages = self
            .numbers()
            .filter_map(|shard| Some((age(shard)?, shard)));
        ages.min()
    }

    /// The sum of `f` over all shards.
    pub fn sum<T: std::iter::Sum>(&self, f: impl Fn(&Shard) -> T) -> T {
        let shards = self.shards.iter();
        shards.map(|locked| f(&locked.lock())).sum()
    }
}

/// How a shard's figures changed.
pub(super) struct Change {
    pub before: Hints,
    pub after: Hints,
}
