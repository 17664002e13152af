//! The table on the terminal.

use std::fmt::Write as _;

use super::mode::Mode;
use super::quantity::{bytes, count, seconds};
use super::result::{Comparison, Run};

const HEADINGS: [&str; 9] = [
    "",
    "seconds",
    "vs none",
    "disk read",
    "written",
    "disk ops",
    "exits",
    "host peak",
    "tmem hits",
];

/// Lays a comparison out as text, one block for each workload.
pub fn render(comparison: &Comparison) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for workload in comparison.workloads() {
        let mut heading = [const { String::new() }; HEADINGS.len()];
        heading[0] = workload.name().to_owned();
        rows.push(heading);
        let none = comparison.run(workload, Mode::None);
        let modes = comparison.modes();
        rows.extend(
            modes
                .iter()
                .filter_map(|m| comparison.run(workload, *m))
                .map(|r| row(r, none)),
        );
    }
    let mut widths = [0; HEADINGS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            // Writing to a string cannot fail.
            let _ = write!(line, "  {cell:>width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let _ = writeln!(text, "\n{}", verdict(comparison));
    for problem in &comparison.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    text
}

fn row(run: &Run, none: Option<&Run>) -> [String; HEADINGS.len()] {
    let ratio = none.filter(|none| none.mode != run.mode && run.seconds > 0.0);
    let tmem = run
        .tmem
        .map(|tmem| format!("{} of {}", count(tmem.hits), count(tmem.gets)));
    [
        format!("  {}", run.mode),
        seconds(run.seconds),
        ratio
            .map(|none| speed(none.seconds / run.seconds))
            .unwrap_or_default(),
        bytes(run.disk.read_bytes),
        bytes(run.disk.write_bytes),
        count(run.disk.read_ops + run.disk.write_ops),
        count(run.exits.total),
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
