//! What becomes of one guest: from what its guest said and what its VMM counted.

use vtmem_workloads::driver::Counters;
use vtmem_workloads::workload::{Outcome, Workload};

use super::Settings;
use super::console::{Console, Event};
use super::marks::{self, Difference, Mark};
use super::mode::Mode;
use super::policy::Variant;
use super::result::{Phase, Run, exits_per_1000_pages};

/// What became of one guest.
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
    /// What the driver had counted at marks.
    driver: Vec<(u8, Counters)>,
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
            Event::Counted(mark, counters) => self.driver.push((mark, counters)),
            Event::Passed(workload, pass, outcome) => self.passes.push((workload, pass, outcome)),
            Event::Finished(workload, outcome) => self.finished.push(Finished {
                workload,
                outcome,
                peak,
            }),
            Event::Failed(workload, why) => self.failed.push((workload, why)),
        }
    }

    /// What became of `variant`, given also the marks file's text and, unless all was well, how the VMM ended.
    pub fn outcome(
        &self,
        settings: &Settings,
        variant: Variant,
        marks: &str,
        end: Option<&str>,
        console: &Console,
    ) -> ModeOutcome {
        let mut outcome = ModeOutcome::default();
        let marks = marks::parse(marks);
        for &workload in &settings.workloads {
            match self.run(workload, variant, end, &marks) {
                Ok(run) => outcome.runs.push(run),
                Err(why) => outcome
                    .problems
                    .push(format!("{workload} under {variant} did not finish: {why}")),
            }
        }
        let was_there = |run: &Run| run.tmem.is_some_and(|tmem| tmem.was_there());
        let idle = variant.mode == Mode::Tmem && !outcome.runs.iter().any(was_there);
        if idle && !outcome.runs.is_empty() {
            let problem = format!(
                "tmem was not there under {variant}: its driver looked at no page, so these figures say nothing of it"
            );
            outcome.problems.push(problem);
        }
        if let (Some(end), true) = (end, outcome.problems.is_empty()) {
            let problem = format!("the guest under {variant} did not power off: {end}");
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
        variant: Variant,
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
        let during = self.during(marks, workload.begin_mark(), workload.end_mark())?;
        let phases = (0..workload.passes().len()).map(|pass| self.phase(workload, pass, marks));
        let outcome = &finished.outcome;
        Ok(Run {
            workload: workload.name().to_owned(),
            mode: variant.mode.name().to_owned(),
            policy: variant.policy.map(|policy| policy.name().to_owned()),
            seconds: outcome.nanoseconds as f64 / 1e9,
            operations: outcome.operations,
            bytes_verified: outcome.bytes_verified,
            bytes_corrupt: outcome.bytes_corrupt,
            exits_per_1000_pages: exits_per_1000_pages(during.exits.total, during.pages_moved),
            exits: during.exits,
            pages_moved: during.pages_moved,
            disk: during.disk,
            host_peak_bytes: during.host_peak_bytes.unwrap_or(finished.peak),
            tmem: during.tmem,
            phases: phases.collect::<Result<_, String>>()?,
        })
    }

    /// What both sides counted from one mark to another.
    fn during(&self, marks: &[Mark], from: u8, to: u8) -> Result<Difference, String> {
        let mut during = marks::difference(marks, from, to)?;
        let at = |mark| {
            let counted = self.driver.iter().find(|counted| counted.0 == mark);
            counted.map(|(_, counters)| counters)
        };
        if let (Some(tmem), Some(begin), Some(end)) = (during.tmem, at(from), at(to)) {
            let since = end.since(begin);
            let since = since.ok_or("a counter of the guest's driver ran backwards")?;
            during.tmem = Some(tmem.with_driver(since));
        }
        Ok(during)
    }

    fn phase(&self, workload: Workload, pass: usize, marks: &[Mark]) -> Result<Phase, String> {
        let name = workload.passes()[pass];
        let heard = self.passes.iter().find(|p| (p.0, p.1) == (workload, pass));
        let (_, _, outcome) = heard.ok_or_else(|| format!("it said nothing of its {name} pass"))?;
        let (from, to) = (workload.pass_mark(pass), workload.pass_end_mark(pass));
        let during = self
            .during(marks, from, to)
            .map_err(|why| format!("{name} pass: {why}"))?;
        Ok(Phase {
            name: name.to_owned(),
            seconds: outcome.nanoseconds as f64 / 1e9,
            operations: outcome.operations,
            bytes_verified: outcome.bytes_verified,
            bytes_corrupt: outcome.bytes_corrupt,
            exits_per_1000_pages: exits_per_1000_pages(during.exits.total, during.pages_moved),
            exits: during.exits,
            pages_moved: during.pages_moved,
            disk: during.disk,
            tmem: during.tmem,
        })
    }
}

#[cfg(test)]
#[path = "outcome_test.rs"]
mod tests;
