use super::*;
use std::collections::BTreeSet;

#[test]
fn operations_survive_a_script_and_all_kinds_come_up() {
    let mut random = Random::new(1, 1);
    let mut names = BTreeSet::new();
    for _ in 0..100_000 {
        let operation = Operation::random(&mut random, 16, 640);
        let line = operation.to_string();
        assert_eq!(line.parse(), Ok(operation), "{line}");
        names.extend(line.split(' ').nth(1).map(str::to_owned));
    }
    assert_eq!(names.len(), 28, "{names:?}");
}

#[test]
fn what_is_no_operation_is_refused() {
    for line in [
        "",
        "1",
        "x read 0+1 buffered",
        "1 read 0+1",
        "1 read 31+2 direct",
        "1 read 3+0 direct",
        "1 fly",
    ] {
        assert!(line.parse::<Operation>().is_err(), "{line:?}");
    }
}

#[test]
fn the_same_seed_makes_the_same_operations() {
    let list = || {
        let mut random = Random::new(5, 2);
        (0..100)
            .map(|_| Operation::random(&mut random, 8, 128))
            .collect::<Vec<_>>()
    };
    assert_eq!(list(), list());
}
