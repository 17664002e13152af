//! One process has another's memory called cold, put out and brought back, while that one uses it.

use super::Task;
use super::child::Forked;
use std::io;
use vtmem_workloads::random::mix;
use vtmem_workloads::workload::Outcome;

/// How often each of the two does its part.
const TURNS: u64 = 3;

/// One round.
///
/// # Errors
/// What the kernel refuses, or the child did not come to its end.
pub fn run(task: &Task) -> io::Result<Outcome> {
    let mut totals = Outcome::default();
    let mut sheet = task.sheet(1, 2)?;
    let (address, length) = sheet.memory.place();
    let child = Forked::start(|| {
        let mut found = Outcome::default();
        for turn in 0..TURNS {
            sheet.refill(mix(task.seed ^ turn));
            sheet.verify(&mut found);
        }
        found
    })?;
    // The child's are copies, so these can go.
    drop(sheet);
    let descriptor = child.descriptor()?;
    for _ in 0..TURNS {
        for advice in [libc::MADV_COLD, libc::MADV_PAGEOUT, libc::MADV_WILLNEED] {
            child.advise(&descriptor, address, length, advice)?;
        }
    }
    child.join(&mut totals)?;
    Ok(totals)
}
