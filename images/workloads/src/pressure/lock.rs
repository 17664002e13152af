//! Half of memory is locked; what is left of it has to do for three times its size.

use super::Task;
use std::io;
use vtmem_workloads::random::mix;
use vtmem_workloads::workload::Outcome;

/// One round. The locked memory was swapped out before, so locking it reads it.
///
/// # Errors
/// What the kernel refuses.
pub fn run(task: &Task) -> io::Result<Outcome> {
    let mut totals = Outcome::default();
    let mut locked = task.sheet(1, 2)?;
    locked.memory.reclaim();
    locked.memory.lock()?;
    let mut other = task.sheet(3, 8)?;
    other.memory.reclaim();
    other.memory.bring_back()?;
    other.verify(&mut totals);
    other.refill(mix(task.seed));
    other.verify(&mut totals);
    locked.verify(&mut totals);
    Ok(totals)
}
