//! What `vtmem compare` must show: figures that repeat, tmem that pays, and no exit for nothing.

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
        name: "compare::swap_pays_and_scan_costs_nothing",
        needs_guests: true,
        alone: false,
        run: swap_and_scan,
    },
    Case {
        name: "compare::source_is_cached_when_it_comes_again",
        needs_guests: true,
        alone: false,
        run: source,
    },
    Case {
        name: "compare::what_is_read_in_order_comes_in_windows",
        needs_guests: true,
        alone: false,
        run: sequential,
    },
    Case {
        name: "compare::each_mechanism_buys_something",
        needs_guests: true,
        alone: false,
        run: policies,
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
        .find(|run| run["workload"] == workload && run["mode"] == mode && run["policy"].is_null())
        .unwrap_or_else(|| panic!("no run of {workload} under {mode} in {json}"))
}

fn find_policy<'a>(json: &'a Value, workload: &str, policy: &str) -> &'a Value {
    let runs = json["runs"].as_array().expect("runs");
    let mut named = runs
        .iter()
        .filter(|run| run["workload"] == workload && run["policy"] == policy);
    named
        .next()
        .unwrap_or_else(|| panic!("no run of {workload} with {policy} in {json}"))
}

/// A pass of a run.
fn phase<'a>(run: &'a Value, name: &str) -> &'a Value {
    let phases = run["phases"].as_array().expect("phases");
    let mut named = phases.iter().filter(|phase| phase["name"] == name);
    named
        .next()
        .unwrap_or_else(|| panic!("no {name} phase in {run}"))
}

/// Of 64 puts, at most one rang the doorbell.
fn assert_puts_travel_in_batches(run: &Value) {
    let (doorbells, puts) = (number(run, "tmem.doorbells"), number(run, "tmem.puts"));
    assert!(
        puts > 0.0 && doorbells <= puts / 64.0,
        "{doorbells} doorbells for {puts} puts"
    );
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
    assert_puts_travel_in_batches(tmem);
    assert!(none["tmem"].is_null());

    // The guest knows what the host does not have: what it asks for is there, in both passes.
    for name in ["cold", "warm"] {
        let pass = phase(tmem, name);
        let (gets, hits) = (number(pass, "tmem.gets"), number(pass, "tmem.hits"));
        assert!(hits > 0.0 && gets - hits <= 0.001 * hits, "{pass}");
    }
    let warm = phase(tmem, "warm");
    assert!(
        number(warm, "tmem.chains") <= number(warm, "tmem.hits"),
        "{warm}"
    );
}

fn swap_and_scan() {
    let json = parsed(&compare(&[
        "--workload",
        "scan,swap",
        "--mode",
        "none,tmem",
    ]));
    let (none, tmem) = (find(&json, "scan", "none"), find(&json, "scan", "tmem"));
    let (without, with) = (number(none, "exits.total"), number(tmem, "exits.total"));
    assert!(
        with <= 1.01 * without,
        "scan took {with} exits with tmem, {without} without"
    );
    let (puts, pages) = (
        number(tmem, "tmem.puts"),
        number(tmem, "bytes_verified") / 4096.0,
    );
    assert!(puts <= 0.01 * pages, "{puts} of {pages} pages were copied");

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
    assert_puts_travel_in_batches(tmem);
    let (none, tmem) = (number(none, "seconds"), number(tmem, "seconds"));
    assert!(
        tmem <= 0.2 * none,
        "swap took {tmem} s with tmem, {none} s without"
    );
}

fn source() {
    let json = parsed(&compare(&["--workload", "source", "--mode", "none,tmem"]));
    let (none, tmem) = (find(&json, "source", "none"), find(&json, "source", "tmem"));
    assert_eq!(number(tmem, "bytes_corrupt"), 0.0);
    let (none, tmem) = (phase(none, "warm"), phase(tmem, "warm"));
    let (gets, hits) = (number(tmem, "tmem.gets"), number(tmem, "tmem.hits"));
    assert!(hits > 25_000.0 && gets - hits <= 0.001 * hits, "{tmem}");
    // Chains of gets and of puts together, each of which is at most one exit.
    assert!(number(tmem, "tmem.chains") <= 0.5 * gets, "{tmem}");
    assert_puts_travel_in_batches(tmem);
    let (none, tmem) = (number(none, "seconds"), number(tmem, "seconds"));
    assert!(
        tmem <= 0.6 * none,
        "the second search took {tmem} s with tmem, {none} s without"
    );
}

fn sequential() {
    let json = parsed(&compare(&[
        "--workload",
        "sequential",
        "--mode",
        "tmem",
        "--policy",
        "no-get-ahead,no-windows,no-batches",
    ]));
    let run = find(&json, "sequential", "tmem");
    assert_eq!(number(run, "bytes_corrupt"), 0.0);
    let warm = phase(run, "warm");
    let (exits, hits) = (number(warm, "tmem.get_exits"), number(warm, "tmem.hits"));
    assert!(hits > 20_000.0 && exits <= hits / 24.0, "{warm}");
    // Page by page, through a mapping that the kernel does not read ahead for.
    let mapped = phase(run, "mapped");
    let (exits, hits) = (
        number(mapped, "tmem.get_exits"),
        number(mapped, "tmem.hits"),
    );
    assert!(hits > 500.0 && exits <= hits / 16.0, "{mapped}");

    for (policy, pass) in [("no-get-ahead", "mapped"), ("no-windows", "warm")] {
        let run = find_policy(&json, "sequential", policy);
        assert_eq!(number(run, "bytes_corrupt"), 0.0);
        let pass = phase(run, pass);
        let (exits, hits) = (number(pass, "tmem.get_exits"), number(pass, "tmem.hits"));
        assert!(hits > 500.0 && exits >= hits, "{policy}: {pass}");
    }
    let single = find_policy(&json, "sequential", "no-batches");
    let (puts, doorbells) = (
        number(single, "tmem.puts"),
        number(single, "tmem.doorbells"),
    );
    // Each put is a chain of its own. The host wants no doorbell for those that come while it is at work on the queue,
    // which is a matter of timing: a third of them here. In batches, 64 puts share one.
    assert!(puts > 10_000.0 && doorbells > 0.5 * puts, "{single}");
}

/// With a mechanism off, what it is there for gets worse, and no byte wrong.
fn policies() {
    let off = "no-presence,no-admission";
    let json = parsed(&compare(&[
        "--workload",
        "scan",
        "--mode",
        "tmem",
        "--policy",
        off,
    ]));
    let all_on = find(&json, "scan", "tmem");
    let figure = |policy, path| {
        let run = find_policy(&json, "scan", policy);
        assert_eq!(number(run, "bytes_corrupt"), 0.0, "{run}");
        number(run, path)
    };
    let pages = number(all_on, "bytes_verified") / 4096.0;
    // Everything that is read was never stored, so each window would be asked for in vain. One exit makes the pool.
    assert!(number(all_on, "tmem.get_exits") <= 1.0, "{all_on}");
    assert!(figure("no-presence", "tmem.get_exits") > pages / 64.0);
    assert!(figure("no-presence", "tmem.gets") > 0.95 * pages);
    assert!(number(all_on, "tmem.misses_in_guest") > 0.95 * pages);
    // Everything that reclaim drops is copied: all but what still fits into the guest.
    assert!(figure("no-admission", "tmem.puts") > 0.5 * pages);
    assert!(number(all_on, "tmem.puts_declined") > 0.5 * pages);
}
