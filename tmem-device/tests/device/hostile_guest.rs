//! A guest that asks for as much work as it can: no call does more than a bounded part of it.
//!
//! Work is counted, not timed. How long it takes, and what another guest notices, is measured by
//! `cargo test --release -p tmem-device --test device -- --ignored --nocapture hostile`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tmem_device::device::CALL_WORK;
use tmem_device::pool::{HostPool, PageName, PoolConfig, PoolError, PoolKind, work_done};
use tmem_device::wire::{self, PAGE_SIZE};

use super::driver::{ALL_FEATURES, Driver, Request};

/// Units that a call may do beyond [`CALL_WORK`]: what was begun within it. The most is a batch of puts that evicts a segment of the
/// shortest pages, compresses some, and moves one more.
const BEGUN: u64 = 9 << 10;

/// The processor's time that this thread has had: others may have it meanwhile.
fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes to `time` alone.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What calls came to.
#[derive(Default)]
struct Calls {
    count: u64,
    work: u64,
    most_work: u64,
    longest: Duration,
    /// As it passes, whoever else has the processor.
    longest_wall: Duration,
    all: Duration,
}

struct Hostile {
    pool: Arc<HostPool>,
    driver: Driver,
    id: u32,
    /// The id of the next pool.
    next_id: u32,
    calls: Calls,
}

impl Hostile {
    /// A guest with so many pages, half of them in one object and the others in objects of their own.
    fn new(pages: u64) -> Self {
        let pool = HostPool::new(PoolConfig::new(pages * 120).with_secret_seed());
        Hostile::of(pool, pages)
    }

    /// One of this pool.
    fn of(pool: Arc<HostPool>, pages: u64) -> Self {
        let mut driver = Driver::new(&pool, ALL_FEATURES);
        let id = driver.new_pool(wire::POOL_EPHEMERAL);
        let guest = driver.device.guest();
        let page = [7; PAGE_SIZE];
        for number in 0..pages / 2 {
            let mut object = [1; _];
            guest.put(id, &object, number, &page).expect("room");
            object[8..16].copy_from_slice(&number.to_le_bytes());
            guest.put(id, &object, 0, &page).expect("room");
        }
        Hostile {
            pool,
            driver,
            id,
            next_id: id + 1,
            calls: Calls::default(),
        }
    }

    /// Offers chains on the put queue and a get behind them, in whose exit they are served as far as one call goes; the worker does the
    /// rest.
    fn ask(&mut self, what: &str, chains: &[Request]) {
        let sent: Vec<_> = chains
            .iter()
            .map(|chain| self.driver.submit(wire::QUEUE_PUT, chain))
            .collect();
        let get = Request::new().get(self.id, 99, 0);
        let answer = self.driver.submit(wire::QUEUE_GET, &get);
        let (mut calls, mut in_exit) = (Calls::default(), true);
        loop {
            let (before, start, began) = (work_done(), thread_time(), Instant::now());
            let served = match std::mem::take(&mut in_exit) {
                true => self.driver.device.serve_get_queue(),
                false => self.driver.device.serve_put_queue(),
            };
            let took = thread_time() - start;
            calls.longest_wall = calls.longest_wall.max(began.elapsed());
            let work = work_done() - before;
            calls.count += 1;
            calls.work += work;
            calls.all += took;
            calls.most_work = calls.most_work.max(work);
            calls.longest = calls.longest.max(took);
            assert!(
                work <= CALL_WORK + BEGUN,
                "{what}: {work} units in one call"
            );
            if !served.expect("sound rings").again {
                break;
            }
        }
        println!(
            "{what}: {} calls, {} units, {} at most in one, the longest {:?}, all {:?}",
            calls.count, calls.work, calls.most_work, calls.longest, calls.all
        );
        // Everything was answered, in order.
        for (chain, answer) in chains.iter().zip(sent) {
            let results = self.driver.response(wire::QUEUE_PUT, chain, answer).results;
            assert_eq!(results.len(), chain.ops.len());
        }
        assert_eq!(
            self.driver.response(wire::QUEUE_GET, &get, answer).results[0].0,
            wire::S_ABSENT
        );
        self.calls.count += calls.count;
        self.calls.longest = self.calls.longest.max(calls.longest);
        self.calls.longest_wall = self.calls.longest_wall.max(calls.longest_wall);
        self.calls.most_work = self.calls.most_work.max(calls.most_work);
    }

    fn pairs(&mut self, count: u32, page: bool) -> Request {
        (0..count).fold(Request::new(), |request, _| {
            let id = self.next_id;
            self.next_id += 1;
            let new = request.op(wire::OP_NEW_POOL, 0, 0, 0, wire::POOL_EPHEMERAL);
            let put = if page { new.put(id, 1, 0, 1) } else { new };
            put.op(wire::OP_DESTROY_POOL, id, 0, 0, 0)
        })
    }

    fn run(&mut self) {
        let chains: Vec<_> = (0..80).map(|_| self.pairs(64, false)).collect();
        self.ask("empty pools, made and destroyed", &chains);
        let chains: Vec<_> = (0..4).map(|_| self.pairs(20, true)).collect();
        self.ask("pools with a page", &chains);
        let sparse = |number: u8| {
            (0..20).fold(Request::new(), |request, at| {
                let object = 100 + number * 20 + at;
                let far = request.put(self.id, object, 1 << 31, 1);
                far.op(wire::OP_FLUSH_OBJECT, self.id, object, 0, 0)
            })
        };
        let chains: Vec<_> = (0..4).map(sparse).collect();
        self.ask("objects with a page far behind", &chains);
        // Only a look at all pages tells that there are none in the many parts behind.
        let parts = (0..30).fold(Request::new(), |request, part| {
            request.put(self.id, 50, part << 32, 1)
        });
        let flushes = (0..64).fold(Request::new(), |request, _| {
            request.op(wire::OP_FLUSH_RANGE, self.id, 50, 40 << 32, u64::MAX)
        });
        self.ask("ranges over many parts", &[parts, flushes]);
        // Pages that do not compress in the place of the shortest ones.
        let mut random = 1u64;
        let noise: Vec<_> = (0..8)
            .map(|chain| {
                let puts = (0..64).fold(Request::new(), |request, at| {
                    request.put(self.id, 60 + chain, at, 0)
                });
                (0..64).fold(puts, |mut puts, at| {
                    let (words, _) = puts.page_mut(at).as_chunks_mut::<8>();
                    for word in words {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        *word = random.to_le_bytes();
                    }
                    puts
                })
            })
            .collect();
        let evictions = self.pool.stats().evictions;
        self.pool.announce_size(self.pool.stats().used_bytes);
        self.ask("noise", &noise);
        assert!(self.pool.stats().evictions > evictions);
        let chain = Request::new().op(wire::OP_DESTROY_POOL, self.id, 0, 0, 0);
        self.id = self.next_id;
        self.next_id += 1;
        let new = Request::new().op(wire::OP_NEW_POOL, 0, 0, 0, wire::POOL_EPHEMERAL);
        self.ask("all at once", &[chain, new]);
        assert_eq!(self.pool.stats().ephemeral_bytes, 0);
    }
}

#[test]
fn no_call_does_more_than_a_bounded_part_of_what_a_guest_asks_for() {
    let mut hostile = Hostile::new(200_000);
    hostile.run();
    assert!(hostile.calls.count > 50, "nothing took turns");
}

impl Hostile {
    /// Resets the device; what the longest call came to, of this and of those that drop what it leaves: work, the processor's time, and
    /// time as it passes.
    fn reset(&mut self) -> (u64, Duration, Duration) {
        let device = &self.driver.device;
        let mut most = (0, Duration::ZERO, Duration::ZERO);
        let mut reset = false;
        loop {
            let (before, cpu, start) = (work_done(), thread_time(), Instant::now());
            let ended = if reset {
                device.drop_leftovers()
            } else {
                device.begin_reset();
                false
            };
            most.0 = most.0.max(work_done() - before);
            most.1 = most.1.max(thread_time() - cpu);
            most.2 = most.2.max(start.elapsed());
            if !reset {
                // Nothing of it can be got, though all of it is there.
                let guest = device.guest();
                let got = guest.get(self.id, &[1; _], 0, &mut [0; PAGE_SIZE]);
                assert_eq!(got, Err(PoolError::NoSuchPool));
                assert!(self.pool.stats().stored_pages > 0);
            }
            reset = true;
            if ended {
                return most;
            }
        }
    }
}

/// A reset is one exit of the guest's, and what it drops goes in turns after it.
#[test]
fn a_reset_drops_in_turns() {
    let mut hostile = Hostile::new(200_000);
    let (work, ..) = hostile.reset();
    assert!(work <= CALL_WORK + BEGUN, "{work} units in one call");
    let stats = hostile.pool.stats();
    assert_eq!((stats.stored_pages, stats.ephemeral_bytes), (0, 0));
}

/// An empty pool costs no look at the pages of others.
#[test]
fn destroying_an_empty_pool_looks_at_no_page() {
    let hostile = Hostile::new(20_000);
    let guest = hostile.driver.device.guest();
    let id = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    let before = work_done();
    guest.destroy_pool(id).expect("it is there");
    assert!(work_done() - before < 64);
}

/// Prints the longest call, and the longest get of another guest meanwhile.
#[test]
#[ignore = "measures for minutes what no test may depend on"]
fn how_long_a_hostile_guest_delays_others() {
    let mut hostile = Hostile::new(6_000_000);
    let other = hostile.pool.register().expect("a guest");
    let id = other.new_pool(PoolKind::Persistent).expect("a pool");
    let name = PageName {
        pool: id,
        object: [3; _],
        index: 0,
    };
    other
        .put(id, &name.object, 0, &[9; PAGE_SIZE])
        .expect("room");
    let ended = AtomicBool::new(false);
    let mut gets = std::thread::scope(|scope| {
        let gets = scope.spawn(|| {
            let (mut gets, mut page) = (Vec::new(), [0; PAGE_SIZE]);
            while !ended.load(Ordering::Relaxed) {
                let start = Instant::now();
                assert_eq!(other.get(id, &name.object, 0, &mut page), Ok(true));
                gets.push(start.elapsed());
                std::thread::sleep(Duration::from_micros(100));
            }
            gets
        });
        let (work, cpu, wall) = hostile.reset();
        println!(
            "reset: {work} units at most in one call, the longest {cpu:?}, {wall:?} as time passes"
        );
        hostile = Hostile::of(hostile.pool.clone(), 6_000_000);
        hostile.run();
        ended.store(true, Ordering::Relaxed);
        gets.join().expect("no panic")
    });
    gets.sort_unstable();
    println!(
        "longest call {:?}, {:?} as time passes, {} units at most; of {} gets of another guest: median {:?}, 99.9 % within {:?}, longest {:?}",
        hostile.calls.longest,
        hostile.calls.longest_wall,
        hostile.calls.most_work,
        gets.len(),
        gets[gets.len() / 2],
        gets[gets.len() * 999 / 1000],
        gets[gets.len() - 1]
    );
}
