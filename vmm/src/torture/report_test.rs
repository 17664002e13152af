use super::*;

fn report(lines: &[&str]) -> Report {
    let mut report = Report::default();
    for line in lines {
        report.line(line);
    }
    report.end(Some(0), "");
    report
}

const RIGHT: &str = "vtmem-result: {\"workload\":\"torture\",\"nanoseconds\":1,\"operations\":5,\"bytes_verified\":4096,\"bytes_corrupt\":0}";

#[test]
fn a_clean_guest_says_how_far_it_is_and_that_all_was_right() {
    let mut report = Report::default();
    let now = report.line("vtmem-progress: 10 200 4096 0");
    assert_eq!(
        now,
        Some(Progress {
            seconds: 10,
            operations: 200,
            verified: 4096,
            corrupt: 0
        })
    );
    report.line(RIGHT);
    report.end(Some(0), "");
    assert!(report.is_clean() && !report.found());
}

#[test]
fn nothing_else_is_clean() {
    let wrong = RIGHT.replace("corrupt\":0", "corrupt\":9");
    assert!(report(&[&wrong]).found());
    for lines in [
        &[][..],
        &[wrong.as_str()],
        &[RIGHT, "vtmem-complaint: [ 1.0] BUG: something"],
        &["vtmem-failure: torture: 3 resize 9: I/O error", RIGHT],
        &[RIGHT.replace("4096", "0").as_str()],
    ] {
        assert!(!report(lines).is_clean(), "{lines:?}");
    }
    let mut died = Report::default();
    died.line(RIGHT);
    died.end(Some(3), "");
    assert!(!died.is_clean());
}

#[test]
fn scripts_are_kept_in_order() {
    let report = report(&[
        "vtmem-script: # note",
        "x vtmem-script: 1 forget",
        "vtmem-script: 2 compact",
    ]);
    assert_eq!(report.script, ["# note", "1 forget", "2 compact"]);
}

#[test]
fn complaints_come_with_what_the_kernel_said_of_them() {
    let report = report(&[
        "vtmem-complaint: WARNING: possible circular locking dependency detected",
        "vtmem-log: but task is already holding lock:",
        "a line of the console",
        RIGHT,
    ]);
    assert_eq!(report.complaints.len(), 1);
    assert_eq!(report.log.len(), 2);
    assert!(!report.is_clean());
}

#[test]
fn a_kind_of_fault_that_never_came_is_told_from_one_that_did() {
    assert!(!report(&[RIGHT]).had_faults());
    let both = [
        "vtmem-faults: failslab 12",
        "vtmem-faults: fail_page_alloc 1",
    ];
    assert!(report(&both).had_faults());
    assert_eq!(report(&both).faults[0], ("failslab".to_owned(), 12));
    let one = [
        "vtmem-faults: failslab 12",
        "vtmem-faults: fail_page_alloc 0",
    ];
    assert!(!report(&one).had_faults());
}

#[test]
fn counters_add_up_over_loads_and_too_few_hits_are_told() {
    let several = report(&[
        "vtmem-counter: puts:10",
        "vtmem-counter: hits:3",
        "x vtmem-counter: hits:4",
        "vtmem-counter: hits:many",
        RIGHT,
    ]);
    assert_eq!(several.counters["puts"], 10);
    assert_eq!(several.counters["hits"], 7);
    assert!(several.had_hits());
    // The driver was not there, did nothing, or next to nothing.
    assert!(!report(&[RIGHT]).had_hits());
    assert!(!report(&["vtmem-counter: hits:0", RIGHT]).had_hits());
    let many = RIGHT.replace("\"operations\":5", "\"operations\":61");
    assert!(!report(&["vtmem-counter: hits:3", &many]).had_hits());
    assert!(report(&["vtmem-counter: hits:4", &many]).had_hits());
}
