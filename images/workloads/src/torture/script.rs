//! What was done until something was wrong, and as little of it as still makes it go wrong.

use super::operation::Operation;
use std::collections::VecDeque;

/// A thread remembers this many operations.
const REMEMBERED: usize = 16 << 10;
/// Beginnings of a search: as many of the last operations.
const LAST: [usize; 4] = [64, 256, 1024, usize::MAX];

/// What one thread did, each operation with its place in the order of all threads'.
#[derive(Debug, Default)]
pub struct Trace {
    operations: VecDeque<(u64, Operation)>,
}

impl Trace {
    /// Notes an operation that is about to begin.
    pub fn note(&mut self, place: u64, operation: Operation) {
        if self.operations.len() == REMEMBERED {
            self.operations.pop_front();
        }
        self.operations.push_back((place, operation));
    }
}

/// What all threads did that concerns the file numbered `file`, in order.
pub fn of_file(traces: &[Trace], file: u32) -> Vec<Operation> {
    let all = traces.iter().flat_map(|trace| &trace.operations);
    let mut those: Vec<_> = all
        .filter(|(_, operation)| operation.concerns(file))
        .collect();
    those.sort_by_key(|(place, _)| *place);
    those.into_iter().map(|(_, operation)| *operation).collect()
}

/// Finds few operations among `all`, in their order, that `fails` when it does them to new files. None if it does not fail
/// without other threads, or without what was forgotten. `fails` says `None` when there is no more time: the best that was
/// found so far is then the result.
pub fn shrink(
    all: &[Operation],
    mut fails: impl FnMut(&[Operation]) -> Option<bool>,
) -> Option<Vec<Operation>> {
    let mut best = LAST
        .into_iter()
        .map(|last| &all[all.len().saturating_sub(last)..])
        .find(|these| fails(these) == Some(true))?
        .to_vec();
    // Zeller's ddmin: leave out ever smaller pieces.
    let mut piece = best.len().div_ceil(2);
    loop {
        let mut start = 0;
        let mut smaller = false;
        while start < best.len() && best.len() > 1 {
            let end = (start + piece).min(best.len());
            let without = [&best[..start], &best[end..]].concat();
            match fails(&without) {
                Some(true) => {
                    best = without;
                    smaller = true;
                }
                Some(false) => start = end,
                None => return Some(best),
            }
        }
        if piece == 1 && !smaller {
            return Some(best);
        }
        piece = piece.div_ceil(2).min(best.len().div_ceil(2)).max(1);
    }
}

#[cfg(test)]
#[path = "script_test.rs"]
mod tests;
