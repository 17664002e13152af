use super::*;

#[test]
fn names_and_marks_are_unambiguous() {
    let mut marks = std::collections::BTreeSet::new();
    for workload in Workload::ALL {
        assert_eq!(Workload::from_name(workload.name()), Some(workload));
        for other in Workload::ALL {
            assert_ne!(workload.begin_mark(), other.end_mark());
            assert_eq!(
                workload.begin_mark() == other.begin_mark(),
                workload == other
            );
        }
        for pass in 0..workload.passes().len() {
            let mark = workload.pass_mark(pass);
            assert!(marks.insert(mark), "{mark:#x} twice");
        }
        assert!(marks.insert(workload.begin_mark()));
        assert!(marks.insert(workload.end_mark()));
    }
    assert_eq!(Workload::from_name("torture"), None);
}

#[test]
fn the_result_line_is_as_agreed() {
    let outcome = Outcome {
        nanoseconds: 12,
        operations: 3,
        bytes_verified: 4096,
        bytes_corrupt: 0,
    };
    assert_eq!(
        outcome.line("reread"),
        r#"vtmem-result: {"workload":"reread","nanoseconds":12,"operations":3,"bytes_verified":4096,"bytes_corrupt":0}"#
    );
    assert_eq!(
        outcome.pass_line("reread", 1),
        r#"vtmem-pass: {"workload":"reread","pass":1,"nanoseconds":12,"operations":3,"bytes_verified":4096,"bytes_corrupt":0}"#
    );
}
