//! What a tortured guest says on its console, and what that means.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use vtmem_workloads::torture_lines::{
    COMPLAINT_PREFIX, COUNTER_PREFIX, FAULTS_PREFIX, LOG_PREFIX, PROGRESS_PREFIX, SCRIPT_PREFIX,
};
use vtmem_workloads::workload::{FAILURE_PREFIX, RESULT_PREFIX};

/// In so many operations there has to be a hit, or the run shows nothing of tmem.
const OPERATIONS_PER_HIT: u64 = 20;
/// The last lines of a console, for whoever looks for the reason.
const TAIL: usize = 60;
/// Lines kept of what the kernel said of its complaints: the first ones tell most.
const LOG: usize = 300;

/// How far the guest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of its own clock, since it began.
    pub seconds: u64,
    /// Done by all threads.
    pub operations: u64,
    /// Bytes compared.
    pub verified: u64,
    /// Bytes that were wrong.
    pub corrupt: u64,
}

/// What `vtmem-work` reports in the end.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Outcome {
    /// Done by all threads.
    pub operations: u64,
    /// Bytes compared.
    pub bytes_verified: u64,
    /// Bytes that were wrong.
    pub bytes_corrupt: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// None if the guest did not get that far.
    pub outcome: Option<Outcome>,
    /// Where it was when it last said so.
    pub progress: Progress,
    /// Operations that make a byte wrong, a line each.
    pub script: Vec<String>,
    /// What the kernel complained of.
    pub complaints: Vec<String>,
    /// Those lines of its log, and what followed them.
    pub log: Vec<String>,
    /// Kinds of injected faults, and how many there were of each.
    pub faults: Vec<(String, u64)>,
    /// What the exerciser said of wrong pages.
    pub wrong: Vec<String>,
    /// The driver's counters, over all times that it was loaded.
    pub counters: BTreeMap<String, u64>,
    /// Why the guest did not come to its end.
    pub failure: Option<String>,
    tail: VecDeque<String>,
}

impl Report {
    /// Takes a line of the console. Says how far the guest is if that is what the line says.
    pub fn line(&mut self, line: &str) -> Option<Progress> {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        let after = |prefix: &str| line.split_once(prefix).map(|(_, rest)| rest.to_owned());
        if let Some(text) = after(PROGRESS_PREFIX) {
            let numbers: Vec<u64> = text.split(' ').filter_map(|n| n.parse().ok()).collect();
            if let [seconds, operations, verified, corrupt] = numbers[..] {
                self.progress = Progress {
                    seconds,
                    operations,
                    verified,
                    corrupt,
                };
                return Some(self.progress);
            }
        } else if let Some(text) = after(SCRIPT_PREFIX) {
            self.script.push(text);
        } else if let Some(text) = after(COMPLAINT_PREFIX) {
            self.log(text.clone());
            self.complaints.push(text);
        } else if let Some(text) = after(LOG_PREFIX) {
            self.log(text);
        } else if let Some(text) = after(FAULTS_PREFIX) {
            let kind = text.split_once(' ');
            let kind = kind.and_then(|(kind, count)| Some((kind.to_owned(), count.parse().ok()?)));
            self.faults.extend(kind);
        } else if let Some(text) = after(COUNTER_PREFIX) {
            if let Some((name, count)) = text.split_once(':')
                && let Ok(count) = count.parse::<u64>()
            {
                *self.counters.entry(name.to_owned()).or_default() += count;
            }
        } else if let Some(text) = after(FAILURE_PREFIX) {
            self.failure = Some(text);
        } else if let Some(text) = after(RESULT_PREFIX) {
            self.outcome = serde_json::from_str(&text).ok();
        } else if let Some(text) = after("torture: ") {
            self.wrong.push(text);
        }
        None
    }

    fn log(&mut self, line: String) {
        if self.log.len() < LOG {
            self.log.push(line);
        }
    }

    /// The guest has ended: `status` of `vtmem run`, and what that said on standard error.
    pub fn end(&mut self, status: Option<i32>, stderr: &str) {
        if self.failure.is_none() && (self.outcome.is_none() || status != Some(0)) {
            let status = status.map_or("a signal".to_owned(), |status| format!("status {status}"));
            let said = stderr.trim();
            self.failure = Some(format!("the guest ended with {status} {said}"));
        }
    }

    /// No byte was wrong, the kernel did not complain, and the guest came to its end.
    pub fn is_clean(&self) -> bool {
        self.failure.is_none()
            && self.complaints.is_empty()
            && self
                .outcome
                .is_some_and(|o| o.bytes_corrupt == 0 && o.bytes_verified > 0)
    }

    /// Pages came from the host, at least one in 20 operations: a run without tmem shows nothing of it.
    pub fn had_hits(&self) -> bool {
        let hits = self.counters.get("hits").copied().unwrap_or(0);
        self.outcome
            .is_some_and(|o| hits > 0 && hits.saturating_mul(OPERATIONS_PER_HIT) >= o.operations)
    }

    /// Faults were injected, of every kind: a run without one of them shows nothing.
    pub fn had_faults(&self) -> bool {
        !self.faults.is_empty() && self.faults.iter().all(|(_, count)| *count > 0)
    }

    /// Whether a byte was wrong.
    pub fn found(&self) -> bool {
        self.progress.corrupt > 0 || self.outcome.is_some_and(|o| o.bytes_corrupt > 0)
    }

    /// The last lines of the console.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }
}

#[cfg(test)]
#[path = "report_test.rs"]
mod tests;
