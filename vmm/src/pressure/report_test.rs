use super::*;

fn report(lines: &[&str]) -> Report {
    let mut report = Report::default();
    for line in lines {
        report.line(line);
    }
    report
}

#[test]
fn rounds_add_up_by_kind() {
    let mut report = report(&[
        "vtmem-kind: bulk",
        "vtmem-round: bulk 4096 0 0",
        "vtmem-kind: together",
        "vtmem-broken: together signal: 9 (SIGKILL)",
        "[   12.3] vtmem-complaint: INFO: task vtmem-work:80 blocked for more than 10 seconds.",
        "vtmem-round: together 8192 1 2",
        "vtmem-kind: bulk",
    ]);
    assert_eq!(
        report.line("vtmem-round: bulk 4096 0 0"),
        Some(Kind::Bulk),
        "progress"
    );
    report.line("vtmem-counter: hits:17");
    report.line("vtmem-result: {}");
    report.end(Some(1), "");
    let bulk = &report.kinds[&Kind::Bulk];
    assert_eq!((bulk.rounds, bulk.verified), (2, 8192));
    let together = &report.kinds[&Kind::Together];
    assert_eq!((together.wrong, together.killed), (1, 2));
    assert_eq!(together.broken, ["together signal: 9 (SIGKILL)"]);
    assert_eq!(together.complaints.len(), 1);
    assert_eq!(report.verified(), 16384);
    assert_eq!((report.counter("hits"), report.counter("puts")), (17, 0));
    assert_eq!(report.failure, None);
}

#[test]
fn what_is_no_round_counts_for_nothing() {
    let report = report(&[
        "vtmem-round: bulk 4096 0",
        "vtmem-round: nothing 1 2 3",
        "vtmem-round: bulk 4096 0 x",
        "vtmem-counter: hits",
    ]);
    assert!(report.kinds.is_empty());
}

#[test]
fn a_guest_that_does_not_come_to_its_end_failed() {
    for (lines, status) in [
        (&["vtmem-round: bulk 1 0 0"][..], Some(0)),
        (&["vtmem-result: {}"][..], Some(3)),
        (&["vtmem-result: {}"][..], None),
    ] {
        let mut report = report(lines);
        report.end(status, "");
        assert!(report.failure.is_some(), "{lines:?}, {status:?}");
    }
    let mut report = report(&["vtmem-failure: pressure: no memory"]);
    report.end(Some(1), "");
    assert_eq!(report.failure.as_deref(), Some("pressure: no memory"));
}
