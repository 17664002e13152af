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
    Case {
        name: "boot::a_quiet_boot_is_quiet",
        needs_guests: true,
        alone: false,
        run: a_quiet_boot_is_quiet,
    },
    Case {
        name: "boot::offered_features_work",
        needs_guests: true,
        alone: false,
        run: offered_features_work,
    },
    Case {
        name: "boot::ciphers_pass_the_kernels_tests",
        needs_guests: true,
        alone: false,
        run: ciphers,
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

/// The default command line says `quiet`, and the kernel has nothing to complain about.
fn a_quiet_boot_is_quiet() {
    let run = Guest::new("128M", 2)
        .run("dmesg -r | grep '^<[0-3]>' | sed 's/^/complaint: /'\necho is-up\n");
    let console = run.console();
    assert!(console.contains("is-up"), "{console}");
    let before = console.split("is-up").next().expect("a first part");
    let lines = before.lines().filter(|line| !line.starts_with("vtmem: "));
    assert_eq!(lines.collect::<Vec<_>>(), [""; 0]);
}

/// What rests on the state that XSAVE keeps is offered where XSAVE is, and nowhere else: in the lab there is none, and AVX faults.
fn offered_features_work() {
    let run = Guest::new("128M", 1).run(
        "flags=$(grep -m1 ^flags /proc/cpuinfo)\n\
         has() { echo \"$flags\" | grep -qw $1; }\n\
         has sse2 || exit 1\n\
         if has avx; then has xsave || exit 2; fi\n\
         for flag in avx2 fma f16c vaes vpclmulqdq avx512f; do\n\
         if has $flag; then has avx || exit 3; fi\n\
         done\n\
         if has pku; then has xsave || exit 4; fi\n",
    );
    run.succeeded();
}

/// Ciphers written in the processor's own instructions: the kernel tests each as it is loaded.
fn ciphers() {
    let run = Guest::new("160M", 1)
        .modules(&["aesni_intel", "sha512_ssse3"])
        .run(
            "grep -E '^(driver|selftest)' /proc/crypto\n\
             echo aes=$(grep -c '^driver *: .*aes-aesni' /proc/crypto)\n\
             echo sha=$(grep -c '^driver *: sha512-ssse3\\|^driver *: sha512-avx' /proc/crypto)\n\
             echo untested=$(grep '^selftest' /proc/crypto | grep -vc passed)\n\
             ! dmesg | grep -E 'invalid opcode|Oops|self-tests.*failed' || exit 1\n",
        );
    run.succeeded();
    assert!(run.number("aes") >= 4, "{}", run.console());
    assert!(run.number("sha") >= 1, "{}", run.console());
    assert_eq!(run.number("untested"), 0, "{}", run.console());
}
