//! `swap`: an anonymous working set one and a half times the guest's memory, written once and then read and rewritten
//! at random: frontswap at work.

use crate::context::{Context, about};
use crate::mapping::Mapping;
use std::io;
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes, fill_page};
use vtmem_workloads::random::{Random, mix};
use vtmem_workloads::workload::{Finished, Outcome, Workload};

/// The working set's number among the files whose content is generated.
const FILE: u32 = u32::MAX;

/// Runs the workload.
///
/// # Errors
/// The working set cannot be mapped.
pub fn run(context: &Context) -> io::Result<Finished> {
    let pages = usize::try_from(context.guest_mem / 2 * 3).unwrap_or(usize::MAX) / PAGE_SIZE;
    let mut set =
        Mapping::anonymous(pages).map_err(about(format_args!("working set of {pages} pages")))?;
    let mut random = Random::new(context.seed, u64::from(Workload::Swap.begin_mark()));
    let mut versions = vec![0u8; pages];

    let (nanoseconds, totals) = context.measure(Workload::Swap, || {
        let mut totals = Outcome::default();
        for index in 0..pages {
            fill_page(
                seed_of(context.seed, 0),
                FILE,
                index as u32,
                set.page(index),
            );
            totals.operations += 1;
        }
        for _ in 0..pages {
            let index = random.below(pages as u64) as usize;
            let version = &mut versions[index];
            let page = set.page(index);
            totals.bytes_corrupt +=
                corrupt_bytes(seed_of(context.seed, *version), FILE, index as u32, page);
            totals.bytes_verified += PAGE_SIZE as u64;
            totals.operations += 1;
            if random.below(2) == 0 {
                *version = version.wrapping_add(1);
                fill_page(seed_of(context.seed, *version), FILE, index as u32, page);
                totals.operations += 1;
            }
        }
        Ok(totals)
    })?;
    Ok(Finished::from(Outcome {
        nanoseconds,
        ..totals
    }))
}

/// What a page's content depends on besides its place: each version is another one.
fn seed_of(seed: u64, version: u8) -> u64 {
    mix(seed ^ mix(u64::from(version)))
}
