use super::*;
use crate::compare::result::tests::{sample, sample_with_policies};

#[test]
fn every_run_has_an_aligned_row() {
    let text = render(&sample());
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("  tmem"))
            .count(),
        5,
        "{text}"
    );
    assert!(text.contains("reread\n"), "{text}");
    assert!(
        text.contains("4.00x"),
        "tmem takes a quarter of none's time: {text}"
    );
    assert!(text.contains("29,000 of 30,000"), "{text}");
    assert!(text.contains("no byte wrong"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 120),
        "{text}"
    );
}

#[test]
fn what_each_mechanism_buys_is_shown_when_it_was_measured() {
    assert!(!render(&sample()).contains("buys"));
    let text = render(&sample_with_policies());
    let buys = text.split_once("What each mechanism buys").unwrap().1;
    assert_eq!(buys.matches("no-windows").count(), Workload::ALL.len());
    assert!(buys.contains("x2.00") && buys.contains("x3.00"), "{text}");
}

#[test]
fn what_went_wrong_is_said() {
    let mut comparison = sample();
    comparison.runs[0].bytes_corrupt = 3;
    comparison
        .problems
        .push("tmem: swap did not finish".to_owned());
    let text = render(&comparison);
    assert!(text.contains("3 B of") && text.contains("WRONG"), "{text}");
    assert!(
        text.contains("problem: tmem: swap did not finish"),
        "{text}"
    );
}

#[test]
fn no_mode_is_needed() {
    let mut comparison = sample();
    comparison.runs.retain(|run| run.mode == "tmem");
    assert!(!render(&comparison).contains("4.00x"));
    comparison.runs.clear();
    assert!(render(&comparison).contains("seconds"));
}
