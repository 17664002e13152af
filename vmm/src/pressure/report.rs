//! What a guest under pressure says on its console.

use std::collections::{BTreeMap, VecDeque};

use vtmem_workloads::pressure_lines::{BROKEN_PREFIX, KIND_PREFIX, Kind, ROUND_PREFIX};
use vtmem_workloads::torture_lines::{COMPLAINT_PREFIX, COUNTER_PREFIX};
use vtmem_workloads::workload::{FAILURE_PREFIX, RESULT_PREFIX};

/// The last lines of a console, for whoever looks for the reason.
const TAIL: usize = 60;

/// What became of one kind of pressure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Rounds that came to their end.
    pub rounds: u64,
    /// Bytes compared.
    pub verified: u64,
    /// Bytes that were wrong.
    pub wrong: u64,
    /// Processes that the OOM killer ended.
    pub killed: u64,
    /// Rounds in which a process did not come to its end, and how each ended.
    pub broken: Vec<String>,
    /// What the kernel complained of meanwhile, tasks that hang among it.
    pub complaints: Vec<String>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By kind.
    pub kinds: BTreeMap<Kind, Rounds>,
    /// The driver's counters.
    pub counters: BTreeMap<String, u64>,
    /// Why the guest did not come to its end.
    pub failure: Option<String>,
    now: Option<Kind>,
    ended: bool,
    tail: VecDeque<String>,
}

impl Report {
    /// Takes a line of the console. Says of which kind a round has ended, if that is what the line says.
    pub fn line(&mut self, line: &str) -> Option<Kind> {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
        let after = |prefix: &str| line.split_once(prefix).map(|(_, rest)| rest);
        if let Some(name) = after(KIND_PREFIX) {
            self.now = Kind::from_name(name);
        } else if let Some(text) = after(ROUND_PREFIX) {
            return self.round(text);
        } else if let Some(text) = after(BROKEN_PREFIX) {
            self.of_now(|rounds| rounds.broken.push(text.to_owned()));
        } else if let Some(text) = after(COMPLAINT_PREFIX) {
            self.of_now(|rounds| rounds.complaints.push(text.to_owned()));
        } else if let Some(text) = after(COUNTER_PREFIX) {
            if let Some((name, count)) = text.split_once(':')
                && let Ok(count) = count.parse()
            {
                self.counters.insert(name.to_owned(), count);
            }
        } else if let Some(text) = after(FAILURE_PREFIX) {
            self.failure = Some(text.to_owned());
        } else if line.contains(RESULT_PREFIX) {
            self.ended = true;
        }
        None
    }

    fn round(&mut self, text: &str) -> Option<Kind> {
        let (name, numbers) = text.split_once(' ')?;
        let kind = Kind::from_name(name)?;
        let numbers: Vec<u64> = numbers.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [verified, wrong, killed] = numbers[..] else {
            return None;
        };
        let rounds = self.kinds.entry(kind).or_default();
        rounds.rounds += 1;
        rounds.verified += verified;
        rounds.wrong += wrong;
        rounds.killed += killed;
        Some(kind)
    }

    /// What is said before the first kind begins belongs to it as well.
    fn of_now(&mut self, note: impl FnOnce(&mut Rounds)) {
        note(
            self.kinds
                .entry(self.now.unwrap_or(Kind::ALL[0]))
                .or_default(),
        );
    }

    /// The guest has ended: `status` of `vtmem run`, and what that said on standard error. A status of 1 is the exerciser's, of
    /// wrong bytes, which are in the report.
    pub fn end(&mut self, status: Option<i32>, stderr: &str) {
        if self.failure.is_none() && (!self.ended || !matches!(status, Some(0 | 1))) {
            let status = status.map_or("a signal".to_owned(), |status| format!("status {status}"));
            let said = stderr.trim();
            self.failure = Some(format!("the guest ended with {status} {said}"));
        }
    }

    /// Of all kinds together.
    pub fn verified(&self) -> u64 {
        self.kinds.values().map(|rounds| rounds.verified).sum()
    }

    /// A counter of the driver; 0 without a driver.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// The last lines of the console.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }
}

#[cfg(test)]
#[path = "report_test.rs"]
mod tests;
