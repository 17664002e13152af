//! Three quarters of memory go out, and are asked for again at once.

use super::Task;
use std::io;
use vtmem_workloads::workload::Outcome;

/// One round.
///
/// # Errors
/// What the kernel refuses.
pub fn run(task: &Task) -> io::Result<Outcome> {
    let mut totals = Outcome::default();
    let mut sheet = task.sheet(3, 4)?;
    sheet.memory.reclaim();
    sheet.memory.bring_back()?;
    sheet.verify(&mut totals);
    Ok(totals)
}
