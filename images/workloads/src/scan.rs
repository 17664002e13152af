//! `scan`: one sequential pass over a file set larger than the guest's memory that nobody reads again. There is
//! nothing to win here; the question is what a cache costs.

use crate::context::{Context, about};
use std::fs::File;
use std::io::{self, Read};
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes};
use vtmem_workloads::dataset::Set;
use vtmem_workloads::workload::{Finished, Outcome, Workload};

/// Bytes of one read.
const READ_SIZE: usize = 64 * 1024;

/// Runs the workload.
///
/// # Errors
/// A file that is missing, too short or unreadable.
pub fn run(context: &Context) -> io::Result<Finished> {
    let (nanoseconds, totals) = context.measure(Workload::Scan, || {
        let mut buffer = vec![0; READ_SIZE];
        let mut totals = Outcome::default();
        for index in 0..Set::Scan.file_count(context.guest_mem) {
            let expected = Set::Scan.file(index);
            let path = context.data.join(&expected.path);
            let mut file = File::open(&path).map_err(about(path.display()))?;
            let mut page = 0;
            while page < expected.pages {
                file.read_exact(&mut buffer)
                    .map_err(about(path.display()))?;
                let (found, _) = buffer.as_chunks::<PAGE_SIZE>();
                for found in found {
                    totals.bytes_corrupt += corrupt_bytes(context.seed, expected.file, page, found);
                    page += 1;
                }
                totals.bytes_verified += READ_SIZE as u64;
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
