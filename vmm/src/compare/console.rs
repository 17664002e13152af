//! What a guest says on its console.

use serde::Deserialize;
use vtmem_workloads::driver::{Counters, DRIVER_PREFIX};
use vtmem_workloads::workload::{
    FAILURE_PREFIX, Outcome, PASS_PREFIX, RESULT_PREFIX, START_PREFIX, Workload,
};

/// Lines kept for the message when a guest dies.
const LAST_LINES: usize = 8;
/// Longest line that is looked at; a guest may print without end.
const LONGEST_LINE: usize = 4096;

/// Something that a line meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A workload starts.
    Started(Workload),
    /// At a mark, the guest's driver had counted so much.
    Counted(u8, Counters),
    /// A pass of a workload, by its number, went so.
    Passed(Workload, usize, Outcome),
    /// A workload finished.
    Finished(Workload, Outcome),
    /// A workload, or the guest before any of them, gave up; why.
    Failed(Option<Workload>, String),
}

/// Reads a console.
#[derive(Debug, Default)]
pub struct Console {
    line: Vec<u8>,
    last_lines: Vec<String>,
}

impl Event {
    /// The line that meant this.
    pub fn line(&self) -> String {
        match self {
            Event::Started(workload) => format!("{START_PREFIX}{workload}"),
            Event::Counted(mark, counters) => counters.line(*mark),
            Event::Passed(workload, pass, outcome) => outcome.pass_line(workload.name(), *pass),
            Event::Finished(workload, outcome) => outcome.line(workload.name()),
            Event::Failed(Some(workload), why) => format!("{FAILURE_PREFIX}{workload}: {why}"),
            Event::Failed(None, why) => format!("{FAILURE_PREFIX}{why}"),
        }
    }
}

#[derive(Deserialize)]
struct ResultLine {
    workload: String,
    /// Of a pass.
    pass: Option<usize>,
    nanoseconds: u64,
    operations: u64,
    bytes_verified: u64,
    bytes_corrupt: u64,
}

#[derive(Deserialize)]
struct DriverLine {
    mark: u8,
    misses_local: u64,
    flushes_local: u64,
    puts_unworthy: u64,
    gets_ahead: u64,
    drains: u64,
}

impl Console {
    /// Takes what was printed since; returns what the lines completed by it meant.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(
                        self.take_line(String::from_utf8_lossy(&line).trim_end_matches('\r')),
                    );
                }
                _ if self.line.len() < LONGEST_LINE => self.line.push(*byte),
                _ => {}
            }
        }
        events
    }

    /// The last lines printed.
    pub fn last_lines(&self) -> &[String] {
        &self.last_lines
    }

    fn take_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return None;
        }
        if self.last_lines.len() == LAST_LINES {
            self.last_lines.remove(0);
        }
        self.last_lines.push(line.to_owned());
        // The kernel may have printed something without a newline before.
        let rest = |prefix| {
            line.find(prefix)
                .map(|place| &line[place + str::len(prefix)..])
        };
        if let Some(json) = rest(RESULT_PREFIX).or_else(|| rest(PASS_PREFIX)) {
            return Some(result(json));
        }
        if let Some(json) = rest(DRIVER_PREFIX) {
            return Some(counted(json));
        }
        if let Some(reason) = rest(FAILURE_PREFIX) {
            let named = reason
                .split_once(": ")
                .and_then(|(name, why)| Some((Workload::from_name(name)?, why)));
            return Some(match named {
                Some((workload, why)) => Event::Failed(Some(workload), why.to_owned()),
                None => Event::Failed(None, reason.to_owned()),
            });
        }
        Some(Event::Started(Workload::from_name(
            rest(START_PREFIX)?.trim(),
        )?))
    }
}

fn counted(json: &str) -> Event {
    match serde_json::from_str::<DriverLine>(json) {
        Ok(line) => Event::Counted(
            line.mark,
            Counters {
                misses_local: line.misses_local,
                flushes_local: line.flushes_local,
                puts_unworthy: line.puts_unworthy,
                gets_ahead: line.gets_ahead,
                drains: line.drains,
            },
        ),
        Err(_) => Event::Failed(None, format!("malformed counters {json:?}")),
    }
}

fn result(json: &str) -> Event {
    let Ok(line) = serde_json::from_str::<ResultLine>(json) else {
        return Event::Failed(None, format!("malformed result {json:?}"));
    };
    let outcome = Outcome {
        nanoseconds: line.nanoseconds,
        operations: line.operations,
        bytes_verified: line.bytes_verified,
        bytes_corrupt: line.bytes_corrupt,
    };
    match Workload::from_name(&line.workload) {
        Some(workload) => match line.pass {
            Some(pass) => Event::Passed(workload, pass, outcome),
            None => Event::Finished(workload, outcome),
        },
        None => Event::Failed(
            None,
            format!("result of an unknown workload {:?}", line.workload),
        ),
    }
}

#[cfg(test)]
#[path = "console_test.rs"]
mod tests;
