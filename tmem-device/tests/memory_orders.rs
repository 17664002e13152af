//! What the process takes stays near the pool's size in whatever order pages of whatever kind come and go.
//!
//! A process of its own, so that nothing else allocates.

use tmem_device::pool::{Guest, HostPool, ObjectId, PoolConfig, PoolKind};
use tmem_device::wire::PAGE_SIZE;

const SIZE: u64 = 32 << 20;

/// What the process may take beyond the size: 12 %.
const BEYOND: u64 = SIZE * 12 / 100;

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages = statm.split(' ').nth(1).expect("resident");
    pages.parse::<u64>().expect("a number") * 4096
}

/// How a guest fills the pool.
#[derive(Debug, Clone, Copy)]
enum Fill {
    /// As many objects as pages, which are as short as can be: all is metadata.
    Objects,
    /// The same, all pages in one object.
    Pages,
    /// The same, each page in a part of its own of one object.
    Parts,
    /// Pages that do not compress.
    Noise,
}

/// How it empties it.
#[derive(Debug, Clone, Copy)]
enum Empty {
    /// All but the last few.
    FromTheFirst,
    /// All but the first few.
    FromTheLast,
    /// All but a few here and there.
    Between,
}

const FILLS: [Fill; 4] = [Fill::Objects, Fill::Pages, Fill::Parts, Fill::Noise];
const EMPTIES: [Empty; 3] = [Empty::FromTheFirst, Empty::FromTheLast, Empty::Between];

/// Pages that stay.
const FEW: u64 = 64;

struct Hostile {
    pool: std::sync::Arc<HostPool>,
    guest: Guest,
    id: u32,
    kind: PoolKind,
    random: u64,
}

impl Hostile {
    fn new(kind: PoolKind) -> Self {
        let pool = HostPool::new(PoolConfig::new(SIZE));
        let guest = pool.register().expect("a guest");
        let id = guest.new_pool(kind).expect("a pool");
        Hostile {
            pool,
            guest,
            id,
            kind,
            random: 1,
        }
    }

    fn key(fill: Fill, number: u64) -> (ObjectId, u64) {
        let mut object = [fill as u8; _];
        match fill {
            Fill::Objects => {
                object[..8].copy_from_slice(&number.to_le_bytes());
                (object, 0)
            }
            Fill::Pages | Fill::Noise => (object, number),
            Fill::Parts => (object, number << 32),
        }
    }

    /// Until the pool is full; how many pages were put.
    fn fill(&mut self, fill: Fill) -> u64 {
        let mut page = [fill as u8; PAGE_SIZE];
        let evictions = self.pool.stats().evictions;
        let mut number = 0;
        loop {
            if let Fill::Noise = fill {
                let (words, _) = page.as_chunks_mut::<8>();
                for word in words {
                    self.random ^= self.random << 13;
                    self.random ^= self.random >> 7;
                    self.random ^= self.random << 17;
                    *word = self.random.to_le_bytes();
                }
            }
            let (object, index) = Self::key(fill, number);
            let put = self.guest.put(self.id, &object, index, &page);
            if put.is_err() || number % 2048 == 0 && self.pool.stats().evictions > evictions {
                return number;
            }
            number += 1;
        }
    }

    fn empty(&mut self, fill: Fill, count: u64, empty: Empty) {
        let flush = |number| {
            let (object, index) = Self::key(fill, number);
            self.guest
                .flush_page(self.id, &object, index)
                .expect("the pool exists");
        };
        match empty {
            Empty::FromTheFirst => (0..count.saturating_sub(FEW)).for_each(flush),
            Empty::FromTheLast => (FEW.min(count)..count).rev().for_each(flush),
            Empty::Between => {
                let step = (count / FEW).max(1);
                let rest = (0..count).filter(|number| number % step != step / 2);
                rest.for_each(flush);
            }
        }
    }

    fn renew(&mut self) {
        self.guest.destroy_pool(self.id).expect("the pool exists");
        self.id = self.guest.new_pool(self.kind).expect("a pool");
    }
}

#[test]
fn the_process_stays_near_the_cap_in_every_order() {
    let (mut worst, mut kinds) = (
        0,
        [PoolKind::Ephemeral, PoolKind::Persistent].iter().cycle(),
    );
    for first in FILLS {
        for second in FILLS {
            if first as u8 == second as u8 {
                continue;
            }
            let before = resident();
            let kind = *kinds.next().expect("without end");
            let mut hostile = Hostile::new(kind);
            for empty in EMPTIES {
                let count = hostile.fill(first);
                hostile.empty(first, count, empty);
                hostile.fill(second);
                let taken = resident().saturating_sub(before);
                worst = worst.max(taken);
                println!(
                    "{kind:?} {first:?} {empty:?} {second:?}: {} %",
                    taken * 100 / SIZE
                );
                assert!(
                    taken <= SIZE + BEYOND,
                    "{taken} bytes for a pool of {SIZE} after {first:?}, emptied {empty:?}, and {second:?}: {:?}",
                    hostile.pool.stats()
                );
                hostile.renew();
            }
        }
    }
    println!("at most {worst} bytes for a pool of {SIZE}");
}
