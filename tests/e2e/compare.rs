//! What `vtmem compare` must show: figures that repeat, and tmem that pays.

use std::fs;

use serde_json::Value;

use crate::Case;
use crate::host::vtmem;

pub const CASES: &[Case] = &[
    Case {
        name: "compare::reread_repeats_and_pays",
        needs_guests: true,
        // Two labs on two cores, twice.
        alone: true,
        run: reread,
    },
    Case {
        name: "compare::swap_pays",
        needs_guests: true,
        alone: false,
        run: swap,
    },
];

/// Runs `vtmem compare` with `args`; returns the JSON that it wrote.
fn compare(args: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let json = dir.path().join("a.json");
    let mut all = vec!["compare", "--json", json.to_str().expect("UTF-8 path")];
    all.extend_from_slice(args);
    let done = vtmem(&all);
    assert_eq!(done.status, Some(0), "{}\n{}", done.stdout, done.stderr);
    fs::read_to_string(&json).expect("the JSON that compare wrote")
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

/// The run of `workload` under `mode`.
fn find<'a>(json: &'a Value, workload: &str, mode: &str) -> &'a Value {
    json["runs"]
        .as_array()
        .expect("runs")
        .iter()
        .find(|run| run["workload"] == workload && run["mode"] == mode)
        .unwrap_or_else(|| panic!("no run of {workload} under {mode} in {json}"))
}

/// The number at `path` (keys joined by dots) of `run`.
fn number(run: &Value, path: &str) -> f64 {
    let value = path.split('.').fold(run, |value, key| &value[key]);
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{path} is {value} in {run}"))
}

fn reread() {
    let args = ["--workload", "reread", "--mode", "none", "--mode", "tmem"];
    let text = compare(&args);
    let first = parsed(&text);
    if first["clock"] == "virtual" {
        assert_eq!(text, compare(&args), "not byte for byte the same");
    }
    let none = find(&first, "reread", "none");
    let tmem = find(&first, "reread", "tmem");
    for run in [none, tmem] {
        assert_eq!(number(run, "bytes_corrupt"), 0.0);
        assert!(number(run, "bytes_verified") > 64e6, "{run}");
        assert!(number(run, "exits.total") > 0.0, "{run}");
    }
    let (without, with) = (
        number(none, "disk.read_bytes"),
        number(tmem, "disk.read_bytes"),
    );
    assert!(
        with <= 0.6 * without,
        "tmem read {with} bytes from disk, none {without}"
    );
    let (doorbells, puts) = (number(tmem, "tmem.doorbells"), number(tmem, "tmem.puts"));
    assert!(
        doorbells <= puts / 16.0,
        "{doorbells} doorbells for {puts} puts"
    );
    assert!(number(tmem, "tmem.hits") > 0.0);
    assert!(none["tmem"].is_null());
}

fn swap() {
    let json = parsed(&compare(&["--workload", "swap", "--mode", "none,tmem"]));
    let (none, tmem) = (find(&json, "swap", "none"), find(&json, "swap", "tmem"));
    for run in [none, tmem] {
        assert_eq!(number(run, "bytes_corrupt"), 0.0);
        assert!(number(run, "bytes_verified") > 150e6, "{run}");
    }
    // Everything that was swapped out is in the pool, and comes back from there.
    for bytes in ["disk.read_bytes", "disk.write_bytes"] {
        let (without, with) = (number(none, bytes), number(tmem, bytes));
        assert!(
            without > 100e6 && with <= 0.01 * without,
            "{bytes}: {with} of {without}"
        );
    }
    assert!(
        number(tmem, "tmem.hits") > 0.95 * number(tmem, "tmem.gets"),
        "{tmem}"
    );
    let (none, tmem) = (number(none, "seconds"), number(tmem, "seconds"));
    assert!(
        tmem <= none / 3.0,
        "swap took {tmem} s with tmem, {none} s without"
    );
}
