//! `reread`: zipf-distributed random reads of 32 KiB over files twice the guest's memory. What falls out of the
//! guest's page cache is soon wanted again: cleancache at work.

use crate::context::{Context, about};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes};
use vtmem_workloads::dataset::{FILE_PAGES, Set};
use vtmem_workloads::random::Random;
use vtmem_workloads::workload::{Finished, Outcome, Workload};
use vtmem_workloads::zipf::Zipf;

/// Pages of a block, the unit of popularity and of reading.
const BLOCK_PAGES: u32 = 8;
/// Popularity falls with this power of the rank.
const EXPONENT: f64 = 0.6;
/// Reads for every two blocks of the set.
const READS_PER_TWO_BLOCKS: u64 = 5;

/// Runs the workload.
///
/// # Errors
/// A file that is missing, too short or unreadable.
pub fn run(context: &Context) -> io::Result<Finished> {
    let count = Set::Reread.file_count(context.guest_mem);
    let mut files = Vec::new();
    for index in 0..count {
        let file = Set::Reread.file(index);
        let path = context.data.join(&file.path);
        files.push((file.file, File::open(&path).map_err(about(path.display()))?));
    }
    let blocks_per_file = FILE_PAGES / BLOCK_PAGES;
    let blocks = count * blocks_per_file;
    let zipf = Zipf::new(blocks, EXPONENT, context.seed);
    let mut random = Random::new(context.seed, u64::from(Workload::Reread.begin_mark()));
    let passes = Workload::Reread.passes().len() as u64;
    let operations = u64::from(blocks) * READS_PER_TWO_BLOCKS / 2 / passes;

    context.measure_passes(Workload::Reread, |_| {
        let mut buffer = [0; BLOCK_PAGES as usize * PAGE_SIZE];
        let mut outcome = Outcome::default();
        for _ in 0..operations {
            let block = zipf.pick(&mut random);
            let (number, file) = &files[(block / blocks_per_file) as usize];
            let first = block % blocks_per_file * BLOCK_PAGES;
            file.read_exact_at(&mut buffer, u64::from(first) * PAGE_SIZE as u64)
                .map_err(about(format_args!("file {number} page {first}")))?;
            let (found, _) = buffer.as_chunks::<PAGE_SIZE>();
            for (page, found) in (first..).zip(found) {
                outcome.bytes_corrupt += corrupt_bytes(context.seed, *number, page, found);
            }
            outcome.bytes_verified += buffer.len() as u64;
            outcome.operations += 1;
        }
        Ok(outcome)
    })
}
