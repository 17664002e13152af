//! A wrong command line or a missing file ends with one clear line and exit status 2, before any
//! guest exists.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::Case;
use crate::host::{Finished, vtmem};

pub const CASES: &[Case] = &[
    Case {
        name: "cli_errors::unknown_option_names_it",
        needs_guests: false,
        alone: false,
        run: unknown_option_names_it,
    },
    Case {
        name: "cli_errors::missing_kernel_is_named",
        needs_guests: false,
        alone: false,
        run: missing_kernel_is_named,
    },
    Case {
        name: "cli_errors::garbage_is_not_a_kernel",
        needs_guests: false,
        alone: false,
        run: garbage_is_not_a_kernel,
    },
    Case {
        name: "cli_errors::disk_problems_are_told_apart",
        needs_guests: false,
        alone: false,
        run: disk_problems_are_told_apart,
    },
    Case {
        name: "cli_errors::machine_sizes_are_checked",
        needs_guests: false,
        alone: false,
        run: machine_sizes_are_checked,
    },
    Case {
        name: "cli_errors::options_that_contradict_each_other_are_named",
        needs_guests: false,
        alone: false,
        run: contradictions,
    },
];

/// Exit status 2, and an error on standard error that contains every one of `words`.
#[track_caller]
fn assert_refused(done: &Finished, words: &[&str]) {
    assert_eq!(done.status, Some(2), "exit status; stderr: {}", done.stderr);
    for word in words {
        assert!(
            done.stderr.contains(word),
            "{word:?} is not in: {}",
            done.stderr
        );
    }
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
}

fn unknown_option_names_it() {
    assert_refused(&vtmem(&["run", "--krenel", "x"]), &["--krenel"]);
    assert_refused(&vtmem(&["rum"]), &["rum"]);
}

fn missing_kernel_is_named() {
    let done = vtmem(&["run", "--accel", "kvm", "--kernel", "/nonexistent/vmlinux"]);
    assert_refused(&done, &["/nonexistent/vmlinux"]);
    assert_eq!(error_lines(&done), 1, "{}", done.stderr);
}

fn garbage_is_not_a_kernel() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("not-a-kernel");
    fs::write(&path, vec![0x5a; 8192]).expect("write the file");
    let path = path.to_str().expect("UTF-8 path");
    let done = vtmem(&["run", "--accel", "kvm", "--kernel", path]);
    assert_refused(&done, &["not-a-kernel"]);
    assert_eq!(error_lines(&done), 1, "{}", done.stderr);
}

fn disk_problems_are_told_apart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kernel = dir.path().join("kernel");
    fs::write(&kernel, b"\x7fELF").expect("write the file");
    let kernel = kernel.to_str().expect("UTF-8 path");
    let run = |disk: &str| vtmem(&["run", "--accel", "kvm", "--kernel", kernel, "--disk", disk]);

    let odd = dir.path().join("odd");
    fs::write(&odd, vec![0; 1000]).expect("write the file");
    assert_refused(
        &run(&format!("path={},cache=writeback", odd.display())),
        &["odd", "512"],
    );
    assert_refused(
        &run(&format!("path={},cache=wb", odd.display())),
        &["wb", "writeback"],
    );
    assert_refused(&run("cache=none"), &["path"]);
    assert_refused(&run("path=/nonexistent/disk"), &["/nonexistent/disk"]);

    let locked = dir.path().join("locked");
    fs::write(&locked, vec![0; 4096]).expect("write the file");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o600)).expect("chmod");
    let _holder = crate::host::hold_exclusive_lock(&locked);
    let done = run(&format!("path={}", locked.display()));
    assert_refused(&done, &["locked"]);
}

fn machine_sizes_are_checked() {
    for (option, value) in [
        ("--cpus", "0"),
        ("--cpus", "9"),
        ("--mem", "12Q"),
        ("--mem", "0"),
        ("--tmem", "size=x"),
    ] {
        let done = vtmem(&[
            "run",
            "--accel",
            "kvm",
            "--kernel",
            "/dev/null",
            option,
            value,
        ]);
        assert_refused(&done, &[]);
    }
}

/// Every command, and the words of both sides of what cannot be meant.
fn contradictions() {
    for (line, words) in [
        (
            "run --accel kvm --disk path=a --disk path=b/../../x,readonly --disk path=./a,readonly",
            ["disk vda", "disk vdc"],
        ),
        (
            "run --accel kvm --disk path=a --tmem size=1M,spill=a,spill-size=8M",
            ["disk vda", "spill"],
        ),
        (
            "run --accel kvm --kernel k --marks k",
            ["the kernel", "--marks"],
        ),
        (
            "run --accel kvm --disk path=a --tmem size=1M --tmem-record a",
            ["disk vda", "--tmem-record"],
        ),
        (
            "run --accel kvm --tmem-record a",
            ["--tmem-record", "no tmem"],
        ),
        (
            "run --accel kvm --tmem size=1M,min=2M",
            ["2097152", "1048576"],
        ),
        (
            "run --accel kvm --clock virtual",
            ["--clock virtual", "KVM"],
        ),
        (
            "lab --clock virtual --cpus 2 -- true",
            ["--cpus 2", "--clock virtual"],
        ),
        (
            "lab --file a:/a --output /b:a -- true",
            ["--file", "--output"],
        ),
        ("compare --json a --html a", ["--json", "--html"]),
    ] {
        let args: Vec<_> = line.split(' ').collect();
        let done = vtmem(&args);
        assert_refused(&done, &words);
        assert_eq!(error_lines(&done), 1, "{line}: {}", done.stderr);
    }
}

/// Lines on standard error that are part of the error's report.
fn error_lines(done: &Finished) -> usize {
    done.stderr
        .lines()
        .filter(|line| line.starts_with("error"))
        .count()
}
