//! Two vCPUs mistreat files of ext4 and xfs in every way at once, and every byte is checked; and what the driver does to keep
//! them right is missed at once when it is left out.

use crate::Case;
use crate::host::vtmem;

pub const CASES: &[Case] = &[
    Case {
        name: "torture::ext4_no_wrong_byte",
        needs_guests: true,
        alone: false,
        run: || no_wrong_byte("ext4"),
    },
    Case {
        name: "torture::xfs_no_wrong_byte",
        needs_guests: true,
        alone: false,
        run: || no_wrong_byte("xfs"),
    },
    Case {
        name: "torture::without_tmem_it_does_not_pass",
        needs_guests: true,
        alone: false,
        run: without_tmem_it_does_not_pass,
    },
    Case {
        name: "torture::failed_writes_must_not_be_kept",
        needs_guests: true,
        alone: false,
        run: || found_missing("writeback-failed"),
    },
    Case {
        name: "torture::truncated_pages_must_not_be_kept",
        needs_guests: true,
        alone: false,
        run: || found_missing("truncate"),
    },
    Case {
        name: "torture::failed_direct_writes_must_not_be_kept",
        needs_guests: true,
        alone: false,
        run: || found_missing("direct-error"),
    },
    Case {
        name: "torture::direct_writes_under_way_must_not_be_kept",
        needs_guests: true,
        alone: false,
        run: || found_missing("direct-count"),
    },
];

fn no_wrong_byte(fs: &str) {
    let done = vtmem(&["torture", "--fs", fs, "--minutes", "2", "--seed", "7"]);
    assert_eq!(done.status, Some(0), "{}\n{}", done.stdout, done.stderr);
    let compared = done
        .stdout
        .split(", ")
        .find_map(|part| part.strip_suffix(" MiB compared")?.parse::<u64>().ok());
    assert!(
        compared > Some(32),
        "too little was compared: {}",
        done.stdout
    );
}

/// All bytes are right, and that says nothing.
fn without_tmem_it_does_not_pass() {
    let minute = ["torture", "--minutes", "1", "--seed", "7"];
    let done = vtmem(&[&minute[..], &["--no-cleancache", "--no-swap"]].concat());
    assert_eq!(done.status, Some(1), "{}\n{}", done.stdout, done.stderr);
    assert!(
        done.stdout.contains(" 0 bytes wrong") && done.stdout.contains("hits:0"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("failed: too few hits"),
        "{}",
        done.stdout
    );
}

/// The exerciser must find that this is left out of the driver.
fn found_missing(mutation: &str) {
    let done = vtmem(&[
        "torture",
        "--mutate",
        mutation,
        "--minutes",
        "3",
        "--seed",
        "1",
    ]);
    assert_eq!(done.status, Some(0), "{}\n{}", done.stdout, done.stderr);
}
