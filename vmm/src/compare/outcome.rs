//! What becomes of one mode: from what its guest said and what its VMM counted.

use vtmem_workloads::workload::{Outcome, Workload};

use super::Settings;
use super::console::{Console, Event};
use super::marks::{self, Mark};
use super::mode::Mode;
use super::result::{Phase, Run};

/// What became of one mode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModeOutcome {
    /// Workloads that finished.
    pub runs: Vec<Run>,
    /// Why others did not.
    pub problems: Vec<String>,
}

/// What a guest said.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    passes: Vec<(Workload, usize, Outcome)>,
    finished: Vec<Finished>,
    failed: Vec<(Option<Workload>, String)>,
}

#[derive(Clone, Copy, Debug)]
struct Finished {
    workload: Workload,
    outcome: Outcome,
    /// The most memory of its own that the VMM had until then.
    peak: u64,
}

impl Heard {
    /// Notes an event, and the most memory in bytes that the VMM has had resident until now.
    pub fn take(&mut self, event: Event, peak: u64) {
        match event {
            Event::Started(_) => {}
            Event::Passed(workload, pass, outcome) => self.passes.push((workload, pass, outcome)),
            Event::Finished(workload, outcome) => self.finished.push(Finished {
                workload,
                outcome,
                peak,
            }),
            Event::Failed(workload, why) => self.failed.push((workload, why)),
        }
    }

    /// What became of `mode`, given also the marks file's text and, unless all was well, how the VMM ended.
    pub fn outcome(
        &self,
        settings: &Settings,
        mode: Mode,
        marks: &str,
        end: Option<&str>,
        console: &Console,
    ) -> ModeOutcome {
        let mut outcome = ModeOutcome::default();
        let marks = marks::parse(marks);
        for &workload in &settings.workloads {
            match self.run(workload, mode, end, &marks) {
                Ok(run) => outcome.runs.push(run),
                Err(why) => outcome
                    .problems
                    .push(format!("{workload} under {mode} did not finish: {why}")),
            }
        }
        if let (Some(end), true) = (end, outcome.problems.is_empty()) {
            let problem = format!("the guest under {mode} did not power off: {end}");
            outcome.problems.push(problem);
        }
        // Once is enough: the workloads that were to follow died of the same.
        if let Some(problem) = outcome.problems.first_mut() {
            *problem += "\n  its console's last lines:";
            for line in console.last_lines() {
                *problem += "\n    ";
                *problem += line;
            }
        }
        outcome
    }

    fn run(
        &self,
        workload: Workload,
        mode: Mode,
        end: Option<&str>,
        marks: &Result<Vec<Mark>, String>,
    ) -> Result<Run, String> {
        let finished = self.finished.iter().find(|f| f.workload == workload);
        let Some(finished) = finished else {
            let failed = |about| {
                let (_, why) = self.failed.iter().find(|(failed, _)| *failed == about)?;
                Some(why.as_str())
            };
            let why = failed(Some(workload)).or(end).or_else(|| failed(None));
            return Err(why.unwrap_or("the guest powered off early").to_owned());
        };
        let marks = marks.as_ref().map_err(String::clone)?;
        let during = marks::difference(marks, workload)?;
        let phases = (0..workload.passes().len()).map(|pass| self.phase(workload, pass, marks));
        let outcome = &finished.outcome;
        Ok(Run {
            workload: workload.name().to_owned(),
            mode: mode.name().to_owned(),
            seconds: outcome.nanoseconds as f64 / 1e9,
            operations: outcome.operations,
            bytes_verified: outcome.bytes_verified,
            bytes_corrupt: outcome.bytes_corrupt,
            exits: during.exits,
            disk: during.disk,
            host_peak_bytes: during.host_peak_bytes.unwrap_or(finished.peak),
            tmem: during.tmem,
            phases: phases.collect::<Result<_, String>>()?,
        })
    }

    fn phase(&self, workload: Workload, pass: usize, marks: &[Mark]) -> Result<Phase, String> {
        let name = workload.passes()[pass];
        let heard = self.passes.iter().find(|p| (p.0, p.1) == (workload, pass));
        let (_, _, outcome) = heard.ok_or_else(|| format!("it said nothing of its {name} pass"))?;
        let during = marks::pass_difference(marks, workload, pass)?;
        Ok(Phase {
            name: name.to_owned(),
            seconds: outcome.nanoseconds as f64 / 1e9,
            operations: outcome.operations,
            bytes_verified: outcome.bytes_verified,
            bytes_corrupt: outcome.bytes_corrupt,
            exits: during.exits,
            disk: during.disk,
            tmem: during.tmem,
        })
    }
}

#[cfg(test)]
#[path = "outcome_test.rs"]
mod tests;
