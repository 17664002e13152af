//! The report: one self-contained page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use vtmem_workloads::workload::Workload;

use super::chart::{self, Bar};
use super::mechanisms;
use super::mode::Mode;
use super::policy::Variant;
use super::quantity::{bytes, count, seconds};
use super::result::{Comparison, Run};
use super::table::{speed, verdict};

const STYLE: &str = include_str!("report.css");
/// More reasons for exits than this make a table nobody reads; the rest is summed up.
const MOST_REASONS: usize = 9;

/// Makes text safe inside elements and attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Lays a comparison out as a page.
pub fn render(comparison: &Comparison) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>vtmem: comparison</title>\n<style>\n{STYLE}</style></head><body>\n\
         <h1>The same work under four disk settings</h1>\n"
    );
    page += &introduction(comparison);
    page += &problems(comparison);
    page += &tiles(comparison);
    for workload in comparison.workloads() {
        page += &workload_section(comparison, workload);
    }
    page += &figures(comparison);
    page += &tmem_section(comparison);
    page += &policies_section(comparison);
    page += &exits_section(comparison);
    page += &explanations(comparison);
    page + "</body></html>\n"
}

fn introduction(comparison: &Comparison) -> String {
    format!(
        "<p class=\"muted\">Linux guests with {} of memory, launched by vtmem on {}; each mode has {} of host memory \
         besides, and the same disks.</p>\n",
        bytes(comparison.guest_mem_bytes),
        if comparison.accel == "lab" {
            "KVM in an emulated host"
        } else {
            "this machine's KVM"
        },
        bytes(comparison.host_mem_bytes),
    )
}

fn problems(comparison: &Comparison) -> String {
    if comparison.problems.is_empty() {
        return String::new();
    }
    let items: String = comparison
        .problems
        .iter()
        .map(|p| format!("<li>{}</li>\n", escape(p)))
        .collect();
    format!(
        "<section class=\"problems\"><h2>Not everything finished</h2><ul>\n{items}</ul></section>\n"
    )
}

fn tiles(comparison: &Comparison) -> String {
    // What a figure is under tmem, in proportion to none.
    let proportion = |workload, value: fn(&Run) -> f64| {
        let none = comparison.run(workload, Mode::None).map(value)?;
        let tmem = comparison.run(workload, Mode::Tmem).map(value)?;
        (none > 0.0 && tmem > 0.0).then_some(tmem / none)
    };
    let change =
        |proportion: f64| format!("{:+.0} %", (proportion - 1.0) * 100.0).replace('-', "\u{2212}");
    let mut tiles = String::new();
    let mut tile = |class: &str, value: String, text: String| {
        let (value, text) = (escape(&value), escape(&text));
        tiles += &format!("<div class=\"tile {class}\"><strong>{value}</strong>{text}</div>\n");
    };
    let corrupt = comparison.bytes_corrupt();
    let class = if corrupt == 0 { "good" } else { "bad" };
    tile(
        class,
        format!("{} wrong", bytes(corrupt)),
        verdict(comparison),
    );
    if let Some(read) = proportion(Workload::Reread, |run| run.disk.read_bytes as f64) {
        tile(
            "",
            change(read),
            "read from disk in reread: tmem against none".to_owned(),
        );
    }
    if let Some(time) = proportion(Workload::Swap, |run| run.seconds) {
        let value = speed(1.0 / time).replace('x', "\u{d7}");
        tile("", value, "as fast in swap: tmem against none".to_owned());
    }
    if let Some(time) = proportion(Workload::Scan, |run| run.seconds) {
        let text = "time for scan, where no cache can help: tmem against none".to_owned();
        tile("", change(time), text);
    }
    let total = comparison
        .runs
        .iter()
        .filter_map(|run| run.tmem)
        .fold((0, 0), |(puts, bells), t| {
            (puts + t.puts, bells + t.doorbells)
        });
    if total.1 > 0 {
        let value = format!("{:.0}", total.0 as f64 / total.1 as f64);
        tile(
            "",
            value,
            "pages put for each doorbell: exits that batching saves".to_owned(),
        );
    }
    format!("<div class=\"tiles\">\n{tiles}</div>\n")
}

fn workload_explanation(workload: Workload) -> &'static str {
    match workload {
        Workload::Reread => {
            "Random reads of 32 KiB, zipf-distributed, over files twice the guest's memory. What the guest's page cache \
             drops is soon wanted again; with tmem it comes back from host memory (cleancache)."
        }
        Workload::Scan => {
            "One sequential pass over files that are never read again. No cache can help here: the plots show what each \
             one costs."
        }
        Workload::Swap => {
            "Anonymous memory, one and a half times what the guest has, written and then read and rewritten at random. What \
             does not fit goes to the swap disk, or with tmem to host memory first (frontswap)."
        }
        Workload::Source => {
            "Real input: grep -r through part of a kernel's source tree, larger than the guest's memory, twice. The second \
             search finds in a cache what that could keep of the first."
        }
        Workload::Sequential => {
            "Files of the guest's size read in order three times, an eighth of them once more page by page through a mapping \
             that the kernel was told not to read ahead for; then anonymous memory of that size, filled and swept. What is \
             stored should come back many pages at a time."
        }
    }
}

fn workload_section(comparison: &Comparison, workload: Workload) -> String {
    let plot = |title: &str, value: fn(&Run) -> f64, text: &dyn Fn(f64) -> String| {
        let bars: Vec<_> = comparison
            .modes()
            .into_iter()
            .filter_map(|mode| comparison.run(workload, mode))
            .map(|run| Bar {
                label: run.mode.clone(),
                value: value(run),
                text: text(value(run)),
            })
            .collect();
        chart::bars(title, &bars)
    };
    let shown_bytes = |value: f64| bytes(value as u64);
    let shown_count = |value: f64| count(value as u64);
    let mut plots = plot("Time", |run| run.seconds, &seconds);
    plots += &plot(
        "Read from disk",
        |run| run.disk.read_bytes as f64,
        &shown_bytes,
    );
    // Most workloads write next to nothing.
    if workload == Workload::Swap {
        plots += &plot(
            "Written to disk",
            |run| run.disk.write_bytes as f64,
            &shown_bytes,
        );
    }
    let operations = |run: &Run| (run.disk.read_ops + run.disk.write_ops) as f64;
    plots += &plot("Disk operations", operations, &shown_count);
    plots += &plot(
        "Exits from the guest",
        |run| run.exits.total as f64,
        &shown_count,
    );
    format!(
        "<section><h2>{workload}</h2><p class=\"muted\">{}</p>\n<div class=\"plots\">\n{plots}</div></section>\n",
        workload_explanation(workload)
    )
}

/// A table; cells are escaped here.
fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut html = String::from("<div class=\"scroll\"><table><thead><tr>");
    for heading in headings {
        // Writing to a string cannot fail.
        let _ = write!(html, "<th>{}</th>", escape(heading));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escape(&cell));
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody></table></div>\n"
}

fn run_name(run: &Run) -> String {
    match &run.policy {
        Some(policy) => format!("{} / {} with {policy}", run.workload, run.mode),
        None => format!("{} / {}", run.workload, run.mode),
    }
}

fn figures(comparison: &Comparison) -> String {
    let rows = comparison.runs.iter().map(|run| {
        vec![
            run_name(run),
            seconds(run.seconds),
            count(run.operations),
            bytes(run.bytes_verified),
            bytes(run.bytes_corrupt),
            bytes(run.disk.read_bytes),
            bytes(run.disk.write_bytes),
            count(run.disk.read_ops),
            count(run.disk.write_ops),
            count(run.exits.total),
            run.exits_per_1000_pages
                .map(|exits| format!("{exits:.0}"))
                .unwrap_or_default(),
            bytes(run.host_peak_bytes),
        ]
    });
    let headings = [
        "run",
        "time",
        "operations",
        "verified",
        "wrong",
        "read",
        "written",
        "reads",
        "writes",
        "exits",
        "per 1000 pages moved",
        "host memory peak",
    ];
    format!(
        "<section><h2>All figures</h2>\n{}</section>\n",
        table(&headings, rows)
    )
}

/// A table for each workload that has rows.
fn tables(
    comparison: &Comparison,
    headings: &[&str],
    rows_of: impl Fn(&Comparison, Workload) -> Vec<Vec<String>>,
) -> String {
    let mut html = String::new();
    for workload in comparison.workloads() {
        let rows = rows_of(comparison, workload);
        if !rows.is_empty() {
            let _ = writeln!(html, "<h3>{workload}</h3>");
            html += &table(headings, rows.into_iter());
        }
    }
    html
}

fn tmem_section(comparison: &Comparison) -> String {
    let tables = tables(comparison, mechanisms::WORK, mechanisms::work_rows);
    if tables.is_empty() {
        return String::new();
    }
    format!(
        "<section><h2>What virtio-tmem did</h2><p class=\"muted\">Pages: put to the host; declined, for admission held them not to \
         be worth a copy; got from the host, some of them ahead of being asked for; gets that found nothing; and all that were \
         copied either way. What the guest's index of the host's pages answered inside the guest took no exit; a doorbell of the \
         put queue, and every exit of the get queue, did.</p>\n{tables}</section>\n"
    )
}

fn policies_section(comparison: &Comparison) -> String {
    let tables = tables(comparison, mechanisms::POLICIES, mechanisms::policy_rows);
    if tables.is_empty() {
        return String::new();
    }
    let policies: String = comparison
        .policies()
        .into_iter()
        .map(|policy| {
            format!(
                "<dt>{}</dt><dd>{}</dd>\n",
                policy.name(),
                policy.explanation()
            )
        })
        .collect();
    let mut plots = String::new();
    for workload in comparison.workloads() {
        let variants = comparison.policies().into_iter().map(Variant::without);
        let bars: Vec<_> = [Variant::from(Mode::Tmem)]
            .into_iter()
            .chain(variants)
            .filter_map(|variant| Some((variant, comparison.run(workload, variant)?)))
            .map(|(variant, run)| Bar {
                label: variant.label().to_owned(),
                value: run.exits.total as f64,
                text: count(run.exits.total),
            })
            .collect();
        plots += &chart::bars(&format!("Exits in {workload}"), &bars);
    }
    format!(
        "<section><h2>What each mechanism buys</h2><p class=\"muted\">tmem as it is, and with one thing switched off, in \
         proportion to all on.</p>\n<dl>{policies}</dl>\n<div class=\"plots\">\n{plots}</div>\n{tables}</section>\n"
    )
}

fn exits_section(comparison: &Comparison) -> String {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for run in &comparison.runs {
        for (reason, exits) in &run.exits.reasons {
            *sums.entry(reason).or_default() += exits;
        }
    }
    let mut reasons: Vec<(&str, u64)> = sums.into_iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    reasons.truncate(MOST_REASONS);
    let mut headings = vec!["run", "total"];
    headings.extend(reasons.iter().map(|(reason, _)| *reason));
    let rows = comparison.runs.iter().map(|run| {
        let of = |reason: &str| run.exits.reasons.get(reason).copied().unwrap_or(0);
        let mut row = vec![run_name(run), count(run.exits.total)];
        row.extend(reasons.iter().map(|(reason, _)| count(of(reason))));
        row
    });
    format!(
        "<section><h2>Exits by reason</h2><p class=\"muted\">As KVM counts them (KVM_GET_STATS_FD); one exit may count \
         under more than one of the reasons, or under none.</p>\n{}</section>\n",
        table(&headings, rows)
    )
}

fn explanations(comparison: &Comparison) -> String {
    let modes: String = comparison
        .modes()
        .into_iter()
        .map(|mode| format!("<dt>{mode}</dt><dd>{}</dd>\n", mode.explanation()))
        .collect();
    let clock = match comparison.instructions_per_ns {
        Some(factor) => format!(
            "The emulated host runs in virtual time: each instruction takes one virtual nanosecond, so two runs give the same \
             figures. A real core retires several instructions in a nanosecond; times here are virtual time divided by \
             {factor}, and the modelled latency of the disks was multiplied by it. Absolute times are a model's; \
             counts and bytes are exact."
        ),
        None => "Times are wall time on this machine.".to_owned(),
    };
    format!(
        "<section><h2>How this was measured</h2>\n<dl>{modes}</dl>\n<p>One guest for each mode runs all workloads, each from \
         dropped caches, and compares every byte that it reads back with what it should be. {clock} Disk figures are those of the \
         host's block layer where the disk is a block device; they include the swap disk. The host memory peak \
         contains the guest's own memory.</p></section>\n"
    )
}

#[cfg(test)]
#[path = "html_test.rs"]
mod tests;
