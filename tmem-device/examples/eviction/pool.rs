//! The pool itself, on a trace: pages that do not compress, in no more memory than so many of them take.

use std::mem::discriminant;

use tmem_device::pool::{
    BATCH, HostPool, OBJECT_METADATA, Page, PageName, PoolConfig, PoolKind, WORST_PAGE,
};
use tmem_device::wire::{OBJECT_SIZE, PAGE_SIZE};

use crate::trace::{Step, Trace};

/// What became of a trace's gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Gets that found their page.
    pub hits: usize,
    /// The most pages that were stored at once.
    pub pages: u64,
}

/// Plays the trace. The memory is that of `room` pages; objects, and gaps where pages have gone, are paid from it.
pub fn play(trace: &Trace, room: usize) -> Outcome {
    let size = room as u64 * (WORST_PAGE - OBJECT_METADATA);
    let pool = HostPool::new(PoolConfig {
        credit: 0,
        // Nobody else's need of memory is to decide what is found.
        reclaimable: false,
        ..PoolConfig::new(size)
    });
    pool.set_compressing(false);
    let guest = pool.register().expect("the first guest");
    let id = guest.new_pool(PoolKind::Ephemeral).expect("the first pool");
    let mut outcome = Outcome { hits: 0, pages: 0 };
    let mut data = [[0; PAGE_SIZE]; BATCH];
    for alike in trace
        .steps
        .chunk_by(|a, b| discriminant(a) == discriminant(b))
    {
        for steps in alike.chunks(BATCH) {
            let numbers = steps.iter().map(|step| match *step {
                Step::Put(page) | Step::Get(page) | Step::Flush(page) => page,
            });
            let names: Vec<_> = numbers.clone().map(|page| name(trace, id, page)).collect();
            let data = &mut data[..steps.len()];
            match steps[0] {
                Step::Put(_) => {
                    for (data, page) in data.iter_mut().zip(numbers) {
                        fill(data, page);
                    }
                    // One that is refused is missed later.
                    guest.put_all(&names, data, &mut vec![Ok(()); steps.len()]);
                    outcome.pages = outcome.pages.max(pool.stats().stored_pages);
                }
                Step::Get(_) => {
                    let mut found = vec![Ok(false); steps.len()];
                    guest.get_all(&names, data, &mut found);
                    for ((data, page), found) in data.iter().zip(numbers).zip(found) {
                        if found.expect("the pool exists") {
                            assert_eq!(data[..4], page.to_le_bytes(), "another page's data");
                            outcome.hits += 1;
                        }
                    }
                }
                Step::Flush(_) => {
                    for name in names {
                        let flushed = guest.flush_page(id, &name.object, name.index);
                        flushed.expect("the pool exists");
                    }
                }
            }
        }
    }
    outcome
}

fn name(trace: &Trace, pool: u32, page: u32) -> PageName {
    let (id, index) = trace.pages[page as usize];
    let mut object = [0; OBJECT_SIZE];
    object[..8].copy_from_slice(&id.to_le_bytes());
    PageName {
        pool,
        object,
        index,
    }
}

/// No two pages are alike, and none is one word over and over.
fn fill(data: &mut Page, page: u32) {
    data[..4].copy_from_slice(&page.to_le_bytes());
    data[4] = 1;
}
