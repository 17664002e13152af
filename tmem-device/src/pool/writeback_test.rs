use std::sync::Arc;

use super::super::test_tier::{Fault, TestTier};
use super::super::{Guest, PAGE_METADATA, PoolConfig, PoolError, WORST_PAGE};
use super::*;

const PAGES: u64 = 1024;
const OBJECT: [u8; 24] = [7; _];

/// Every fourth page compresses to an eighth, every eleventh is one word.
fn page(number: u64) -> Page {
    let mut page = [0; PAGE_SIZE];
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let (words, _) = page.as_chunks_mut::<8>();
    let noisy = match number {
        _ if number.is_multiple_of(11) => 0,
        _ if number.is_multiple_of(4) => 64,
        _ => words.len(),
    };
    for (at, word) in words.iter_mut().enumerate() {
        if at < noisy {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        *word = state.to_le_bytes();
    }
    page
}

struct Setup {
    tier: Arc<TestTier>,
    pool: Arc<HostPool>,
    guest: Guest,
    id: u32,
}

/// A pool for [`PAGES`] pages over a tier for `room`.
fn setup(room: usize, kind: PoolKind) -> Setup {
    let tier = Arc::new(TestTier::new(room));
    let config = PoolConfig {
        credit: 0,
        spill_ephemeral: true,
        ..PoolConfig::new(PAGES * WORST_PAGE)
    };
    let pool = HostPool::with_tiers(config, vec![tier.clone()]);
    let guest = pool.register().expect("a guest");
    let id = guest.new_pool(kind).expect("a pool");
    Setup {
        tier,
        pool,
        guest,
        id,
    }
}

impl Setup {
    fn put(&self, number: u64) -> Result<(), PoolError> {
        self.guest.put(self.id, &OBJECT, number, &page(number))
    }

    /// Gets a page, which is right if it is there.
    fn get(&self, number: u64) -> Result<bool, PoolError> {
        let mut got = [0; PAGE_SIZE];
        let result = self.guest.get(self.id, &OBJECT, number, &mut got);
        assert!(result != Ok(true) || got == page(number), "page {number}");
        result
    }

    /// Writes until there is nothing to write; how many pages.
    fn write(&self) -> u64 {
        let mut pages = 0;
        loop {
            match self.pool.write_back() {
                WriteBack::Idle => return pages,
                WriteBack::Wrote(more) => pages += more,
                WriteBack::Refused(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_pool_holds_many_times_its_size_and_every_page_comes_back() {
    let setup = setup(usize::MAX, PoolKind::Persistent);
    for number in 0..8 * PAGES {
        setup
            .put(number)
            .expect("the tier has taken what came before");
        setup.write();
        assert!(setup.pool.stats().dirty_bytes <= setup.pool.dirty_limit());
    }
    setup.pool.audit();
    let stats = setup.pool.stats();
    assert!(stats.used_bytes <= PAGES * WORST_PAGE);
    assert!(stats.below_pages > 6 * PAGES, "{stats:?}");
    assert_eq!(stats.persistent_pages, 8 * PAGES);
    for _ in 0..2 {
        for number in 0..8 * PAGES {
            assert_eq!(setup.get(number), Ok(true), "page {number}");
        }
        setup.pool.audit();
    }
    // What comes back need not be written again.
    assert_eq!(setup.pool.stats().written_pages, stats.written_pages);
    assert_eq!(setup.write(), 0);
    let flushed = setup.guest.flush_object(setup.id, &OBJECT);
    assert_eq!(flushed, Ok(8 * PAGES));
    setup.pool.audit();
    assert_eq!(setup.pool.stats().used_bytes, 0);
}

#[test]
fn pages_that_were_read_lately_are_in_memory() {
    let setup = setup(usize::MAX, PoolKind::Persistent);
    for number in 0..4 * PAGES {
        setup.put(number).expect("room");
        setup.write();
    }
    let mut reloaded = setup.pool.stats().reloaded_pages;
    for round in 0..4 {
        for number in 100..100 + PAGES / 4 {
            assert_eq!(setup.get(number), Ok(true));
        }
        let now = setup.pool.stats().reloaded_pages;
        assert!(round == 0 || now == reloaded, "{now} in round {round}");
        reloaded = now;
    }
}

#[test]
fn without_a_tier_that_takes_them_pages_stay_and_more_are_refused() {
    for fault in [Fault::Full, Fault::SlowAfter(1)] {
        let setup = setup(usize::MAX, PoolKind::Persistent);
        setup.tier.set_fault(fault);
        let mut stored = 0;
        let mut refusals = 0;
        for number in 0..2 * PAGES {
            match setup.put(number) {
                Ok(()) => stored += 1,
                Err(error) => {
                    assert_eq!(error, PoolError::Refused);
                    refusals += 1;
                }
            }
            let limit = setup.pool.dirty_limit();
            match setup.pool.write_back() {
                WriteBack::Refused(_) | WriteBack::Wrote(_) => {}
                WriteBack::Idle => assert!(setup.pool.stats().dirty_bytes <= limit),
            }
        }
        assert!(
            stored > PAGES / 2 && refusals > PAGES / 2,
            "{stored} stored"
        );
        setup.pool.audit();
        let there = (0..2 * PAGES).filter(|number| setup.get(*number).expect("nothing is lost"));
        assert_eq!(there.count() as u64, stored);
        // It works again.
        setup.tier.set_fault(Fault::Nothing);
        assert!(setup.write() > PAGES / 8);
        setup.put(3 * PAGES).expect("room");
        setup.pool.audit();
    }
}

#[test]
fn a_page_that_its_tier_cannot_return_is_an_error_and_that_alone() {
    let setup = setup(usize::MAX, PoolKind::Persistent);
    for number in 0..4 * PAGES {
        setup.put(number).expect("room");
        setup.write();
    }
    let below = setup.pool.stats().below_pages;
    let count = |expected: Result<bool, PoolError>| {
        let results = (0..4 * PAGES).map(|number| setup.get(number));
        results.filter(|result| *result == expected).count() as u64
    };
    setup.tier.set_fault(Fault::Unreadable);
    assert_eq!(count(Err(PoolError::Lost)), below);
    assert_eq!(setup.pool.stats().unreadable_pages, below);
    setup.tier.set_fault(Fault::Nothing);
    assert_eq!(count(Ok(true)), 4 * PAGES, "an error is not remembered");
    setup.tier.damage();
    let failed = count(Err(PoolError::Lost));
    assert!(failed >= PAGES, "only {failed} noticed");
    setup.pool.audit();
}

#[test]
fn what_memory_alone_has_is_bounded_and_the_kernel_may_take_the_rest() {
    let setup = setup(usize::MAX, PoolKind::Persistent);
    // As many as may be in memory alone.
    let count = (0..PAGES).find(|number| setup.put(*number).is_err());
    let count = count.expect("a limit");
    assert!(setup.pool.stats().dirty_bytes > setup.pool.dirty_limit() * 9 / 10);
    assert_eq!(setup.pool.stats().ephemeral_bytes, 0);
    setup.write();
    let stats = setup.pool.stats();
    assert!(stats.dirty_bytes <= setup.pool.dirty_limit() / WRITE_SHARE);
    assert!(stats.ephemeral_bytes > setup.pool.size() / 5);
    assert_eq!(stats.below_pages, 0);
    for memory_page in 0..32 {
        for store in setup.pool.all_stores() {
            for shard in store.numbers() {
                store.with(shard, |shard| shard.segments.lose(memory_page));
            }
        }
    }
    assert!(setup.pool.find_taken() > PAGES / 8);
    setup.pool.audit();
    for number in 0..count {
        assert_eq!(setup.get(number), Ok(true), "page {number}");
    }
    assert!(setup.pool.stats().reloaded_pages > PAGES / 8);
    setup.pool.audit();
}

#[test]
fn what_changes_while_it_is_written_is_not_the_tiers() {
    let Setup {
        tier,
        pool,
        guest,
        id,
    } = setup(usize::MAX, PoolKind::Persistent);
    for number in 0..PAGES * 5 / 16 {
        let put = guest.put(id, &OBJECT, number, &page(number));
        put.expect("room");
    }
    let guest = Arc::new(guest);
    let changing = guest.clone();
    // Each page is put anew, or flushed, between its copy and its note.
    *tier.stored.lock().expect("no panics") = Some(Box::new(move || {
        for number in 0..PAGES * 5 / 16 {
            if number.is_multiple_of(2) {
                let put = changing.put(id, &OBJECT, number, &page(number + 1));
                put.expect("room");
            } else {
                changing.flush_page(id, &OBJECT, number).expect("a pool");
            }
        }
    }));
    assert!(matches!(pool.write_back(), WriteBack::Wrote(0)));
    *tier.stored.lock().expect("no panics") = None;
    pool.audit();
    assert_eq!(tier.stats().records, 0);
    let mut got = [0; PAGE_SIZE];
    for number in 0..PAGES * 5 / 16 {
        let found = guest.get(id, &OBJECT, number, &mut got);
        assert_eq!(found, Ok(number.is_multiple_of(2)));
        assert!(found == Ok(false) || got == page(number + 1));
    }
}

#[test]
fn ephemeral_pages_go_down_by_choice_and_make_room_for_persistent_ones() {
    let room = 2 * PAGES;
    let setup = setup(room as usize, PoolKind::Ephemeral);
    setup.guest.note_evictions(true);
    let put = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            setup.put(number).expect("room");
            while let WriteBack::Wrote(_) = setup.pool.write_back() {}
        }
    };
    put(0..5 * PAGES / 2);
    setup.pool.audit();
    let stats = setup.pool.stats();
    assert_eq!(stats.evictions, 0);
    assert!(stats.below_pages > PAGES, "{stats:?}");
    assert!(stats.used_bytes <= PAGES * WORST_PAGE);
    // A tier that is full of them drops some, and says which.
    put(5 * PAGES / 2..5 * PAGES);
    let evictions = setup.pool.stats().evictions;
    assert!(evictions > PAGES, "{evictions} evictions");
    let mut reported = Vec::new();
    setup.guest.take_evictions(usize::MAX, &mut reported);
    let reported: u64 = reported.iter().map(|run| u64::from(run.count)).sum();
    assert_eq!(reported, evictions);
    // Persistent pages need the tier more.
    let persistent = setup.guest.new_pool(PoolKind::Persistent).expect("a pool");
    for number in 0..PAGES {
        let put = setup
            .guest
            .put(persistent, &OBJECT, number, &page(number + 1));
        put.expect("room");
        while let WriteBack::Wrote(_) = setup.pool.write_back() {}
    }
    setup.pool.audit();
    let mut got = [0; PAGE_SIZE];
    for number in 0..PAGES {
        let found = setup.guest.get(persistent, &OBJECT, number, &mut got);
        assert_eq!(found, Ok(true));
        assert_eq!(got, page(number + 1));
    }
    // A get of an ephemeral page takes it from its tier.
    let before = setup.tier.stats().records;
    let hits = (0..5 * PAGES).filter(|number| setup.get(*number) == Ok(true));
    let hits = hits.count() as u64;
    setup.pool.audit();
    let after = setup.tier.stats().records;
    assert!(
        after < before,
        "{hits} hits, {before} and {after} records, {:?}",
        setup.pool.stats()
    );
    assert_eq!(hits, 5 * PAGES - setup.pool.stats().evictions);
    let again = (0..5 * PAGES).filter(|number| setup.get(*number) == Ok(true));
    assert_eq!(again.count(), 0);
}

#[test]
fn a_page_that_a_tier_has_takes_what_it_is_charged() {
    let setup = setup(usize::MAX, PoolKind::Persistent);
    let numbers = || (0..64 * PAGES).filter(|number| !number.is_multiple_of(11));
    for number in numbers() {
        setup.put(number).expect("room");
        setup.write();
    }
    let stats = setup.pool.stats();
    let persistent = stats.used_bytes - stats.ephemeral_bytes - stats.dirty_bytes;
    assert!(persistent >= stats.below_pages * PAGE_METADATA);
    // The tier's index is the tier's to count; PAGE_METADATA has room for the disk tier's 17 bytes.
    let in_memory = stats.stored_pages - stats.below_pages;
    let below = stats.metadata_bytes - in_memory * (PAGE_METADATA + CLEAN);
    assert!(
        below < stats.below_pages * (PAGE_METADATA - 17),
        "{below} bytes for {} pages below, {in_memory} in memory",
        stats.below_pages
    );
}

/// As charged for pages in memory besides.
const CLEAN: u64 = super::super::books::CLEAN_METADATA;
