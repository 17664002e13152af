//! `sequential`: everything in order. Files as large as the guest's memory are read from end to end three times, an eighth of
//! them then page by page through a mapping for which the kernel was told not to read ahead; and last, anonymous memory of
//! the guest's size is filled and swept. What is stored should come back in windows, whoever asks for it.

use crate::context::{Context, about};
use crate::mapping::Mapping;
use std::fs::File;
use std::io::{self, Read};
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes, fill_page};
use vtmem_workloads::dataset::{DataFile, Set};
use vtmem_workloads::workload::{Finished, Outcome, Workload};

/// Bytes of one read.
const READ_SIZE: usize = 64 * 1024;
/// The anonymous memory's number among the files whose content is generated.
const MEMORY: u32 = u32::MAX - 1;
/// Of so many files, one is read through a mapping: spread over all, since nobody knows which of them the guest has kept.
const MAPPED_ONE_IN: usize = 8;
/// The passes over files; what follows is other work.
const READS: usize = 3;

/// Runs the workload.
///
/// # Errors
/// A file that is missing, too short or unreadable, memory that cannot be mapped.
pub fn run(context: &Context) -> io::Result<Finished> {
    let pages = usize::try_from(context.guest_mem).unwrap_or(usize::MAX) / PAGE_SIZE;
    let files = files(pages);
    let mut memory =
        Mapping::anonymous(pages).map_err(about(format_args!("memory of {pages} pages")))?;
    context.measure_passes(Workload::Sequential, |pass| {
        if pass < READS {
            read(context, &files)
        } else if pass == READS {
            read_mapped(context, files.iter().step_by(MAPPED_ONE_IN))
        } else {
            sweep(context.seed, pages, &mut memory)
        }
    })
}

/// As many files of the scan set as hold `pages` pages, or all.
fn files(pages: usize) -> Vec<DataFile> {
    let mut files = Vec::new();
    let mut held = 0;
    for index in 0..Set::Scan.file_count((pages * PAGE_SIZE) as u64) {
        if held >= pages {
            break;
        }
        let file = Set::Scan.file(index);
        held += file.pages as usize;
        files.push(file);
    }
    files
}

fn read(context: &Context, files: &[DataFile]) -> io::Result<Outcome> {
    let mut buffer = vec![0; READ_SIZE];
    let mut outcome = Outcome::default();
    for expected in files {
        let path = context.data.join(&expected.path);
        let mut file = File::open(&path).map_err(about(path.display()))?;
        let mut page = 0;
        while page < expected.pages {
            file.read_exact(&mut buffer)
                .map_err(about(path.display()))?;
            let (found, _) = buffer.as_chunks::<PAGE_SIZE>();
            for found in found {
                outcome.bytes_corrupt += corrupt_bytes(context.seed, expected.file, page, found);
                page += 1;
            }
            outcome.bytes_verified += READ_SIZE as u64;
            outcome.operations += 1;
        }
    }
    Ok(outcome)
}

fn read_mapped<'a>(
    context: &Context,
    files: impl Iterator<Item = &'a DataFile>,
) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    for expected in files {
        let path = context.data.join(&expected.path);
        let file = File::open(&path).map_err(about(path.display()))?;
        let mut mapping = Mapping::of_file_at_random(&file, expected.pages as usize)
            .map_err(about(path.display()))?;
        for page in 0..expected.pages {
            let found = mapping.page(page as usize);
            outcome.bytes_corrupt += corrupt_bytes(context.seed, expected.file, page, found);
            outcome.bytes_verified += PAGE_SIZE as u64;
            outcome.operations += 1;
        }
    }
    Ok(outcome)
}

fn sweep(seed: u64, pages: usize, memory: &mut Mapping) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    for index in 0..pages {
        fill_page(seed, MEMORY, index as u32, memory.page(index));
        outcome.operations += 1;
    }
    for index in 0..pages {
        let page = memory.page(index);
        outcome.bytes_corrupt += corrupt_bytes(seed, MEMORY, index as u32, page);
        outcome.bytes_verified += PAGE_SIZE as u64;
        outcome.operations += 1;
    }
    Ok(outcome)
}
