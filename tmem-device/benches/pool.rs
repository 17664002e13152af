//! What the pool's operations take, by themselves: `cargo bench -p tmem-device`. Beside others on the same pages:
//! `cargo run --release -p tmem-device --example side_by_side`.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use tmem_device::pool::{
    Guest, HostPool, Page, PageName, PoolConfig, PoolError, PoolKind, WORST_PAGE,
};
use tmem_device::wire::PAGE_SIZE;

/// Pages of a readahead window.
const WINDOW: usize = 32;

/// Pages of a small pool.
const PAGES: u64 = 8192;

struct Bench {
    _pool: Arc<HostPool>,
    guest: Guest,
    id: u32,
    pages: Vec<Page>,
}

impl Bench {
    /// A pool with room for `room` whole pages.
    fn new(kind: PoolKind, room: u64) -> Self {
        let pool = HostPool::new(PoolConfig {
            credit: 0,
            ..PoolConfig::new(room * WORST_PAGE)
        });
        let guest = pool.register().expect("a guest");
        let id = guest.new_pool(kind).expect("a pool");
        Bench {
            _pool: pool,
            guest,
            id,
            pages: (0..WINDOW as u64).map(page).collect(),
        }
    }

    fn names(&self, window: u64) -> Vec<PageName> {
        let name = |index| {
            let mut object = [0; _];
            object[..8].copy_from_slice(&(window / 8).to_le_bytes());
            PageName {
                pool: self.id,
                object,
                index: window % 8 * WINDOW as u64 + index,
            }
        };
        (0..WINDOW as u64).map(name).collect()
    }

    fn put(&self, names: &[PageName]) {
        let mut results = [Err(PoolError::Refused); WINDOW];
        self.guest.put_all(names, &self.pages, &mut results);
        assert!(results.iter().all(Result::is_ok));
    }

    fn get(&self, names: &[PageName], pages: &mut [Page]) {
        let mut results = [Ok(false); WINDOW];
        self.guest.get_all(names, pages, &mut results);
        assert!(results.iter().all(|result| *result == Ok(true)));
    }
}

/// Compresses to about a half.
fn page(seed: u64) -> Page {
    let mut state = seed * 2 + 1;
    std::array::from_fn(|at| {
        if at % 32 < 12 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 56) as u8
        } else {
            b'.'
        }
    })
}

fn pool(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("window of 32");
    group.throughput(Throughput::Elements(WINDOW as u64));
    let mut got = vec![[0; PAGE_SIZE]; WINDOW];

    let bench = Bench::new(PoolKind::Ephemeral, PAGES);
    group.bench_function("put and get, with room", |timer| {
        let names = bench.names(0);
        timer.iter(|| {
            bench.put(&names);
            bench.get(&names, &mut got);
        });
    });
    group.bench_function("get what is not there", |timer| {
        let names = bench.names(1 << 40);
        timer.iter(|| {
            let mut results = [Ok(true); WINDOW];
            bench.guest.get_all(&names, &mut got, &mut results);
            assert!(results.iter().all(|result| *result == Ok(false)));
        });
    });
    group.bench_function("put, in a full pool that compresses and evicts", |timer| {
        let mut window = 0;
        timer.iter(|| {
            bench.put(&bench.names(window));
            window += 1;
        });
    });

    let bench = Bench::new(PoolKind::Persistent, PAGES);
    group.bench_function("get of persistent pages", |timer| {
        let names = bench.names(0);
        bench.put(&names);
        timer.iter(|| bench.get(&names, &mut got));
    });
    group.bench_function("flush an object of 256 pages", |timer| {
        timer.iter_batched(
            || (8..16).for_each(|window| bench.put(&bench.names(window))),
            |()| {
                let object = bench.names(8)[0].object;
                assert_eq!(bench.guest.flush_object(bench.id, &object), Ok(256));
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    pool(&mut criterion);
    criterion.final_summary();
}
