use super::*;

/// Results of a comparison that never was, for tests of reports.
pub(crate) fn sample() -> Comparison {
    let mut runs = Vec::new();
    for (w, workload) in Workload::ALL.into_iter().enumerate() {
        for (m, mode) in Mode::ALL.into_iter().enumerate() {
            let factor = (w as u64 + 1) * (8 - 2 * m as u64);
            let tmem = Tmem {
                puts: 40_000,
                gets: 30_000,
                hits: 29_000,
                pages_copied: 69_000,
                get_exits: 1_500,
                misses_in_guest: 7_000,
                flushes_in_guest: 90,
                puts_declined: 500,
                gets_ahead: 60,
                chains: 2_000,
                doorbells: 1_000,
                stored_pages: 20_000,
                stored_bytes: 40 << 20,
                ..Tmem::default()
            };
            runs.push(Run {
                workload: workload.name().to_owned(),
                mode: mode.name().to_owned(),
                policy: None,
                seconds: factor as f64 * 0.75,
                operations: 65_536,
                bytes_verified: 268_435_456,
                bytes_corrupt: 0,
                exits: Exits {
                    total: factor * 10_000,
                    reasons: BTreeMap::from([
                        ("halt".to_owned(), factor * 2_000),
                        ("io".to_owned(), factor * 5_000),
                    ]),
                },
                pages_moved: factor * 50_000,
                exits_per_1000_pages: exits_per_1000_pages(factor * 10_000, factor * 50_000),
                disk: Disk {
                    read_bytes: factor * 30_000_000,
                    write_bytes: factor * 1_000_000,
                    read_ops: factor * 4_000,
                    write_ops: factor * 100,
                },
                host_peak_bytes: 200 << 20,
                tmem: (mode == Mode::Tmem).then_some(tmem),
                phases: Vec::new(),
            });
        }
    }
    Comparison {
        schema: SCHEMA,
        accel: "lab".to_owned(),
        clock: "virtual".to_owned(),
        instructions_per_ns: Some(4.0),
        guest_mem_bytes: 128 << 20,
        host_mem_bytes: 128 << 20,
        runs,
        problems: Vec::new(),
    }
}

/// The same, and every policy takes three times the exits and twice the time of tmem as it is.
pub(crate) fn sample_with_policies() -> Comparison {
    let mut comparison = sample();
    for workload in Workload::ALL {
        let whole = comparison.run(workload, Mode::Tmem).unwrap().clone();
        for policy in Policy::ALL {
            let mut run = whole.clone();
            run.policy = Some(policy.name().to_owned());
            run.exits.total *= 3;
            run.seconds *= 2.0;
            comparison.runs.push(run);
        }
    }
    comparison.sort();
    comparison
}

#[test]
fn runs_with_a_policy_follow_those_without() {
    let comparison = sample_with_policies();
    let labels: Vec<_> = comparison.runs[..9]
        .iter()
        .map(|run| run.variant().unwrap().label())
        .collect();
    assert_eq!(
        labels[..5],
        ["none", "writethrough", "writeback", "tmem", "no-presence"]
    );
    assert_eq!(comparison.modes(), Mode::ALL);
    assert_eq!(comparison.policies(), Policy::ALL);
    let json = comparison.to_json();
    assert_eq!(
        serde_json::from_str::<Comparison>(&json).unwrap(),
        comparison
    );
    assert_eq!(
        json.matches(r#""policy": "no-batches""#).count(),
        Workload::ALL.len()
    );
}

#[test]
fn exits_for_1000_pages_have_two_digits() {
    assert_eq!(exits_per_1000_pages(1, 3), Some(333.33));
    assert_eq!(exits_per_1000_pages(5, 0), None);
}

#[test]
fn the_json_is_as_documented() {
    let mut comparison = sample();
    comparison.runs.retain(|run| {
        run.workload == "reread" && run.mode != "writethrough" && run.mode != "writeback"
    });
    assert_eq!(comparison.to_json(), include_str!("golden.json"));
}

#[test]
fn the_json_can_be_read_back() {
    let mut comparison = sample();
    assert_eq!(
        serde_json::from_str::<Comparison>(&comparison.to_json()).unwrap(),
        comparison
    );
    comparison.problems.push("tmem: \"quoted\"".to_owned());
    assert_eq!(
        serde_json::from_str::<Comparison>(&comparison.to_json()).unwrap(),
        comparison
    );
}

#[test]
fn merging_does_not_depend_on_the_order() {
    let whole = sample();
    let mut merged = Comparison {
        runs: Vec::new(),
        ..whole.clone()
    };
    for mode in [Mode::Tmem, Mode::None, Mode::Writeback, Mode::Writethrough] {
        let mut part = whole.clone();
        part.runs.retain(|run| run.mode == mode.name());
        merged.absorb(part);
    }
    merged.sort();
    assert_eq!(merged, whole);
}

#[test]
fn right_means_finished_and_uncorrupted() {
    let good = sample();
    assert!(good.all_right());
    let mut corrupt = good.clone();
    corrupt.runs[3].bytes_corrupt = 1;
    assert!(!corrupt.all_right());
    let unfinished = Comparison {
        problems: vec!["x".to_owned()],
        ..good.clone()
    };
    assert!(!unfinished.all_right());
    assert!(
        !Comparison {
            runs: Vec::new(),
            ..good
        }
        .all_right()
    );
}
