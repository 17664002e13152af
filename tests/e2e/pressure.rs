//! A guest short of memory loses nothing by having its swap in tmem; and the exerciser notices when a bound is left out.

use crate::Case;
use crate::host::vtmem;

pub const CASES: &[Case] = &[
    Case {
        name: "pressure::nothing_is_killed_hangs_or_is_wrong",
        needs_guests: true,
        alone: false,
        run: nothing_is_killed,
    },
    Case {
        name: "pressure::a_plug_without_a_bound_is_found",
        needs_guests: true,
        alone: false,
        run: a_plug_without_a_bound_is_found,
    },
];

/// One round of each of these, without the control: what it would lose as well is not forgiven.
fn nothing_is_killed() {
    let kinds = ["bulk", "swapoff", "lock", "cgroup", "remote"];
    let done = vtmem(&["pressure", "--no-control", "--kinds", &kinds.join(",")]);
    assert_eq!(done.status, Some(0), "{}\n{}", done.stdout, done.stderr);
    for kind in kinds {
        let row = done.stdout.lines().find_map(|line| {
            let cells = line.strip_prefix(&format!("| {kind} | "))?;
            let cells = cells.split(" | ").take(5).map(|cell| cell.parse().ok());
            cells.collect::<Option<Vec<u64>>>()
        });
        let [1, compared, 0, 0, 0] = row.unwrap_or_default()[..] else {
            panic!("{kind} in {}", done.stdout);
        };
        assert!(compared >= 66, "{kind}: {compared} MiB");
    }
}

/// Case 1 of the OOM killer that strikes while swap is free.
fn a_plug_without_a_bound_is_found() {
    let options = ["--no-control", "--kinds", "bulk,lock,together"];
    let done = vtmem(&[&["pressure", "--mutate", "plug"][..], &options].concat());
    assert_eq!(done.status, Some(1), "{}\n{}", done.stdout, done.stderr);
    assert!(
        done.stdout.contains("failed: ") && done.stdout.contains("OOM killer"),
        "{}",
        done.stdout
    );
}
