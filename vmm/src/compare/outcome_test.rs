use super::*;
use crate::compare::mode::Mode;

const WORKLOADS: [Workload; 2] = [Workload::Reread, Workload::Swap];

fn settings() -> Settings {
    Settings {
        workloads: WORKLOADS.to_vec(),
        variants: vec![Variant::from(Mode::None)],
        guest_mem: 128 << 20,
        host_mem: 64 << 20,
        seed: 7,
        record: None,
    }
}

fn marks(workloads: &[Workload], memory: &str) -> String {
    let numbers = workloads.iter().flat_map(|w| {
        let passes = (0..w.passes().len()).map(|pass| w.pass_mark(pass));
        [w.begin_mark()]
            .into_iter()
            .chain(passes)
            .chain([w.end_mark()])
    });
    numbers
        .map(|n| {
            format!(
                "{{\"mark\":{n},\"exits\":{{\"total\":{n}}},\"disks\":[],\"tmem\":null,\"host_memory\":{memory}}}\n"
            )
        })
        .collect()
}

fn finished(workload: Workload) -> Event {
    let outcome = Outcome {
        nanoseconds: 6_000_000_000,
        operations: 3,
        ..Outcome::default()
    };
    Event::Finished(workload, outcome)
}

fn heard(events: impl IntoIterator<Item = Event>) -> Heard {
    let mut heard = Heard::default();
    for event in events {
        // Each of its passes, before it.
        if let Event::Finished(workload, outcome) = event {
            for pass in 0..workload.passes().len() {
                let operations = pass as u64;
                heard.take(
                    Event::Passed(
                        workload,
                        pass,
                        Outcome {
                            operations,
                            ..outcome
                        },
                    ),
                    5,
                );
            }
        }
        heard.take(event, 5);
    }
    heard
}

fn outcome(heard: &Heard, marks: &str, end: Option<&str>) -> ModeOutcome {
    let mut console = Console::default();
    console.feed(b"one\ntwo\n");
    heard.outcome(&settings(), Variant::from(Mode::None), marks, end, &console)
}

#[test]
fn a_run_has_what_both_sides_say() {
    let all = heard(WORKLOADS.map(finished));
    let found = outcome(&all, &marks(&WORKLOADS, r#"{"peak":9}"#), None);
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.runs.len(), 2);
    let run = &found.runs[1];
    assert_eq!((run.workload.as_str(), run.mode.as_str()), ("swap", "none"));
    assert_eq!((run.seconds, run.operations), (6.0, 3));
    assert_eq!((run.exits.total, run.host_peak_bytes), (0x70, 9));
    assert_eq!(run.phases, []);
    let phases = &found.runs[0].phases;
    let names: Vec<_> = phases
        .iter()
        .map(|p| (p.name.as_str(), p.operations))
        .collect();
    assert_eq!(names, [("cold", 0), ("warm", 1)]);
    // The mark's number is the number of exits until then.
    assert_eq!(
        (phases[0].exits.total, phases[1].exits.total),
        (1, 0x80 - 0x21)
    );
    let no_cgroup_figures = outcome(&all, &marks(&WORKLOADS, "null"), None);
    assert_eq!(no_cgroup_figures.runs[0].host_peak_bytes, 5);
}

#[test]
fn whatever_did_not_finish_is_named_with_its_reason() {
    let failed = Event::Failed(Some(Workload::Swap), "out of memory".to_owned());
    let found = outcome(
        &heard([finished(Workload::Reread), failed]),
        &marks(&WORKLOADS, "null"),
        Some("status 4"),
    );
    assert_eq!(found.runs.len(), 1);
    let text = "swap under none did not finish: out of memory\n  its console's last lines:\n    one\n    two";
    assert_eq!(found.problems, [text]);

    let died = outcome(&heard([finished(Workload::Reread)]), "", Some("status 4"));
    assert!(died.problems[0].starts_with("reread under none did not finish: its begin"));
    assert_eq!(died.problems[1], "swap under none did not finish: status 4");

    let early = heard([Event::Failed(None, "init: no disk".to_owned())]);
    let early = outcome(&early, "", None);
    assert!(early.problems[0].contains("reread under none did not finish: init: no disk"));
    let silent = outcome(&heard([]), "", None);
    assert!(silent.problems[1].contains("powered off early"));
}

#[test]
fn a_bad_end_after_good_runs_is_a_problem() {
    let all = heard(WORKLOADS.map(finished));
    let found = outcome(&all, &marks(&WORKLOADS, "null"), Some("status 4"));
    assert_eq!((found.runs.len(), found.problems.len()), (2, 1));
    assert!(found.problems[0].contains("did not power off: status 4"));
    let garbage = outcome(&all, "garbage", None);
    assert!(garbage.runs.is_empty() && garbage.problems[0].contains("marks file, line 1"));
}

#[test]
fn tmem_that_was_not_there_is_a_problem() {
    let all = heard(WORKLOADS.map(finished));
    let variant = Variant::from(Mode::Tmem);
    let marks = marks(&WORKLOADS, "null");
    let outcome = |marks: &str| {
        let console = Console::default();
        all.outcome(&settings(), variant, marks, None, &console)
    };
    let found = outcome(&marks);
    assert_eq!(found.runs.len(), 2);
    assert!(
        found.problems[0].contains("was not there under tmem"),
        "{:?}",
        found.problems
    );
    // Begin and end of what the device counted; one page that was asked for is enough.
    let counted = |gets: u8| {
        format!(
            r#"{{"puts":0,"puts_refused":0,"gets":{gets},"hits":0,"flushes":0,"chains":0,"doorbells":0,"put_doorbells":0,"get_doorbells":0,
            "evictions":0,"stored_pages":0,"stored_bytes":0}}"#
        )
        .replace('\n', "")
    };
    let with = |last: u8| {
        let mut lines: Vec<_> = marks
            .lines()
            .map(|line| line.replace("\"tmem\":null", &format!("\"tmem\":{}", counted(0))))
            .collect();
        let end = lines
            .pop()
            .expect("an end")
            .replace(&counted(0), &counted(last));
        lines.push(end);
        lines.join("\n")
    };
    assert_eq!(outcome(&with(0)).problems.len(), 1);
    assert_eq!(outcome(&with(1)).problems, Vec::<String>::new());
}
