//! Memory that is called cold goes when others need some.

use super::Task;
use std::io;
use vtmem_workloads::workload::Outcome;

/// One round.
///
/// # Errors
/// What the kernel refuses.
pub fn run(task: &Task) -> io::Result<Outcome> {
    let mut totals = Outcome::default();
    let mut cold = task.sheet(1, 2)?;
    cold.memory.cool()?;
    let mut other = task.sheet(1, 2)?;
    cold.verify(&mut totals);
    other.memory.cool()?;
    cold.memory.bring_back()?;
    other.verify(&mut totals);
    cold.verify(&mut totals);
    Ok(totals)
}
