//! Transparent huge pages: they are split when they are swapped out, or a part of them goes.

use super::Task;
use super::sheet::Sheet;
use crate::context::about;
use crate::mapping::Mapping;
use std::io;
use vtmem_workloads::content::PAGE_SIZE;
use vtmem_workloads::random::mix;
use vtmem_workloads::workload::Outcome;

/// One round, with half of memory.
///
/// # Errors
/// What the kernel refuses.
pub fn run(task: &Task) -> io::Result<Outcome> {
    let mut totals = Outcome::default();
    let pages = (task.mem / 2) as usize / PAGE_SIZE;
    let memory =
        Mapping::huge(pages).map_err(about(format_args!("huge memory of {pages} pages")))?;
    let mut sheet = Sheet::on(memory, task.seed, pages);
    // One page in the middle of each huge one: that alone splits it.
    for page in (255..sheet.pages()).step_by(512) {
        sheet.memory.reclaim_one(page);
    }
    sheet.verify(&mut totals);
    sheet.refill(mix(task.seed));
    sheet.memory.reclaim();
    sheet.memory.bring_back()?;
    sheet.verify(&mut totals);
    Ok(totals)
}
