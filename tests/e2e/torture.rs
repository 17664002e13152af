//! Two vCPUs read, write, truncate, punch and drop caches at once, and every byte is checked.

use crate::Case;
use crate::host::Guest;

pub const CASES: &[Case] = &[Case {
    name: "torture::two_cpus_no_wrong_byte",
    needs_guests: true,
    alone: false,
    run: two_cpus,
}];

const MIB: u64 = 1 << 20;

/// How long the guest keeps at it, in seconds of its own clock.
const SECONDS: u32 = 150;

fn two_cpus() {
    let run = Guest::new("160M", 2)
        .ext4_disk(1024 * MIB, "none")
        .empty_disk(512 * MIB, "none")
        .cmdline("vtmem.data=/dev/vda vtmem.swap=/dev/vdb")
        .tmem("192M", "")
        .args(&["--clock", "real"])
        .run(&format!(
            "vtmem-work torture --dir /data --seconds {SECONDS} --seed 7\n"
        ));
    let console = run.succeeded();
    let result = console
        .lines()
        .find_map(|line| line.trim().strip_prefix("vtmem-result: "))
        .unwrap_or_else(|| panic!("no result in:\n{console}"));
    let result: serde_json::Value = serde_json::from_str(result).expect("a JSON result");
    assert_eq!(result["bytes_corrupt"], 0, "{result}");
    let verified = result["bytes_verified"].as_u64().expect("a count");
    assert!(verified > 64 * MIB, "only {verified} bytes were verified");
}
