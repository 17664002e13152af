use std::sync::Arc;

use super::super::{Page, PoolConfig, Share, WORST_PAGE};
use super::*;
use crate::wire::PAGE_SIZE;

/// A page that compresses to about half.
fn page(number: u64) -> Page {
    let mut state = number.wrapping_mul(2) | 1;
    std::array::from_fn(|at| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        if at % 128 < 64 {
            (state >> 56) as u8
        } else {
            number as u8
        }
    })
}

fn pool(pages: u64) -> (Arc<HostPool>, Guest) {
    let pool = HostPool::new(PoolConfig {
        credit: 0,
        ..PoolConfig::new(pages * WORST_PAGE)
    });
    let guest = pool.register().expect("a guest");
    (pool, guest)
}

/// Puts pages `0..count`; how many were taken.
fn put(guest: &Guest, pool: u32, count: u64) -> u64 {
    let taken = (0..count).filter(|&number| {
        let object = [(number / 100) as u8; _];
        guest.put(pool, &object, number, &page(number)).is_ok()
    });
    taken.count() as u64
}

/// Pages `0..count` that are there, each of them right.
fn got(guest: &Guest, pool: u32, count: u64) -> u64 {
    let mut bytes = [0; PAGE_SIZE];
    let there = (0..count).filter(|&number| {
        let object = [(number / 100) as u8; _];
        let there = guest.get(pool, &object, number, &mut bytes) == Ok(true);
        assert!(!there || bytes == page(number), "page {number}");
        there
    });
    there.count() as u64
}

#[test]
fn an_announced_size_holds_at_once_and_is_kept_to_later() {
    let (pool, guest) = pool(1000);
    let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    assert_eq!(put(&guest, ephemeral, 900), 900);
    let used = pool.stats().used_bytes;
    pool.announce_size(500 * WORST_PAGE);
    assert_eq!(pool.size(), 500 * WORST_PAGE);
    assert_eq!(pool.stats().used_bytes, used);
    pool.keep_to_size();
    assert!(pool.stats().used_bytes <= 500 * WORST_PAGE);
    pool.audit();
}

#[test]
fn evicting_all_leaves_persistent_pages_and_tells_the_guest() {
    let (pool, guest) = pool(2000);
    guest.note_evictions(true);
    let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    let persistent = guest.new_pool(PoolKind::Persistent).expect("a pool");
    assert_eq!(put(&guest, ephemeral, 800), 800);
    assert_eq!(put(&guest, persistent, 300), 300);
    guest.evict_all();
    assert_eq!(guest.holding().ephemeral_bytes, 0);
    assert_eq!(pool.stats().stored_pages, 300);
    let mut told = vec![];
    guest.take_evictions(usize::MAX, &mut told);
    assert!(!told.is_empty());
    assert_eq!(got(&guest, ephemeral, 800), 0);
    assert_eq!(got(&guest, persistent, 300), 300);
    pool.audit();
}

#[test]
fn a_flushed_pool_stays_and_persistent_ones_are_not_flushed() {
    let (pool, guest) = pool(2000);
    let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    let other = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    let persistent = guest.new_pool(PoolKind::Persistent).expect("a pool");
    for each in [ephemeral, other, persistent] {
        assert_eq!(put(&guest, each, 100), 100);
    }
    assert_eq!(guest.flush_pool(ephemeral), Ok(()));
    assert_eq!(
        guest.flush_pool(persistent),
        Err(FlushError::Persistent(persistent))
    );
    assert_eq!(guest.flush_pool(77), Err(FlushError::NoSuchPool(77)));
    assert_eq!(got(&guest, ephemeral, 100), 0);
    assert_eq!(got(&guest, other, 100), 100);
    assert_eq!(got(&guest, persistent, 100), 100);
    assert_eq!(put(&guest, ephemeral, 100), 100);
    assert_eq!(guest.pools().len(), 3);
    pool.audit();
}

#[test]
fn without_compression_pages_stay_as_they_came() {
    let (pool, guest) = pool(1000);
    let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    pool.set_compressing(false);
    put(&guest, ephemeral, 3000);
    let stats = pool.stats();
    assert_eq!(stats.stored_bytes, stats.stored_pages * PAGE_SIZE as u64);
    pool.set_compressing(true);
    put(&guest, ephemeral, 3000);
    let stats = pool.stats();
    assert!(stats.stored_bytes < stats.stored_pages * PAGE_SIZE as u64 * 3 / 4);
    pool.audit();
}

#[test]
fn what_a_guest_may_have_can_be_read_back() {
    let (_pool, guest) = pool(1000);
    let share = Share {
        weight: 3,
        minimum: 1 << 20,
        maximum: 2 << 20,
    };
    guest.set_share(share);
    assert_eq!(guest.holding().share, share);
    assert!(!guest.is_frozen());
    guest.freeze(true);
    assert!(guest.is_frozen());
}

/// New pages were evicted as they came, for as long as an older one was in the other queue.
#[test]
fn evicting_all_does_not_follow_a_guest_that_streams_puts() {
    let (_pool, guest) = pool(2000);
    let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    // Pages that came again are in the main queue, and pages that did not are more than a tenth.
    assert_eq!(put(&guest, ephemeral, 100), 100);
    assert_eq!(got(&guest, ephemeral, 100), 100);
    assert_eq!(put(&guest, ephemeral, 600), 600);
    let (mut new, mut segments) = (1_000_000, 0);
    guest.evict_older(guest.store.age(), || {
        segments += 1;
        assert!(segments < 100, "it goes on for as long as there are puts");
        for _ in 0..40 {
            new += 1;
            guest
                .put(ephemeral, &[9; _], new, &page(new))
                .expect("room");
        }
    });
    assert_eq!(got(&guest, ephemeral, 600), 0);
}
