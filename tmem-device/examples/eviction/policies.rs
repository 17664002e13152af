//! What the pool is compared with: policies that know whole pages alone, and take no memory for what they know.

use std::collections::{BTreeMap, BTreeSet};

use crate::trace::Step;

/// Gets that found their page, of those in `steps`, with room for so many pages that the one put longest ago goes first. Since a get
/// removes the page, that is least recently used as well as first in, first out.
pub fn lru(steps: &[Step], room: usize) -> usize {
    let mut hits = 0;
    let mut puts: BTreeMap<u32, usize> = BTreeMap::new();
    let mut ages: BTreeMap<usize, u32> = BTreeMap::new();
    for (now, step) in steps.iter().enumerate() {
        let (Step::Put(page) | Step::Get(page) | Step::Flush(page)) = *step;
        let stored = puts.remove(&page);
        if let Some(age) = stored {
            ages.remove(&age);
        }
        match step {
            Step::Put(_) => {
                puts.insert(page, now);
                ages.insert(now, page);
                if ages.len() > room
                    && let Some((_, oldest)) = ages.pop_first()
                {
                    puts.remove(&oldest);
                }
            }
            Step::Get(_) => hits += usize::from(stored.is_some()),
            Step::Flush(_) => {}
        }
    }
    hits
}

/// As [`lru`], but the page goes whose get is furthest in the future, the one just put included (L. Belady, "A study of
/// replacement algorithms for a virtual-storage computer", 1966): no policy has more hits.
pub fn optimum(steps: &[Step], room: usize) -> usize {
    const NEVER: usize = usize::MAX;
    // When what each step puts is got, if nothing else becomes of it before.
    let mut wanted = vec![NEVER; steps.len()];
    let mut next: BTreeMap<u32, usize> = BTreeMap::new();
    for (now, step) in steps.iter().enumerate().rev() {
        match *step {
            Step::Put(page) => wanted[now] = next.remove(&page).unwrap_or(NEVER),
            Step::Get(page) => {
                next.insert(page, now);
            }
            Step::Flush(page) => {
                next.remove(&page);
            }
        }
    }
    let mut hits = 0;
    let mut stored: BTreeSet<usize> = BTreeSet::new();
    for (now, step) in steps.iter().enumerate() {
        match step {
            // What is never got needs no room.
            Step::Put(_) if wanted[now] != NEVER => {
                stored.insert(wanted[now]);
                if stored.len() > room {
                    stored.pop_last();
                }
            }
            Step::Get(_) => hits += usize::from(stored.remove(&now)),
            Step::Put(_) | Step::Flush(_) => {}
        }
    }
    hits
}

#[cfg(test)]
#[path = "policies_test.rs"]
mod tests;
