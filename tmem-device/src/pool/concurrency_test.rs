//! Threads of several guests on one pool: no page is ever other than the last one put.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::wire::PAGE_SIZE;

const THREADS: u64 = 8;
const KEYS: u64 = 96;
const STEPS: u64 = 12_000;

/// Half of the page says which key and version it is, the rest is as compressible as `noise` says.
fn stamp(key: u64, version: u64, noise: bool) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut state = key << 32 | version | 1 << 63;
    for (at, chunk) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        if noise && at % 2 == 1 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *chunk = state.to_le_bytes();
        } else {
            *chunk = (key << 32 | version).to_le_bytes();
        }
    }
    page
}

fn word(page: &Page) -> u64 {
    let words = page.as_chunks::<8>().0;
    assert!(
        words.iter().step_by(2).all(|word| *word == words[0]),
        "a torn page"
    );
    u64::from_le_bytes(words[0])
}

/// Each thread owns its keys, and knows what it put last; the shards and the cap are shared by all.
/// A thread that is alone with its guest knows its credit too.
fn work(guest: &Guest, ephemeral: u32, persistent: u32, thread: u64, alone: bool) {
    let mut random = thread + 1;
    let mut latest = vec![None; 2 * KEYS as usize];
    let mut page = [0; PAGE_SIZE];
    for version in 0..STEPS {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let key = (random >> 33) % (2 * KEYS);
        let (id, index) = if key < KEYS {
            (ephemeral, key)
        } else {
            (persistent, key)
        };
        let object = [(key % 5) as u8; _];
        // Threads of one guest write to the same objects, at indexes of their own.
        let index = index << 8 | thread;
        let latest = &mut latest[key as usize];
        match (random >> 20) % 8 {
            0..4 => {
                guest.grant_credit();
                let promised = alone && id == persistent && guest.credit() > 0;
                let page = stamp(key << 8 | thread, version, version % 3 != 0);
                let result = guest.put(id, &object, index, &page);
                assert!(result.is_ok() || !promised, "a promise was broken");
                *latest = result.is_ok().then_some(version);
            }
            4..7 => {
                let hit = guest
                    .get(id, &object, index, &mut page)
                    .expect("the pool exists");
                if hit {
                    let expected = latest.expect("a get after a flush or refusal finds nothing");
                    assert_eq!(word(&page), (key << 8 | thread) << 32 | expected);
                }
                if id == persistent {
                    assert_eq!(hit, latest.is_some(), "a persistent page is kept");
                } else {
                    *latest = None;
                }
            }
            _ => {
                guest
                    .flush_page(id, &object, index)
                    .expect("the pool exists");
                *latest = None;
            }
        }
    }
}

#[test]
fn threads_never_see_anything_but_the_last_put() {
    let size = THREADS * KEYS * 2_000;
    let pool = HostPool::new(PoolConfig {
        credit: 64,
        ..PoolConfig::new(size)
    });
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                assert!(pool.stats().promised_pages <= 4 * 64);
                std::thread::yield_now();
            }
        });
        std::thread::scope(|scope| {
            // One guest with five threads, three with one.
            for threads in [0..5, 5..6, 6..7, 7..THREADS] {
                let guest = Arc::new(pool.register().expect("a guest"));
                let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
                let persistent = guest.new_pool(PoolKind::Persistent).expect("a pool");
                let alone = threads.end - threads.start == 1;
                for thread in threads {
                    let guest = Arc::clone(&guest);
                    scope.spawn(move || work(&guest, ephemeral, persistent, thread, alone));
                }
            }
        });
        running.store(false, Ordering::Relaxed);
        watcher.join().expect("the watcher saw nothing wrong");
    });
    pool.audit();
    assert!(pool.stats().evictions > 0, "the test is meant to evict");
    assert_eq!(pool.stats().used_bytes, 0, "all guests are gone");
}
