//! What each mechanism of tmem does, and what it buys: the rows of two tables that the terminal and the page share.

use vtmem_workloads::workload::Workload;

use super::mode::Mode;
use super::policy::Variant;
use super::quantity::{bytes, count, seconds};
use super::result::{Comparison, Disk, Exits, Run, Tmem};

/// A table's headings; the first column has none.
pub type Headings = &'static [&'static str];

/// Headings of [`work_rows`].
pub const WORK: Headings = &[
    "",
    "put",
    "declined",
    "got",
    "ahead",
    "useless gets",
    "copied",
    "misses inside",
    "flushes inside",
    "doorbells",
    "get exits",
];

/// What the guest and its host did with tmem during `workload` and during each of its passes.
pub fn work_rows(comparison: &Comparison, workload: Workload) -> Vec<Vec<String>> {
    let Some(run) = comparison.run(workload, Mode::Tmem) else {
        return Vec::new();
    };
    let passes = run
        .phases
        .iter()
        .map(|phase| (phase.name.as_str(), phase.tmem));
    [("all of it", run.tmem)]
        .into_iter()
        .chain(passes)
        .filter_map(|(name, tmem)| Some(work_row(name, tmem?)))
        .collect()
}

fn work_row(name: &str, tmem: Tmem) -> Vec<String> {
    let figures = [
        tmem.puts,
        tmem.puts_declined,
        tmem.hits,
        tmem.gets_ahead,
        tmem.gets.saturating_sub(tmem.hits),
        tmem.pages_copied,
        tmem.misses_in_guest,
        tmem.flushes_in_guest,
        tmem.doorbells,
        tmem.get_exits,
    ];
    [name.to_owned()]
        .into_iter()
        .chain(figures.map(count))
        .collect()
}

/// Headings of [`policy_rows`].
pub const POLICIES: Headings = &[
    "",
    "seconds",
    "",
    "exits",
    "",
    "get exits",
    "doorbells",
    "copied",
    "useless gets",
    "disk read",
];

/// Mode tmem as it is, and then with each thing switched off, as far as there are such runs; with the proportion to it
/// as it is. Empty when nothing was switched off. For a workload of passes there are rows for each pass, too.
pub fn policy_rows(comparison: &Comparison, workload: Workload) -> Vec<Vec<String>> {
    let policies = comparison.policies();
    let Some(whole) = comparison.run(workload, Mode::Tmem) else {
        return Vec::new();
    };
    let runs: Vec<(&'static str, &Run)> = policies
        .into_iter()
        .filter_map(|policy| {
            let run = comparison.run(workload, Variant::without(policy))?;
            Some((policy.name(), run))
        })
        .collect();
    if runs.is_empty() {
        return Vec::new();
    }
    let mut rows = Vec::new();
    let mut block = |pass: Option<usize>| {
        let Some(base) = cost(whole, pass) else {
            return;
        };
        let name = match pass.and_then(|pass| whole.phases.get(pass)) {
            Some(phase) => format!("{}, all on", phase.name),
            None => "all on".to_owned(),
        };
        rows.push(policy_row(name, &base, None));
        for (name, run) in &runs {
            let costs = cost(run, pass);
            rows.extend(costs.map(|cost| policy_row(format!("  {name}"), &cost, Some(&base))));
        }
    };
    block(None);
    for pass in 0..whole.phases.len() {
        block(Some(pass));
    }
    rows
}

/// What a run, or a pass of it, took.
struct Cost<'a> {
    seconds: f64,
    exits: &'a Exits,
    disk: Disk,
    tmem: Tmem,
}

fn cost(run: &Run, pass: Option<usize>) -> Option<Cost<'_>> {
    Some(match pass {
        None => Cost {
            seconds: run.seconds,
            exits: &run.exits,
            disk: run.disk,
            tmem: run.tmem?,
        },
        Some(pass) => {
            let phase = run.phases.get(pass)?;
            Cost {
                seconds: phase.seconds,
                exits: &phase.exits,
                disk: phase.disk,
                tmem: phase.tmem?,
            }
        }
    })
}

fn policy_row(name: String, cost: &Cost, base: Option<&Cost>) -> Vec<String> {
    let proportion = |value: f64, of: f64| {
        if of > 0.0 {
            format!("x{:.2}", value / of)
        } else {
            String::new()
        }
    };
    let exits = |cost: &Cost| cost.exits.total as f64;
    let tmem = cost.tmem;
    vec![
        name,
        seconds(cost.seconds),
        base.map_or_else(String::new, |base| proportion(cost.seconds, base.seconds)),
        count(cost.exits.total),
        base.map_or_else(String::new, |base| proportion(exits(cost), exits(base))),
        count(tmem.get_exits),
        count(tmem.doorbells),
        count(tmem.pages_copied),
        count(tmem.gets.saturating_sub(tmem.hits)),
        bytes(cost.disk.read_bytes),
    ]
}

#[cfg(test)]
#[path = "mechanisms_test.rs"]
mod tests;
