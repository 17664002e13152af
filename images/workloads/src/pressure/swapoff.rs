//! All that is swapped out comes back at once, because swap goes.

use super::Task;
use std::io;
use std::process::Command;
use vtmem_workloads::workload::Outcome;

/// One round. A third of memory is swapped out, so that there is room for it.
///
/// # Errors
/// Swap cannot be switched off, or on again.
pub fn run(task: &Task) -> io::Result<Outcome> {
    let mut totals = Outcome::default();
    let mut sheet = task.sheet(1, 3)?;
    sheet.memory.reclaim();
    let switch = |program: &str| match Command::new(program).arg(&task.swap).status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!(
            "{program} {}: {status}",
            task.swap.display()
        ))),
    };
    let off = switch("swapoff");
    sheet.verify(&mut totals);
    off?;
    switch("swapon")?;
    Ok(totals)
}
