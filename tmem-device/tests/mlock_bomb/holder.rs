//! The process that holds a pool, and goes on using it: of page cache, or of swapped pages above a tier.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tmem_device::pool::{
    BATCH, Guest, HostPool, Page, PageName, PoolConfig, PoolError, PoolKind, Writer,
};
use tmem_device::tier::Tier;
use tmem_device::tier::disk::{DiskConfig, DiskTier};
use tmem_device::wire::PAGE_SIZE;

use crate::process::{listen, report};

/// Pages of an object.
const OBJECT: u64 = 256;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The pool's, in bytes.
    pub size: u64,
    pub fill: bool,
    pub reclaimable: bool,
    /// The pages are persistent, and spill to this file.
    pub spill: Option<PathBuf>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spill = self.spill.as_deref().unwrap_or("".as_ref()).display();
        write!(
            f,
            "{} {} {} {spill}",
            self.size, self.fill, self.reclaimable
        )
    }
}

impl FromStr for Plan {
    type Err = Box<dyn std::error::Error>;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let fields: Vec<_> = line.splitn(4, ' ').collect();
        let [size, fill, reclaimable, spill] = fields[..] else {
            return Err("not four fields".into());
        };
        Ok(Plan {
            size: size.parse()?,
            fill: fill.parse()?,
            reclaimable: reclaimable.parse()?,
            spill: (!spill.is_empty()).then(|| spill.into()),
        })
    }
}

/// What was left, in pages.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Before the bomb.
    pub stored: u64,
    pub held: u64,
    pub missing: u64,
    /// Not what was put.
    pub wrong: u64,
    /// Pages that were got and put again while the bomb went off.
    pub used: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            stored,
            held,
            missing,
            wrong,
            used,
        } = self;
        write!(f, "{stored} {held} {missing} {wrong} {used}")
    }
}

impl FromStr for Report {
    type Err = Box<dyn std::error::Error>;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
        let [stored, held, missing, wrong, used] = numbers?[..] else {
            return Err("not five fields".into());
        };
        Ok(Report {
            stored,
            held,
            missing,
            wrong,
            used,
        })
    }
}

/// Three pages in four do not compress; all are different.
fn fill(number: u64, page: &mut Page) {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let (words, _) = page.as_chunks_mut::<8>();
    let noisy = if number.is_multiple_of(4) {
        64
    } else {
        words.len()
    };
    for (at, word) in words.iter_mut().enumerate() {
        if at < noisy {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        *word = state.to_le_bytes();
    }
}

struct Holder {
    pool: u32,
    guest: Guest,
    pages: u64,
    /// Pages that were accepted last.
    accepted: Mutex<BTreeSet<u64>>,
}

impl Holder {
    fn name(&self, number: u64) -> PageName {
        let mut object = [0; _];
        let object_number: &mut [u8; 8] = object_number(&mut object);
        *object_number = (number / OBJECT).to_le_bytes();
        PageName {
            pool: self.pool,
            object,
            index: number % OBJECT,
        }
    }

    /// Puts neighbours.
    fn put(&self, first: u64) {
        let mut pages = [[0; PAGE_SIZE]; BATCH];
        let names: Vec<_> = (first..)
            .take(BATCH)
            .map(|number| self.name(number))
            .collect();
        for (number, page) in (first..).zip(&mut pages) {
            fill(number, page);
        }
        let mut results = [Err(PoolError::Refused); BATCH];
        self.guest.put_all(&names, &pages, &mut results);
        let mut accepted = self.accepted.lock().expect("no panics");
        for (number, result) in (first..).zip(results) {
            match result {
                Ok(()) => accepted.insert(number),
                Err(_) => accepted.remove(&number),
            };
        }
    }

    /// Gets neighbours; how many there were, and how many were wrong.
    fn get(&self, first: u64) -> (u64, u64) {
        let mut pages = [[0; PAGE_SIZE]; BATCH];
        let names: Vec<_> = (first..)
            .take(BATCH)
            .map(|number| self.name(number))
            .collect();
        let mut results = [Ok(false); BATCH];
        self.guest.get_all(&names, &mut pages, &mut results);
        let (mut held, mut wrong) = (0, 0);
        let mut expected = [0; PAGE_SIZE];
        for ((number, page), result) in (first..).zip(&pages).zip(results) {
            if result == Ok(true) {
                fill(number, &mut expected);
                held += 1;
                wrong += u64::from(*page != expected);
            }
        }
        (held, wrong)
    }
}

fn object_number(object: &mut [u8; 24]) -> &mut [u8; 8] {
    object.first_chunk_mut().expect("longer than a number")
}

/// Of a pool that spills, one part in so many may be in memory alone.
const DIRTY: u64 = 12;

fn pool(plan: &Plan) -> (Arc<HostPool>, Option<Writer>) {
    let config = PoolConfig {
        reclaimable: plan.reclaimable,
        dirty: Some(plan.size / DIRTY),
        ..PoolConfig::new(plan.size)
    };
    let Some(spill) = &plan.spill else {
        return (HostPool::new(config), None);
    };
    let disk = DiskConfig {
        // The machine may be busy; nothing here is about time.
        store_limit: Duration::from_secs(600),
        load_limit: Duration::from_secs(600),
        ..DiskConfig::new(spill, 4 * plan.size)
    };
    let tier: Arc<dyn Tier> = Arc::new(DiskTier::open(&disk).expect("a file"));
    let pool = HostPool::with_tiers(config, vec![tier]);
    let writer = Writer::start(pool.clone(), || ()).expect("a thread");
    (pool, Some(writer))
}

pub fn main(plan: Plan) {
    let (pool, _writer) = pool(&plan);
    let guest = pool.register().expect("a guest");
    let kind = match plan.spill {
        None => PoolKind::Ephemeral,
        Some(_) => PoolKind::Persistent,
    };
    let mut holder = Holder {
        pool: guest.new_pool(kind).expect("a pool"),
        guest,
        pages: 0,
        accepted: Mutex::default(),
    };
    // Until pages have to go: it is full.
    let has_room = || pool.stats().evictions + pool.stats().below_pages == 0;
    while plan.fill && has_room() {
        for _ in 0..64 {
            holder.put(holder.pages);
            holder.pages += BATCH as u64;
        }
    }
    let stored = pool.stats().stored_pages;
    report("full");

    // The pool is used while the bomb goes off.
    let (ends, used, wrong) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 1u64;
            while holder.pages > 0 && !ends.load(Ordering::Relaxed) {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let first = (state >> 33) % (holder.pages / BATCH as u64) * BATCH as u64;
                let (held, bad) = holder.get(first);
                wrong.fetch_add(bad, Ordering::Relaxed);
                if held > 0 {
                    holder.put(first);
                    used.fetch_add(held, Ordering::Relaxed);
                }
            }
        });
        listen();
        ends.store(true, Ordering::Relaxed);
    });
    let (mut held, mut wrong) = (0, wrong.into_inner());
    for first in (0..holder.pages).step_by(BATCH) {
        let (here, bad) = holder.get(first);
        held += here;
        wrong += bad;
    }
    // Page cache may go; of swapped pages, what was accepted must be there.
    let expected = match plan.spill {
        None => stored,
        Some(_) => holder.accepted.into_inner().expect("no panics").len() as u64,
    };
    let report_line = Report {
        stored,
        held,
        missing: expected.saturating_sub(held),
        wrong,
        used: used.into_inner(),
    };
    report(&report_line.to_string());
}
