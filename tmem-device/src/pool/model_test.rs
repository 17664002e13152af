//! The pool against a plain model: maps of what was put, without sizes or sharing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::test_tier::{Fault, TestTier};
use super::*;
use crate::wire::PAGE_SIZE;

const GUESTS: usize = 2;
const POOLS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    NewPool {
        guest: usize,
        slot: usize,
        persistent: bool,
    },
    DestroyPool {
        guest: usize,
        slot: usize,
    },
    Put {
        place: Place,
        contents: Contents,
    },
    Get {
        place: Place,
    },
    FlushPage {
        place: Place,
    },
    FlushRange {
        place: Place,
        count: u64,
    },
    FlushObject {
        place: Place,
    },
    Grant {
        guest: usize,
    },
    Reset {
        guest: usize,
    },
    WriteBack,
    /// What the tier does from now on.
    Tier(Fault),
    /// The kernel takes a page of memory of each segment that it may.
    Lose(usize),
}

#[derive(Debug, Clone, Copy)]
struct Place {
    guest: usize,
    slot: usize,
    object: u8,
    index: u64,
}

/// Contents are all different, by the seed, and of three lengths when stored.
#[derive(Debug, Clone, Copy)]
enum Contents {
    Filled(u32),
    Text(u32),
    Noise(u32),
}

impl Contents {
    fn page(self) -> Page {
        let mut page = [0; PAGE_SIZE];
        let (seed, words) = match self {
            Contents::Filled(seed) => (seed, 0),
            Contents::Text(seed) => (seed, 32),
            Contents::Noise(seed) => (seed, PAGE_SIZE / 8),
        };
        let mut state = u64::from(seed) << 2 | 1;
        let (chunks, _) = page.as_chunks_mut::<8>();
        chunks.fill(state.to_le_bytes());
        for chunk in &mut chunks[..words] {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *chunk = state.to_le_bytes();
        }
        page
    }
}

fn place() -> impl Strategy<Value = Place> {
    let index = prop_oneof![0u64..6, Just(u64::MAX), Just(u64::MAX - 1)];
    (0..GUESTS, 0..POOLS, 0u8..3, index).prop_map(|(guest, slot, object, index)| Place {
        guest,
        slot,
        object,
        index,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let contents = (any::<u32>(), 0..3).prop_map(|(seed, kind)| match kind {
        0 => Contents::Filled(seed),
        1 => Contents::Text(seed),
        _ => Contents::Noise(seed),
    });
    let count = prop_oneof![0u64..5, Just(u64::MAX)];
    prop_oneof![
        2 => (0..GUESTS, 0..POOLS, any::<bool>())
            .prop_map(|(guest, slot, persistent)| Step::NewPool { guest, slot, persistent }),
        1 => (0..GUESTS, 0..POOLS).prop_map(|(guest, slot)| Step::DestroyPool { guest, slot }),
        20 => (place(), contents).prop_map(|(place, contents)| Step::Put { place, contents }),
        10 => place().prop_map(|place| Step::Get { place }),
        2 => place().prop_map(|place| Step::FlushPage { place }),
        2 => (place(), count).prop_map(|(place, count)| Step::FlushRange { place, count }),
        2 => place().prop_map(|place| Step::FlushObject { place }),
        2 => (0..GUESTS).prop_map(|guest| Step::Grant { guest }),
        1 => (0..GUESTS).prop_map(|guest| Step::Reset { guest }),
        4 => Just(Step::WriteBack),
        1 => prop_oneof![
            3 => Just(Fault::Nothing),
            1 => Just(Fault::Full),
            1 => (0u32..2).prop_map(Fault::SlowAfter),
            1 => Just(Fault::Unreadable),
        ].prop_map(Step::Tier),
        1 => (0usize..8).prop_map(Step::Lose),
    ]
}

#[derive(Default)]
struct ModelPool {
    persistent: bool,
    pages: BTreeMap<(u8, u64), Page>,
}

struct Model {
    pool: Arc<HostPool>,
    tier: Option<Arc<TestTier>>,
    /// The tier returns nothing.
    unreadable: bool,
    /// An ephemeral page may be gone for other reasons than an eviction.
    lossy: bool,
    guests: Vec<Guest>,
    /// By guest and slot: the pool's id and what is in it.
    pools: Vec<BTreeMap<usize, (u32, ModelPool)>>,
    credit: Vec<u32>,
    evictions: u64,
}

const NO_POOL: u32 = u32::MAX;

fn object(number: u8) -> ObjectId {
    std::array::from_fn(|at| number.wrapping_add(at as u8))
}

impl Model {
    /// A pool, above a tier of so many records if that is said.
    fn new(size: u64, tier: Option<usize>) -> Self {
        let config = PoolConfig {
            credit: 4,
            max_pools: 2,
            dirty: Some(size / 8),
            spill_ephemeral: true,
            ..PoolConfig::new(size)
        };
        let tier = tier.map(|room| Arc::new(TestTier::new(room)));
        let tiers = tier.iter().map(|tier| tier.clone() as _).collect();
        let pool = HostPool::with_tiers(config, tiers);
        let guests: Vec<_> = (0..GUESTS)
            .map(|_| pool.register().expect("a guest"))
            .collect();
        Model {
            pools: guests.iter().map(|_| BTreeMap::new()).collect(),
            credit: vec![0; GUESTS],
            evictions: 0,
            tier,
            unreadable: false,
            lossy: false,
            pool,
            guests,
        }
    }

    fn find(&mut self, place: Place) -> (&Guest, u32, Option<&mut ModelPool>) {
        let guest = &self.guests[place.guest];
        match self.pools[place.guest].get_mut(&place.slot) {
            Some((id, pool)) => (guest, *id, Some(pool)),
            None => (guest, NO_POOL, None),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::NewPool {
                guest,
                slot,
                persistent,
            } => self.new_pool(guest, slot, persistent),
            Step::DestroyPool { guest, slot } => {
                let expected = self.pools[guest].remove(&slot);
                let id = expected.as_ref().map_or(NO_POOL, |(id, _)| *id);
                assert_eq!(
                    self.guests[guest].destroy_pool(id).is_ok(),
                    expected.is_some()
                );
            }
            Step::Put { place, contents } => self.put(place, &contents.page()),
            Step::Get { place } => self.get(place),
            Step::FlushPage { place } => {
                let (guest, id, pool) = self.find(place);
                let flushed = guest.flush_page(id, &object(place.object), place.index);
                check_flush(flushed, pool, |key| key == (place.object, place.index));
            }
            Step::FlushRange { place, count } => {
                let (guest, id, pool) = self.find(place);
                let flushed = guest.flush_range(id, &object(place.object), place.index, count);
                check_flush(flushed, pool, |(object, index)| {
                    object == place.object && index >= place.index && index - place.index < count
                });
            }
            Step::FlushObject { place } => {
                let (guest, id, pool) = self.find(place);
                let flushed = guest.flush_object(id, &object(place.object));
                check_flush(flushed, pool, |(object, _)| object == place.object);
            }
            Step::Grant { guest } => {
                self.credit[guest] += self.guests[guest].grant_credit();
                assert!(self.credit[guest] <= 4, "more credit than the limit");
            }
            Step::Reset { guest } => {
                self.guests[guest].reset();
                self.pools[guest].clear();
                self.credit[guest] = 0;
            }
            Step::WriteBack => {
                self.pool.write_back();
            }
            Step::Tier(fault) => {
                if let Some(tier) = &self.tier {
                    tier.set_fault(fault);
                    self.unreadable = fault == Fault::Unreadable;
                }
            }
            Step::Lose(memory_page) => {
                self.lossy = true;
                for store in self.pool.all_stores() {
                    for shard in store.numbers() {
                        store.with(shard, |shard| shard.segments.lose(memory_page));
                    }
                }
            }
        }
        self.check();
    }

    fn new_pool(&mut self, guest: usize, slot: usize, persistent: bool) {
        if self.pools[guest].contains_key(&slot) {
            return;
        }
        let kind = if persistent {
            PoolKind::Persistent
        } else {
            PoolKind::Ephemeral
        };
        match self.guests[guest].new_pool(kind) {
            Ok(id) => {
                let pool = ModelPool {
                    persistent,
                    ..ModelPool::default()
                };
                self.pools[guest].insert(slot, (id, pool));
            }
            Err(error) => {
                assert_eq!(error, PoolError::Refused);
                assert_eq!(self.pools[guest].len(), 2, "refused below the limit");
            }
        }
    }

    fn put(&mut self, place: Place, page: &Page) {
        let had_credit = self.credit[place.guest] > 0;
        let (guest, id, pool) = self.find(place);
        let result = guest.put(id, &object(place.object), place.index, page);
        let Some(pool) = pool else {
            assert_eq!(result, Err(PoolError::NoSuchPool));
            return;
        };
        let persistent = pool.persistent;
        pool.pages.remove(&(place.object, place.index));
        match result {
            Ok(()) => {
                pool.pages.insert((place.object, place.index), *page);
            }
            Err(error) => {
                assert_eq!(error, PoolError::Refused);
                assert!(!(persistent && had_credit), "a promise was broken");
            }
        }
        if persistent && had_credit {
            self.credit[place.guest] -= 1;
        }
    }

    fn get(&mut self, place: Place) {
        self.lossy |= self.unreadable;
        let (unreadable, lossy) = (self.unreadable, self.lossy);
        let mut page = [0x5a; PAGE_SIZE];
        let (guest, id, pool) = self.find(place);
        let result = guest.get(id, &object(place.object), place.index, &mut page);
        let Some(pool) = pool else {
            assert_eq!(result, Err(PoolError::NoSuchPool));
            return;
        };
        let key = (place.object, place.index);
        if pool.persistent {
            if unreadable && result == Err(PoolError::Lost) {
                assert!(pool.pages.contains_key(&key), "there was no such page");
                return;
            }
            assert_eq!(
                result,
                Ok(pool.pages.contains_key(&key)),
                "persistent pages are kept"
            );
            assert!(
                pool.pages
                    .get(&key)
                    .is_none_or(|expected| *expected == page)
            );
        } else {
            // The model holds evicted pages too: the pool may have less, never other.
            let expected = pool.pages.remove(&key);
            if result == Ok(true) {
                assert!(expected == Some(page), "not what was last put");
            } else {
                assert_eq!(result, Ok(false));
                let evictions = self.pool.stats().evictions;
                assert!(
                    expected.is_none() || evictions > 0 || lossy,
                    "a page was lost"
                );
            }
        }
    }

    /// What holds after every step.
    fn check(&mut self) {
        self.pool.audit();
        let stats = self.pool.stats();
        let persistent: usize = self
            .pools
            .iter()
            .flat_map(BTreeMap::values)
            .filter(|(_, pool)| pool.persistent)
            .map(|(_, pool)| pool.pages.len())
            .sum();
        assert_eq!(stats.persistent_pages, persistent as u64);
        assert!(stats.evictions >= self.evictions);
        self.evictions = stats.evictions;
        for (guest, credit) in self.guests.iter().zip(&self.credit) {
            assert_eq!(guest.credit(), *credit);
        }
    }
}

fn check_flush(
    flushed: Result<u64, PoolError>,
    pool: Option<&mut ModelPool>,
    hit: impl Fn((u8, u64)) -> bool,
) {
    let Some(pool) = pool else {
        assert_eq!(flushed, Err(PoolError::NoSuchPool));
        return;
    };
    let before = pool.pages.len();
    pool.pages.retain(|key, _| !hit(*key));
    let gone = (before - pool.pages.len()) as u64;
    let flushed = flushed.expect("the pool exists");
    if pool.persistent {
        assert_eq!(flushed, gone);
    } else {
        assert!(flushed <= gone);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_the_model(
        size in prop_oneof![Just(0), 1u64..2_000, 2_000u64..60_000, 60_000u64..300_000, Just(1 << 24)],
        tier in prop_oneof![Just(None), (0usize..20).prop_map(Some), Just(Some(1000))],
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut model = Model::new(size, tier);
        for guest in 0..GUESTS {
            model.new_pool(guest, 0, false);
            model.new_pool(guest, 1, true);
        }
        for step in steps {
            model.apply(step);
        }
        let Model { pool, guests, tier, .. } = model;
        drop(guests);
        pool.audit();
        prop_assert_eq!(tier.map_or(0, |tier| tier.stats().records), 0);
        prop_assert_eq!(pool.stats().used_bytes, 0);
        prop_assert_eq!(pool.stats().promised_pages, 0);
    }
}

#[test]
fn the_oldest_new_pages_go_first_and_pages_that_came_again_stay() {
    const PAGES: u64 = 1024;
    let pool = HostPool::new(PoolConfig::new(PAGES * WORST_PAGE));
    let guest = pool.register().expect("a guest");
    let id = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    let mut got = [0; PAGE_SIZE];
    let page = |index| Contents::Noise(index as u32).page();
    // A set that is used again and again.
    for index in 0..PAGES / 4 {
        guest
            .put(id, &object(1), index, &page(index))
            .expect("room");
        assert_eq!(guest.get(id, &object(1), index, &mut got), Ok(true));
        guest
            .put(id, &object(1), index, &page(index))
            .expect("room");
    }
    // A scan of four times the pool.
    for index in 0..4 * PAGES {
        let object = object(2 + (index / 64 % 8) as u8);
        guest.put(id, &object, index, &page(index)).expect("room");
    }
    assert!(pool.stats().evictions > 2 * PAGES);
    let mut hits = |number, range: std::ops::Range<u64>| {
        let hits = range.filter(|index| {
            let found = guest.get(id, &object(number), *index, &mut got);
            found.expect("the pool exists") && got == page(*index)
        });
        hits.count() as u64
    };
    assert_eq!(hits(1, 0..PAGES / 4), PAGES / 4, "the set was evicted");
    assert_eq!(hits(2, 0..64), 0, "the scan's first pages are there");
    let last = 4 * PAGES - 64;
    assert_eq!(hits(2 + (last / 64 % 8) as u8, last..4 * PAGES), 64);
    pool.audit();
}

#[test]
fn persistent_puts_evict_ephemeral_pages_and_are_refused_without_any() {
    let page = Contents::Noise(2).page();
    let pool = HostPool::new(PoolConfig::new(3 * WORST_PAGE));
    let guest = pool.register().expect("a guest");
    let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    let persistent = guest.new_pool(PoolKind::Persistent).expect("a pool");
    for index in 0..3 {
        guest
            .put(ephemeral, &object(0), index, &page)
            .expect("room");
    }
    for index in 0..3 {
        guest
            .put(persistent, &object(0), index, &page)
            .expect("room: a segment is evicted");
    }
    assert_eq!(pool.stats().evictions, 3);
    assert_eq!(
        guest.put(persistent, &object(0), 3, &page),
        Err(PoolError::Refused)
    );
    assert_eq!(
        guest.put(ephemeral, &object(0), 3, &page),
        Err(PoolError::Refused)
    );
    guest
        .put(persistent, &object(0), 2, &page)
        .expect("room: it replaces");
    pool.audit();
}

#[test]
fn a_smaller_pool_drops_ephemeral_pages_and_keeps_persistent_ones() {
    let page = |index| Contents::Noise(index as u32).page();
    let pool = HostPool::new(PoolConfig {
        credit: 0,
        ..PoolConfig::new(2000 * WORST_PAGE)
    });
    let guest = pool.register().expect("a guest");
    let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    let persistent = guest.new_pool(PoolKind::Persistent).expect("a pool");
    for index in 0..900 {
        for id in [ephemeral, persistent] {
            guest
                .put(id, &object(1), index, &page(index))
                .expect("room");
        }
    }
    pool.set_size(1000 * WORST_PAGE);
    assert!(pool.stats().used_bytes <= 1000 * WORST_PAGE);
    assert!(pool.stats().evictions > 700);
    pool.audit();
    // Less than the persistent pages take.
    pool.set_size(100 * WORST_PAGE);
    let stats = pool.stats();
    assert_eq!((stats.persistent_pages, stats.ephemeral_bytes), (900, 0));
    assert_eq!(guest.grant_credit(), 0);
    for id in [ephemeral, persistent] {
        let refused = guest.put(id, &object(2), 0, &page(0));
        assert_eq!(refused, Err(PoolError::Refused));
    }
    let mut got = [0; PAGE_SIZE];
    for index in 0..900 {
        assert_eq!(guest.get(persistent, &object(1), index, &mut got), Ok(true));
        assert_eq!(got, page(index));
    }
    pool.set_size(2000 * WORST_PAGE);
    guest.put(ephemeral, &object(2), 0, &page(0)).expect("room");
    pool.audit();
}

#[test]
fn a_frozen_guest_puts_nothing_and_gets_what_it_has() {
    let pool = HostPool::new(PoolConfig::new(1 << 20));
    let guest = pool.register().expect("a guest");
    let id = guest.new_pool(PoolKind::Persistent).expect("a pool");
    let [old, new] = [1, 2].map(|seed| Contents::Noise(seed).page());
    for index in 0..2 {
        guest.put(id, &object(1), index, &old).expect("room");
    }
    guest.freeze(true);
    assert_eq!(guest.put(id, &object(1), 0, &new), Err(PoolError::Refused));
    let mut got = [0; PAGE_SIZE];
    assert_eq!(
        guest.get(id, &object(1), 0, &mut got),
        Ok(false),
        "an old page"
    );
    assert_eq!(guest.get(id, &object(1), 1, &mut got), Ok(true));
    assert_eq!(got, old);
    guest.freeze(false);
    guest.put(id, &object(1), 0, &new).expect("room");
    assert_eq!(guest.get(id, &object(1), 0, &mut got), Ok(true));
    assert_eq!(got, new);
}

#[test]
fn a_range_of_every_index_is_flushed_without_visiting_each() {
    let pool = HostPool::new(PoolConfig::new(64 << 20));
    let guest = pool.register().expect("a guest");
    let id = guest.new_pool(PoolKind::Persistent).expect("a pool");
    for index in 0..2000 {
        guest
            .put(id, &object(1), index << 40, &[7; PAGE_SIZE])
            .expect("room");
    }
    assert_eq!(
        guest.flush_range(id, &object(1), 1 << 40, u64::MAX),
        Ok(1999)
    );
    assert_eq!(guest.flush_object(id, &object(1)), Ok(1));
    assert_eq!(pool.stats().used_bytes, 0);
}
