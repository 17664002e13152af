//! The pool beside what else keeps a 4 KiB page: LZ4 alone, zram on this machine, and the page cache, on the same pages.
//!
//! `cargo run --release -p tmem-device --example side_by_side` prints a table, with `-- --json` one JSON object. As root it
//! makes a zram device and removes it; without one its figures are null. All times are medians of rounds in
//! which every contender has its turn, in nanoseconds a page.

mod corpus;
mod page_cache;
mod pool;
mod raw;
mod report;
mod zram;

use std::time::Instant;

use tmem_device::pool::Page;

/// Rounds, of which the first is for warming up.
const ROUNDS: usize = 6;

/// Pages that all contenders keep: 96 MiB.
const PAGES: usize = 24 << 10;

/// Nanoseconds a page of one round.
fn timed(pages: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / pages as f64
}

/// What a contender took, round by round.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, time: f64) {
        self.0.push(time);
    }

    /// Of all rounds but the first.
    fn median(&self) -> Option<f64> {
        let mut times = self.0.get(1..)?.to_vec();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }
}

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let corpus = corpus::collect(PAGES);
    eprintln!("{} pages of {}", corpus.pages.len(), corpus.origin);
    let pages: &[Page] = &corpus.pages;

    let mut raw = raw::Raw::new(pages);
    let pool = pool::Contender::new(pages, raw.bytes());
    let roomy = pool::Contender::roomy(pages);
    let mut page_cache =
        page_cache::PageCache::new(pages).map_err(|error| eprintln!("no page cache: {error}"));
    let zram = zram::Zram::new(pages.len()).map_err(|error| eprintln!("no zram: {error}"));

    let mut figures = report::Figures::default();
    for round in 0..ROUNDS {
        eprint!("\rround {round} of {}", ROUNDS - 1);
        raw.round(pages, &mut figures);
        figures
            .pool_put
            .add(timed(pages.len(), || pool.put_all(pages)));
        figures.note_pool(pool.stats(), pages.len());
        figures
            .pool_get
            .add(timed(pages.len(), || pool.get_all(pages, round == 0)));
        figures.pool_put_2.add(timed(pages.len(), || {
            pool.in_two(pages, pool::Contender::put)
        }));
        figures.pool_get_2.add(timed(pages.len(), || {
            pool.in_two(pages, pool::Contender::get)
        }));
        figures
            .pool_put_raw
            .add(timed(pages.len(), || roomy.put_all(pages)));
        figures
            .pool_get_raw
            .add(timed(pages.len(), || roomy.get_all(pages, round == 0)));
        if let Ok(zram) = &zram {
            figures
                .zram_write
                .add(timed(pages.len(), || zram.write(pages)));
            figures.zram_used = zram.used();
            figures
                .zram_read
                .add(timed(pages.len(), || zram.read(pages, round == 0)));
        }
        if let Ok(page_cache) = &mut page_cache {
            figures
                .page_cache_read
                .add(timed(pages.len(), || page_cache.read(pages.len())));
        }
    }
    eprintln!();
    figures.print(&corpus, raw.bytes(), json);
}
