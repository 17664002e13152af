use std::sync::Arc;

use super::super::ledger::{OBJECT_METADATA, PAGE_METADATA};
use super::super::pieces::PIECE_COST;
use super::super::{Guest, Page, PoolConfig};
use super::*;
use crate::wire::PAGE_SIZE;

/// A page that compresses into one piece, of its own content.
fn text(number: u64) -> Page {
    let mut page = [b' '; PAGE_SIZE];
    page[..8].copy_from_slice(&number.to_le_bytes());
    page
}

fn noise(seed: u64) -> Page {
    let mut state = seed.wrapping_mul(2) | 1;
    std::array::from_fn(|_| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    })
}

/// What a raw page takes, beside its object, and one that compresses into one piece.
const RAW: u64 = WORST_PAGE - OBJECT_METADATA;
const SQUEEZED: u64 = PIECE_COST + PAGE_METADATA;

/// A pool with room for `pages` raw pages of one object, and for the object that a put asks room for, without credit for anybody.
fn pool(pages: u64, kind: PoolKind) -> (Arc<HostPool>, Guest, u32) {
    let pool = HostPool::new(PoolConfig {
        credit: 0,
        ..PoolConfig::new(pages * RAW + 2 * OBJECT_METADATA)
    });
    let guest = pool.register().expect("a guest");
    let id = guest.new_pool(kind).expect("a pool");
    (pool, guest, id)
}

fn put(guest: &Guest, id: u32, number: u64, page: &Page) -> bool {
    guest.put(id, &[0; _], number, page).is_ok()
}

fn check(guest: &Guest, id: u32, number: u64, expected: &Page) {
    let mut found = [0; PAGE_SIZE];
    assert_eq!(guest.get(id, &[0; _], number, &mut found), Ok(true));
    assert_eq!(&found, expected);
}

#[test]
fn pages_stay_raw_while_there_is_room() {
    let (pool, guest, id) = pool(80, PoolKind::Persistent);
    for number in 0..78 {
        assert!(put(&guest, id, number, &text(number)));
    }
    assert_eq!(pool.raw_pages(), 78);
    assert_eq!(pool.stats().used_bytes, 78 * RAW + OBJECT_METADATA);
}

#[test]
fn as_many_are_compressed_as_it_takes() {
    let (pool, guest, id) = pool(80, PoolKind::Persistent);
    for number in 0..79 {
        assert!(put(&guest, id, number, &text(number)));
    }
    // One saves 3120 bytes, more than are too many: a quarter of a page.
    assert_eq!(pool.raw_pages(), 78);
    for number in 0..79 {
        check(&guest, id, number, &text(number));
    }
}

#[test]
fn compression_multiplies_what_fits_and_some_stay_raw() {
    let (pool, guest, id) = pool(80, PoolKind::Ephemeral);
    for number in 0..2000 {
        assert!(put(&guest, id, number, &text(number)));
    }
    let stats = pool.stats();
    assert_eq!(
        pool.raw_pages(),
        pool.config().size / RAW_SHARE / WORST_PAGE
    );
    // 1172 bytes each, of 4292; four are raw.
    assert!(stats.stored_pages > 5 + 70 * 3, "{stats:?}");
    assert!(stats.evictions > 0, "{stats:?}");
    check(&guest, id, 1999, &text(1999));
    check(&guest, id, 1970, &text(1970));
}

#[test]
fn a_persistent_put_is_refused_only_when_nothing_compresses_any_more() {
    let (pool, guest, id) = pool(16, PoolKind::Persistent);
    let taken = (0..1000).take_while(|&number| put(&guest, id, number, &text(number)));
    let taken = taken.count() as u64;
    assert_eq!(pool.raw_pages(), 0);
    assert_eq!(taken, (16 * RAW - OBJECT_METADATA) / SQUEEZED);
    for number in 0..taken {
        check(&guest, id, number, &text(number));
    }
}

#[test]
fn what_does_not_compress_is_tried_once_and_kept() {
    let (pool, guest, id) = pool(16, PoolKind::Persistent);
    for number in 0..16 {
        assert!(put(&guest, id, number, &noise(number)));
    }
    assert!(!put(&guest, id, 16, &noise(16)));
    assert_eq!(pool.raw_pages(), 0);
    assert!(!pool.squeeze_one());
    for number in 0..16 {
        check(&guest, id, number, &noise(number));
    }
}

#[test]
fn a_page_replaced_while_it_is_compressed_stays_the_new_one() {
    let (pool, guest, id) = pool(16, PoolKind::Persistent);
    assert!(put(&guest, id, 0, &text(0)));
    let shard = pool.shards.iter().find(|shard| shard.raw_pages() == 1);
    let shard = shard.expect("the page's");
    let raw = shard.with(|pages| pages.copy_raw(0)).expect("it is raw");
    assert!(put(&guest, id, 0, &text(1)));
    let stored = Stored::compress(&raw.page).expect("it compresses");
    assert!(shard.with(|pages| pages.reform(&raw, stored)).is_none());
    check(&guest, id, 0, &text(1));

    let raw = shard
        .with(|pages| pages.copy_raw(0))
        .expect("the new one is raw");
    assert_eq!(guest.flush_page(id, &[0; _], 0), Ok(1));
    let stored = Stored::compress(&raw.page).expect("it compresses");
    assert!(shard.with(|pages| pages.reform(&raw, stored)).is_none());
    pool.audit();
}
