//! `vtmem doctor`: what this host can do, and what to do about the rest.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use tmem_device::governor::{Machine, Source as _};
use vtmem_images::find_program;

use crate::accel::{CPUINFO, virtualizes};
use crate::hypervisor::kvm::KvmHypervisor;
use crate::lab::qemu::PROGRAM;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// As it should be.
    Good,
    /// Something works less well, or in another way.
    Lacking,
    /// Guests cannot run.
    Missing,
}

/// What was looked at.
struct Finding {
    what: &'static str,
    health: Health,
    /// What was found, and what to do about it.
    found: String,
}

fn finding(what: &'static str, health: Health, found: impl Into<String>) -> Finding {
    Finding {
        what,
        health,
        found: found.into(),
    }
}

/// Runs `vtmem doctor`: the status is 0 if guests can run here somehow.
pub fn execute() -> ExitCode {
    let findings = examine();
    for Finding {
        what,
        health,
        found,
    } in &findings
    {
        let mark = match health {
            Health::Good => "ok  ",
            Health::Lacking => "less",
            Health::Missing => "NONE",
        };
        println!("{mark}  {what:16}  {found}");
    }
    let missing = findings.iter().any(|f| f.health == Health::Missing);
    ExitCode::from(if missing { super::STATUS_USER_ERROR } else { 0 })
}

fn examine() -> Vec<Finding> {
    let processor = virtualizes();
    let virtualization = matches!(processor, Ok(true));
    let kvm = KvmHypervisor::open();
    let emulator = find_program(PROGRAM.0);
    let mut findings = vec![];
    let unknown = processor.is_err();
    findings.push(match processor {
        Ok(true) => finding("processor", Health::Good, "virtualizes (SVM or VMX)"),
        Ok(false) => {
            let found = "does not virtualize: guests run in the lab; enable SVM or VMX in the firmware, or \
                         nested virtualization in the hypervisor above, if there is one";
            finding("processor", Health::Lacking, found)
        }
        Err(error) => {
            let found = format!(
                "could not find out whether it virtualizes: {CPUINFO}: {error}; mount /proc, or say --accel kvm"
            );
            finding("processor", Health::Lacking, found)
        }
    });
    findings.push(match &kvm {
        Ok(_) if virtualization => {
            finding("/dev/kvm", Health::Good, "opens, and has what guests need")
        }
        Ok(_) if unknown => finding(
            "/dev/kvm",
            Health::Lacking,
            "opens; whether it can run unmodified kernels could not be found out (see processor)",
        ),
        Ok(_) => finding(
            "/dev/kvm",
            Health::Lacking,
            "opens, but cannot run unmodified kernels without a processor that virtualizes",
        ),
        Err(error) => finding("/dev/kvm", Health::Lacking, error.to_string()),
    });
    let runs = virtualization && kvm.is_ok();
    findings.push(match emulator {
        Some(path) => finding("lab", Health::Good, format!("{}", path.display())),
        None => finding(
            "lab",
            if runs {
                Health::Lacking
            } else {
                Health::Missing
            },
            format!(
                "no {}; run: sudo apt-get install --no-install-recommends {}",
                PROGRAM.0, PROGRAM.1
            ),
        ),
    });
    findings.push(io_uring());
    findings.push(match fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") {
        Ok(names) if names.split_whitespace().any(|name| name == "memory") => {
            finding("cgroup", Health::Good, "version 2, with memory")
        }
        Err(error) => finding(
            "cgroup",
            Health::Lacking,
            format!(
                "could not find out whether version 2 has memory: /sys/fs/cgroup/cgroup.controllers: {error}; mount it, or boot \
                 with systemd.unified_cgroup_hierarchy=1; `vtmem compare --accel kvm` bounds guests by it"
            ),
        ),
        Ok(_) => finding(
            "cgroup",
            Health::Lacking,
            "no memory controller of version 2: `vtmem compare --accel kvm` cannot bound guests by it; boot with \
             systemd.unified_cgroup_hierarchy=1",
        ),
    });
    findings.push(match Machine::new() {
        Ok((machine, _)) if machine.lacks().is_empty() => finding(
            "governor",
            Health::Good,
            "sees memory, pressure and the cgroup's limit",
        ),
        Ok((machine, _)) => finding("governor", Health::Lacking, machine.lacks().join("; ")),
        Err(error) => finding("governor", Health::Lacking, error.to_string()),
    });
    findings
}

fn io_uring() -> Finding {
    let setting = fs::read_to_string(Path::new("/proc/sys/kernel/io_uring_disabled"));
    match io_uring::IoUring::new(2) {
        Ok(_) => finding(
            "io_uring",
            Health::Good,
            "disks serve many requests at once",
        ),
        Err(error) => {
            let why = match setting.as_deref().map(str::trim) {
                Ok("0") => "perhaps a seccomp profile forbids it".to_owned(),
                Err(unknown) => format!(
                    "could not find out why: /proc/sys/kernel/io_uring_disabled: {unknown}; perhaps a seccomp profile forbids it"
                ),
                Ok(value) => format!("kernel.io_uring_disabled is {value}; set it to 0"),
            };
            let found = format!("{error}: disks serve one request after the other; {why}");
            finding("io_uring", Health::Lacking, found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_not_good_says_what_to_do_or_what_follows() {
        for finding in examine() {
            assert!(!finding.found.is_empty(), "{}", finding.what);
            assert!(!finding.found.contains('\n'), "{}", finding.found);
        }
    }
}
