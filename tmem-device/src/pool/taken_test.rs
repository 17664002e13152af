//! The kernel takes memory of ephemeral pages: they are missed, and never wrong.

use super::*;

const PAGES: u64 = 4000;

/// Two in three do not compress.
fn page(number: u64) -> Page {
    let mut state = number.wrapping_mul(2) | 1;
    let noise = !number.is_multiple_of(3);
    std::array::from_fn(|at| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        if noise || at % 128 < 8 {
            (state >> 56) as u8
        } else {
            number as u8
        }
    })
}

/// A pool that is full, and has compressed what it can.
fn full() -> (Arc<HostPool>, Guest, u32, u32) {
    let pool = HostPool::new(PoolConfig {
        credit: 0,
        ..PoolConfig::new(PAGES * WORST_PAGE)
    });
    let guest = pool.register().expect("a guest");
    let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    let persistent = guest.new_pool(PoolKind::Persistent).expect("a pool");
    for number in 0..100 {
        guest
            .put(persistent, &[9; _], number, &page(number))
            .expect("room");
    }
    for number in 0..PAGES {
        let object = [(number / 100) as u8; _];
        guest
            .put(ephemeral, &object, number, &page(number))
            .expect("room");
    }
    (pool, guest, ephemeral, persistent)
}

fn lose(pool: &HostPool, memory_page: usize) {
    for store in pool.all_stores() {
        for shard in store.numbers() {
            store.with(shard, |shard| shard.segments.lose(memory_page));
        }
    }
}

/// Gets all ephemeral pages; how many were there.
fn get_all(guest: &Guest, ephemeral: u32) -> u64 {
    let mut got = [0; PAGE_SIZE];
    let found = (0..PAGES).filter(|number| {
        let object = [(number / 100) as u8; _];
        let found = guest.get(ephemeral, &object, *number, &mut got);
        let found = found.expect("the pool exists");
        assert!(!found || got == page(*number), "page {number} is wrong");
        found
    });
    found.count() as u64
}

#[test]
fn pages_that_the_kernel_took_are_missed() {
    let (pool, guest, ephemeral, persistent) = full();
    let stored = pool.stats().stored_pages - 100;
    for memory_page in [0, 3, 31] {
        lose(&pool, memory_page);
    }
    let found = get_all(&guest, ephemeral);
    let stats = pool.stats();
    assert_eq!(found + stats.taken_pages, stored);
    // 3 pages of 32: as many whole pages, and more of those that lie across the borders.
    assert!(
        stats.taken_pages > stored * 2 / 32 && stats.taken_pages < stored * 9 / 32,
        "{stats:?}"
    );
    assert_eq!((stats.stored_pages, stats.ephemeral_bytes), (100, 0));
    let mut got = [0; PAGE_SIZE];
    for number in 0..100 {
        assert_eq!(guest.get(persistent, &[9; _], number, &mut got), Ok(true));
        assert_eq!(got, page(number));
    }
    pool.audit();
}

#[test]
fn what_was_taken_is_found_without_a_get_and_its_metadata_goes() {
    let (pool, guest, ephemeral, _) = full();
    assert_eq!(pool.find_taken(), 0);
    let before = pool.stats();
    lose(&pool, 7);
    let taken = pool.find_taken();
    assert!(taken > PAGES / 64);
    assert_eq!(pool.find_taken(), 0);
    pool.audit();
    assert_eq!(
        get_all(&guest, ephemeral),
        before.stored_pages - 100 - taken
    );

    let (pool, guest, ephemeral, _) = full();
    (0..32).for_each(|memory_page| lose(&pool, memory_page));
    pool.find_taken();
    // All but the open segments', which the kernel cannot take.
    let stats = pool.stats();
    assert!(stats.stored_pages < 100 + 2 * 130, "{stats:?}");
    assert!(
        stats.metadata_bytes < before.metadata_bytes / 2,
        "{stats:?}"
    );
    // The room is there again.
    for number in 0..PAGES {
        let object = [(number / 100) as u8; _];
        guest
            .put(ephemeral, &object, number, &page(number))
            .expect("room");
    }
    assert!(get_all(&guest, ephemeral) > PAGES * 9 / 10);
}

#[test]
fn pages_that_the_kernel_took_are_not_moved_by_the_cleaner() {
    let (pool, guest, ephemeral, _) = full();
    for memory_page in [1, 2, 15] {
        lose(&pool, memory_page);
    }
    // Room for these is made by compressing, evicting and moving what is left.
    for number in 0..PAGES / 2 {
        let object = [200; _];
        guest
            .put(ephemeral, &object, number, &page(number))
            .expect("room");
        if number.is_multiple_of(5) {
            let object = [(number / 100) as u8; _];
            let mut got = [0; PAGE_SIZE];
            if guest.get(ephemeral, &object, number, &mut got) == Ok(true) {
                assert_eq!(got, page(number));
            }
        }
    }
    pool.audit();
    get_all(&guest, ephemeral);
    assert!(pool.stats().taken_pages > 0);
}
