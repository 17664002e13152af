use super::*;

fn report(lines: &[&str]) -> Report {
    let mut report = Report::default();
    for line in lines {
        report.line(line);
    }
    report.line("vtmem-result: {}");
    report.end(Some(0), "");
    report
}

const FINE: [&str; 2] = ["vtmem-round: bulk 409600 0 0", "vtmem-counter: hits:1"];

fn judged(lines: &[&str], control: &[&str]) -> Vec<String> {
    faults(&[Kind::Bulk], &report(lines), Some(&report(control)))
}

#[test]
fn what_the_control_does_as_well_passes() {
    assert_eq!(judged(&FINE, &FINE), [""; 0]);
    let killed = [
        "vtmem-kind: bulk",
        "vtmem-broken: bulk signal: 9",
        "vtmem-round: bulk 409600 0 1",
        "vtmem-counter: hits:1",
    ];
    assert_eq!(judged(&killed, &killed), [""; 0]);
    // One, for the kill, and one for how the process ended.
    assert_eq!(judged(&killed, &FINE).len(), 2);
    assert_eq!(faults(&[Kind::Bulk], &report(&killed), None).len(), 2);
}

#[test]
fn wrong_bytes_and_tasks_that_hang_are_never_forgiven() {
    let wrong = ["vtmem-round: bulk 409600 1 0", "vtmem-counter: hits:1"];
    assert_eq!(judged(&wrong, &wrong), ["bulk: 1 bytes wrong"]);
    let hung = [
        FINE[0],
        FINE[1],
        "vtmem-complaint: INFO: task a:1 blocked for more than 10 seconds.",
    ];
    assert_eq!(judged(&hung, &hung).len(), 1);
}

#[test]
fn a_run_without_its_subject_does_not_pass() {
    assert_eq!(judged(&FINE[..1], &FINE).len(), 1, "no hits");
    let few = ["vtmem-round: bulk 409601 0 0", "vtmem-counter: hits:1"];
    assert_eq!(judged(&few, &FINE).len(), 1, "too few");
    assert_eq!(
        judged(&["vtmem-counter: hits:1"], &FINE).len(),
        1,
        "no rounds"
    );
    let both = [Kind::Bulk, Kind::Fork];
    assert_eq!(faults(&both, &report(&FINE), None).len(), 1);
}

#[test]
fn a_guest_that_ended_early_fails_the_run() {
    let early = || {
        let mut report = Report::default();
        for line in FINE {
            report.line(line);
        }
        report.end(Some(0), "");
        report
    };
    assert_eq!(
        faults(&[Kind::Bulk], &early(), Some(&report(&FINE))).len(),
        1
    );
    assert_eq!(
        faults(&[Kind::Bulk], &report(&FINE), Some(&early())).len(),
        1
    );
}
