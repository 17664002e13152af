//! The table on the terminal.

use std::fmt::Write as _;

use vtmem_workloads::workload::Workload;

use super::mechanisms;
use super::mode::Mode;
use super::quantity::{bytes, count, seconds};
use super::result::{Comparison, Run};

const HEADINGS: [&str; 10] = [
    "",
    "seconds",
    "vs none",
    "disk read",
    "written",
    "disk ops",
    "exits",
    "per 1000 pages",
    "host peak",
    "tmem hits",
];

/// Lays a comparison out as text, one block for each workload; then what tmem did, and what each of its mechanisms buys.
pub fn render(comparison: &Comparison) -> String {
    let modes = |workload| {
        let none = comparison.run(workload, Mode::None);
        let modes = comparison.modes().into_iter();
        let runs = modes.filter_map(move |mode| comparison.run(workload, mode));
        runs.map(|run| row(run, none).to_vec()).collect()
    };
    let mut text = lay_out(&blocks(comparison, &HEADINGS, modes));
    let work = |workload| mechanisms::work_rows(comparison, workload);
    let work = blocks(comparison, mechanisms::WORK, work);
    if work.len() > 1 {
        text += "\nWhat tmem did; \"inside\" took no exit:\n";
        text += &lay_out(&work);
    }
    let policies = |workload| mechanisms::policy_rows(comparison, workload);
    let policies = blocks(comparison, mechanisms::POLICIES, policies);
    if policies.len() > 1 {
        text += "\nWhat each mechanism buys: tmem with it switched off, in proportion to all on:\n";
        text += &lay_out(&policies);
    }
    let _ = writeln!(text, "\n{}", verdict(comparison));
    for problem in &comparison.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    text
}

/// The headings' row, and then a block of rows for each workload that has some.
fn blocks(
    comparison: &Comparison,
    headings: &[&str],
    rows_of: impl Fn(Workload) -> Vec<Vec<String>>,
) -> Vec<Vec<String>> {
    let mut rows = vec![headings.iter().map(|&heading| heading.to_owned()).collect()];
    for workload in comparison.workloads() {
        let block = rows_of(workload);
        if block.is_empty() {
            continue;
        }
        rows.push(vec![workload.name().to_owned()]);
        rows.extend(block.into_iter().map(|mut row| {
            row[0].insert_str(0, "  ");
            row
        }));
    }
    rows
}

/// Aligns columns; the first to the left, the others to the right.
fn lay_out(rows: &[Vec<String>]) -> String {
    let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or(0)];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(run: &Run, none: Option<&Run>) -> [String; HEADINGS.len()] {
    let ratio = none.filter(|none| none.mode != run.mode && run.seconds > 0.0);
    let tmem = run
        .tmem
        .map(|tmem| format!("{} of {}", count(tmem.hits), count(tmem.gets)));
    [
        run.mode.clone(),
        seconds(run.seconds),
        ratio
            .map(|none| speed(none.seconds / run.seconds))
            .unwrap_or_default(),
        bytes(run.disk.read_bytes),
        bytes(run.disk.write_bytes),
        count(run.disk.read_ops + run.disk.write_ops),
        count(run.exits.total),
        run.exits_per_1000_pages
            .map(|exits| count(exits.round() as u64))
            .unwrap_or_default(),
        bytes(run.host_peak_bytes),
        tmem.unwrap_or_default(),
    ]
}

/// How much faster something is.
pub fn speed(factor: f64) -> String {
    if factor < 10.0 {
        format!("{factor:.2}x")
    } else {
        format!("{factor:.0}x")
    }
}

/// Whether all was well, in one line.
pub fn verdict(comparison: &Comparison) -> String {
    let verified = bytes(comparison.bytes_verified());
    match comparison.bytes_corrupt() {
        0 => format!("{verified} read back and verified, no byte wrong"),
        corrupt => format!("{} of {verified} read back are WRONG", bytes(corrupt)),
    }
}

#[cfg(test)]
#[path = "table_test.rs"]
mod tests;
