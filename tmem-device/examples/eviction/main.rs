//! How many gets the pool can answer, beside least recently used and the best that any policy can do, on recorded traces.
//!
//! `cargo run --release -p tmem-device --example eviction -- TRACE...` prints a table, with `--json` one JSON object a trace and line.
//! Traces come from `vtmem compare --record`; `A+B` plays two of them in turns. Without one, those of `traces/` are
//! played. `--pack TRACE` writes TRACE.lz4, as they are.

mod packed;
mod policies;
mod pool;
mod report;
mod trace;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use report::{EIGHTHS, Row};
use trace::{Trace, TraceError};

/// The recorded workloads, alone and with a scan beside them.
const RECORDED: [&str; 6] = [
    "reread",
    "source",
    "sequential",
    "reread+scan",
    "source+scan",
    "scan",
];

fn recorded(name: &str) -> PathBuf {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/eviction/traces");
    traces.join(format!("{name}.lz4"))
}

/// Reads traces, played in turns if there is more than one.
fn read(mut paths: impl Iterator<Item = PathBuf>) -> Result<Trace, TraceError> {
    let first = paths.next().map(|path| Trace::read(&path));
    let first = first.unwrap_or_else(|| Ok(Trace::default()))?;
    paths.try_fold(first, |trace, path| Ok(trace.beside(Trace::read(&path)?)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut option = |name: &str| {
        let before = arguments.len();
        arguments.retain(|argument| argument != name);
        arguments.len() < before
    };
    let (json, pack) = (option("--json"), option("--pack"));
    if pack {
        for path in arguments {
            let packed =
                packed::pack(&fs::read(&path)?).ok_or(TraceError::Format(path.clone().into()))?;
            fs::write(format!("{path}.lz4"), packed)?;
        }
        return Ok(());
    }
    let traces = match arguments.as_slice() {
        [] => RECORDED
            .map(|name| read(name.split('+').map(recorded)))
            .into(),
        given => given
            .iter()
            .map(|paths| read(paths.split('+').map(PathBuf::from)))
            .collect::<Vec<_>>(),
    };
    for trace in traces {
        let trace = trace?;
        let rows = EIGHTHS.map(|eighths| Row::new(&trace, eighths));
        if json {
            println!("{}", report::json(&trace, &rows));
        } else {
            report::print(&trace, &rows);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "recorded_test.rs"]
mod recorded_test;
