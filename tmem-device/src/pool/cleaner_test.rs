use std::sync::Arc;

use super::super::books::{OBJECT_METADATA, PAGE_METADATA, WHOLE_COST, data_cost};
use super::super::{Guest, Page, PoolConfig};
use super::*;

/// A page that compresses well, of its own content.
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

/// A pool with room for `pages` raw pages of one object, and for the object that a put asks room for, without credit for anybody.
fn pool(pages: u64, kind: PoolKind) -> (Arc<HostPool>, Guest, u32) {
    let pool = HostPool::new(PoolConfig {
        credit: 0,
        ..PoolConfig::new(pages * WHOLE_COST + 2 * OBJECT_METADATA)
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
    let stats = pool.stats();
    assert_eq!(stats.raw_pages, 78);
    assert_eq!(stats.used_bytes, 78 * WHOLE_COST + OBJECT_METADATA);
    assert_eq!(stats.arena_bytes, 78 * PAGE_SIZE as u64);
}

#[test]
fn one_segment_is_compressed_when_that_suffices() {
    let (pool, guest, id) = pool(80, PoolKind::Persistent);
    for number in 0..79 {
        assert!(put(&guest, id, number, &text(number)));
    }
    let raw = pool.stats().raw_pages;
    assert!((79 - 32..79).contains(&raw), "{raw} of 79");
    for number in 0..79 {
        check(&guest, id, number, &text(number));
    }
    pool.audit();
}

#[test]
fn compression_multiplies_what_fits_and_some_stay_raw() {
    let (pool, guest, id) = pool(800, PoolKind::Ephemeral);
    let compressed =
        codec::compress(&text(1), |data| data.map(<[u8]>::len)).expect("it compresses");
    assert!(compressed < 64, "{compressed}");
    for number in 0..80_000 {
        assert!(put(&guest, id, number, &text(number)));
    }
    let stats = pool.stats();
    assert!(stats.evictions > 0, "{stats:?}");
    assert!(
        stats.stored_pages > 800 * WHOLE_COST / (data_cost(compressed) + PAGE_METADATA) / 2,
        "{stats:?}"
    );
    // And those that came since a segment was evicted, which is room for that many.
    assert!(stats.raw_pages <= 800 / RAW_SHARE + 64, "{stats:?}");
    check(&guest, id, 79_999, &text(79_999));
    check(&guest, id, 79_970, &text(79_970));
    pool.audit();
}

#[test]
fn a_persistent_put_is_refused_only_when_nothing_compresses_any_more() {
    let (pool, guest, id) = pool(16, PoolKind::Persistent);
    let taken = (0..10_000).take_while(|&number| put(&guest, id, number, &text(number)));
    let taken = taken.count() as u64;
    let stats = pool.stats();
    assert_eq!((stats.raw_pages, stats.stored_pages), (0, taken));
    // All but the room that a whole page would have needed.
    assert!(
        stats.used_bytes + WORST_PAGE > pool.config().size,
        "{stats:?}"
    );
    assert!(taken > 500, "{taken}");
    for number in 0..taken {
        check(&guest, id, number, &text(number));
    }
    pool.audit();
}

#[test]
fn what_does_not_compress_is_tried_once_and_kept() {
    let (pool, guest, id) = pool(16, PoolKind::Persistent);
    for number in 0..16 {
        assert!(put(&guest, id, number, &noise(number)));
    }
    assert!(!put(&guest, id, 16, &noise(16)));
    assert_eq!(pool.stats().raw_pages, 0);
    assert!(!pool.squeeze(0, false));
    for number in 0..16 {
        check(&guest, id, number, &noise(number));
    }
    pool.audit();
}

#[test]
fn the_places_of_whole_pages_are_used_again() {
    let (pool, guest, id) = pool(4096, PoolKind::Ephemeral);
    let mut page = [0; PAGE_SIZE];
    for number in 0..2048 {
        assert!(put(&guest, id, number, &noise(number)));
    }
    let full = pool.stats().arena_bytes;
    // Half of them come and go, in another order each time.
    for round in 0..20 {
        for number in (0..2048).filter(|number| (number * 7 + round) % 16 < 8) {
            assert_eq!(guest.get(id, &[0; _], number, &mut page), Ok(true));
            assert_eq!(page, noise(number));
        }
        for number in (0..2048).filter(|number| (number * 7 + round) % 16 < 8) {
            assert!(put(&guest, id, number, &noise(number)));
        }
        let stats = pool.stats();
        assert_eq!(stats.stored_pages, 2048);
        assert!(
            stats.arena_bytes <= full + full / WASTE + SMALL_WASTE,
            "{} of {full} bytes",
            stats.arena_bytes
        );
    }
    pool.audit();
}

/// What is charged for pages that have gone stays below an eighth of what is stored, and 256 KiB.
#[test]
fn gaps_are_closed() {
    let (pool, guest, id) = pool(1024, PoolKind::Persistent);
    let number_of = |number: u64| text(number);
    for number in 0..16_000 {
        assert!(put(&guest, id, number, &number_of(number)), "{number}");
    }
    let mut state = 1u64;
    for _ in 0..60_000 {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let number = (state >> 33) % 16_000;
        if state >> 20 & 1 == 0 {
            assert!(guest.flush_page(id, &[0; _], number).is_ok());
        } else {
            put(&guest, id, number, &number_of(number));
        }
        // A put is what closes gaps.
        put(&guest, id, number ^ 1, &number_of(number ^ 1));
        let stats = pool.stats();
        assert!(
            stats.dead_bytes <= SMALL_WASTE + stats.used_bytes / WASTE + (256 << 10),
            "{stats:?}"
        );
    }
    let mut page = [0; PAGE_SIZE];
    for number in 0..16_000 {
        if guest.get(id, &[0; _], number, &mut page) == Ok(true) {
            assert_eq!(page, number_of(number));
        }
    }
    pool.audit();
}

#[test]
fn a_page_replaced_or_flushed_while_it_is_moved_stays_so() {
    let (pool, guest, id) = pool(64, PoolKind::Persistent);
    for number in 0..3 {
        assert!(put(&guest, id, number, &text(number)));
    }
    let store = pool.store(0).expect("the guest's");
    let shard = store
        .numbers()
        .find(|shard| store.hints(*shard).raw == 3)
        .expect("the object's");
    let (id_of, _) = store.with(shard, |shard| shard.segments.raw_from(Queue::Persistent, 0));
    let segment = id_of.expect("there is one");
    store.with(shard, |shard| shard.segments.leave(segment));
    let mut pages = [[0; PAGE_SIZE]; BATCH];
    let copied = pool.with(&store, shard, PoolKind::Persistent, |shard, left| {
        shard.copy_pages(segment, 0, &mut pages, left)
    });
    assert_eq!(copied.len(), 3);
    assert!(put(&guest, id, 0, &text(100)));
    assert_eq!(guest.flush_page(id, &[0; _], 1), Ok(1));
    pool.with(&store, shard, PoolKind::Persistent, |shard, left| {
        let moved = copied.iter().map(|copied| {
            let moved = shard.move_page(segment, copied, Data::Short(&[0xee; 9]), left);
            moved
                .map(|(cost, _)| pool.books.add(0, PoolKind::Persistent, cost))
                .is_some()
        });
        assert_eq!(moved.collect::<Vec<_>>(), [false, false, true]);
    });
    check(&guest, id, 0, &text(100));
    let mut page = [0; PAGE_SIZE];
    assert_eq!(guest.get(id, &[0; _], 1, &mut page), Ok(false));
    // What it was moved as is not a page, which is noticed.
    assert_eq!(
        guest.get(id, &[0; _], 2, &mut page),
        Err(super::super::PoolError::Lost)
    );
}
