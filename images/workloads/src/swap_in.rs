//! `swap-in`: anonymous memory that is swapped out and asked for again in bulk (`MADV_WILLNEED`), round after round. Each
//! read under way holds a page that nobody can reclaim; without a bound the kernel's OOM killer strikes while swap is free.

use crate::context::about;
use crate::mapping::Mapping;
use std::io;
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes, fill_page};
use vtmem_workloads::random::mix;
use vtmem_workloads::workload::Outcome;

/// The memory's number among the files whose content is generated.
const FILE: u32 = u32::MAX - 1;

/// What to do.
pub struct Options {
    /// Makes the content.
    pub seed: u64,
    /// Bytes of memory.
    pub bytes: u64,
    /// How often it goes out and comes back.
    pub rounds: u64,
}

/// Runs the rounds; the content is another one in each.
///
/// # Errors
/// The memory cannot be mapped, or the kernel refuses the advice.
pub fn run(options: &Options) -> io::Result<Outcome> {
    let pages = usize::try_from(options.bytes).unwrap_or(usize::MAX) / PAGE_SIZE;
    let mut memory =
        Mapping::anonymous(pages).map_err(about(format_args!("memory of {pages} pages")))?;
    let mut totals = Outcome::default();
    for round in 0..options.rounds {
        let seed = mix(options.seed ^ mix(round));
        for index in 0..pages {
            fill_page(seed, FILE, index as u32, memory.page(index));
        }
        memory.reclaim();
        memory
            .bring_back()
            .map_err(about(format_args!("MADV_WILLNEED of {pages} pages")))?;
        for index in 0..pages {
            totals.bytes_corrupt += corrupt_bytes(seed, FILE, index as u32, memory.page(index));
            totals.bytes_verified += PAGE_SIZE as u64;
            totals.operations += 1;
        }
    }
    Ok(totals)
}
