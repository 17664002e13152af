//! `source`: real input. `grep -r` goes twice through a source tree larger than the guest's memory; then, no longer
//! measured, every byte of the tree is read back and compared with the checksums made when the disk was built.

use crate::context::{Context, about, drop_caches};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use vtmem_workloads::dataset::{SOURCE_DIR, SOURCE_EXPECT};
use vtmem_workloads::source::{Checksum, Expectation, Matches};
use vtmem_workloads::workload::{Finished, Outcome, Workload};

/// Files that are on their way together when the tree is verified: one by one, most of the time would be waiting.
const READ_AHEAD: usize = 32;

/// Runs the workload.
///
/// # Errors
/// grep that cannot be run or fails, a file that is missing or unreadable, and matches that are not those expected.
pub fn run(context: &Context) -> io::Result<Finished> {
    let path = context.data.join(SOURCE_EXPECT);
    let expected = File::open(&path)
        .and_then(Expectation::from_text)
        .map_err(about(path.display()))?;
    let tree = context.data.join(SOURCE_DIR);

    let mut found = Vec::new();
    let mut finished = context.measure_passes(Workload::Source, |_| {
        found.push(search(&tree, &expected.pattern)?);
        Ok(Outcome {
            operations: expected.files.len() as u64,
            ..Outcome::default()
        })
    })?;

    drop_caches();
    let mut bytes_corrupt = 0;
    for (number, file) in expected.files.iter().enumerate() {
        if number % READ_AHEAD == 0 {
            let end = expected.files.len().min(number + READ_AHEAD);
            for file in &expected.files[number..end] {
                read_ahead(&tree.join(&file.path));
            }
        }
        let path = tree.join(&file.path);
        if !matches_checksum(&path, file.length, file.checksum).map_err(about(path.display()))? {
            eprintln!("{}: wrong content", path.display());
            bytes_corrupt += file.length.max(1);
        }
    }
    // What grep printed is made of bytes that it read: lines that differ mean wrong bytes, though not how many.
    for found in &found {
        if *found != expected.matches {
            eprintln!(
                "grep found {} lines; expected {}",
                found.lines, expected.matches.lines
            );
            bytes_corrupt += 1;
        }
    }
    finished.total.bytes_verified = expected.bytes();
    finished.total.bytes_corrupt = bytes_corrupt;
    Ok(finished)
}

fn search(tree: &Path, pattern: &str) -> io::Result<Matches> {
    let mut grep = Command::new("grep")
        .args(["-r", "-h", "-a", "-F", "-e", pattern])
        .arg(tree)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(about("grep"))?;
    let mut found = Matches::default();
    if let Some(output) = grep.stdout.take() {
        for line in BufReader::with_capacity(64 * 1024, output).split(b'\n') {
            found.add(&line?);
        }
    }
    let status = grep.wait()?;
    // 1: no match, which the comparison reports.
    if !matches!(status.code(), Some(0 | 1)) {
        return Err(io::Error::other(format!("grep: {status}")));
    }
    Ok(found)
}

/// Has the kernel begin to read a file; a hint.
fn read_ahead(path: &Path) {
    if let Ok(file) = File::open(path) {
        // SAFETY: an open file; no memory is involved.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_WILLNEED) };
    }
}

fn matches_checksum(path: &Path, length: u64, checksum: u64) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut found = Checksum::default();
    let mut read = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(read == length && found.finish() == checksum);
        }
        found.update(&buffer[..count]);
        read += count as u64;
    }
}
