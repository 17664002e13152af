use super::*;
use crate::torture::operation::Kind;
use vtmem_workloads::random::Random;

fn operations(count: usize) -> Vec<Operation> {
    let mut random = Random::new(3, 3);
    (0..count)
        .map(|_| Operation::random(&mut random, 4, 64))
        .collect()
}

#[test]
fn what_is_needed_is_left_and_nothing_else() {
    let all = operations(2000);
    let needed = [all[1700], all[1801], all[1999]];
    let has = |these: &[Operation]| {
        let mut rest = these.iter();
        needed.iter().all(|one| rest.any(|other| other == one))
    };
    let mut tries = 0;
    let found = shrink(&all, |these| {
        tries += 1;
        Some(has(these))
    });
    assert_eq!(found.as_deref(), Some(&needed[..]));
    assert!(tries < 200, "{tries} replays");
}

#[test]
fn what_does_not_fail_again_or_takes_too_long_is_not_shrunk() {
    let all = operations(300);
    assert_eq!(shrink(&all, |_| Some(false)), None);
    let mut tries = 0;
    let found = shrink(&all, |_| {
        tries += 1;
        (tries < 2).then_some(true)
    });
    assert_eq!(found.as_deref(), Some(&all[300 - 64..]));
}

#[test]
fn a_trace_has_what_concerns_a_file_in_order() {
    let forget = |file| Operation {
        file,
        kind: Kind::Forget,
    };
    let remount = Operation {
        file: 9,
        kind: Kind::Remount,
    };
    let (mut a, mut b) = (Trace::default(), Trace::default());
    a.note(1, forget(1));
    b.note(2, forget(2));
    b.note(3, remount);
    a.note(4, forget(1));
    assert_eq!(of_file(&[a, b], 1), [forget(1), remount, forget(1)]);
}
