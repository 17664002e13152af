//! A process with much memory forks, and both change all of it: there is twice as much.

use super::Task;
use super::child::Forked;
use std::io;
use vtmem_workloads::random::mix;
use vtmem_workloads::workload::Outcome;

/// One round.
///
/// # Errors
/// What the kernel refuses, or the child did not come to its end.
pub fn run(task: &Task) -> io::Result<Outcome> {
    let mut totals = Outcome::default();
    let mut sheet = task.sheet(1, 2)?;
    let child = Forked::start(|| {
        let mut found = Outcome::default();
        sheet.verify(&mut found);
        sheet.refill(mix(task.seed ^ 1));
        sheet.verify(&mut found);
        found
    })?;
    sheet.memory.reclaim();
    sheet.verify(&mut totals);
    sheet.refill(mix(task.seed ^ 2));
    sheet.verify(&mut totals);
    child.join(&mut totals)?;
    Ok(totals)
}
