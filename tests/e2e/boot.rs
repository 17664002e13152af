//! An unmodified Debian kernel boots, sees what it was given, and its end is the process's end.

use crate::Case;
use crate::host::Guest;

pub const CASES: &[Case] = &[
    Case {
        name: "boot::eight_vcpus_power_off",
        needs_guests: true,
        alone: false,
        run: eight_vcpus_power_off,
    },
    Case {
        name: "boot::reboot_is_status_3",
        needs_guests: true,
        alone: false,
        run: reboot_is_status_3,
    },
    Case {
        name: "boot::failing_script_is_seen",
        needs_guests: true,
        alone: false,
        run: failing_script_is_seen,
    },
];

fn eight_vcpus_power_off() {
    let run = Guest::new("256M", 8).run(
        "echo cpus=$(grep -c ^processor /proc/cpuinfo)\n\
         echo clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)\n\
         echo kib=$(sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)\n\
         for cpu in 0 1 2 3 4 5 6 7; do taskset -c $cpu true || exit 1; done\n",
    );
    run.succeeded();
    assert_eq!(run.number("cpus"), 8);
    assert!(
        run.console().contains("clock=kvm-clock"),
        "{}",
        run.console()
    );
    // The kernel keeps some of the 262,144 KiB for itself, but never gets more.
    let kib = run.number("kib");
    assert!((180_000..=262_144).contains(&kib), "MemTotal is {kib} KiB");
}

fn reboot_is_status_3() {
    let run = Guest::new("128M", 1).run("reboot -f\n");
    assert_eq!(run.status(), Some(3), "{}", run.console());
}

fn failing_script_is_seen() {
    let run = Guest::new("128M", 1).run("exit 7\n");
    assert!(run.console().contains("vtmem-exit: 7"), "{}", run.console());
}
