//! `vtmem doctor`: what this host can do, and what to do about the rest.

use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use tmem_device::governor::{Machine, Source as _};
use vtmem_images::find_program;

use crate::accel::{CPUINFO, virtualizes};
use crate::hypervisor::kvm::KvmHypervisor;
use crate::lab::qemu::PROGRAM;

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// What follows where no memory controller can be had.
const UNBOUNDED: &str = "`vtmem compare --accel kvm` cannot bound guests by it";
/// Who may have a ring: 0 for everybody.
const IO_URING_DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";

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
    findings.push(io_uring(
        io_uring::IoUring::new(2).map(drop),
        fs::read_to_string(IO_URING_DISABLED),
    ));
    findings.push(cgroup(Path::new(CGROUPS)));
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

/// Whether guests can be bounded by a memory cgroup, `root` being where cgroups are mounted.
fn cgroup(root: &Path) -> Finding {
    let (health, found) = match fs::read_to_string(root.join("cgroup.controllers")) {
        Ok(names) if names.split_whitespace().any(|name| name == "memory") => {
            (Health::Good, "version 2, with memory".to_owned())
        }
        Ok(_) => (
            Health::Lacking,
            format!(
                "version 2 without memory: {UNBOUNDED}; boot with cgroup_enable=memory, or delegate the controller"
            ),
        ),
        // Cgroups are there, and not of version 2.
        Err(error) if error.kind() == io::ErrorKind::NotFound && root.join("memory").is_dir() => (
            Health::Good,
            "version 1, with memory; the governor and `vtmem compare --accel kvm` use it"
                .to_owned(),
        ),
        Err(error) => (
            Health::Lacking,
            format!(
                "could not find out whether there is a memory controller: {}/cgroup.controllers: {error}; {UNBOUNDED}; mount \
                 cgroups of version 2 there, or make them readable for this user",
                root.display()
            ),
        ),
    };
    finding("cgroup", health, found)
}

/// Whether disks serve many requests at once: `ring` is what the kernel said to one who asked for a ring, `setting` what it says
/// of who may.
fn io_uring(ring: io::Result<()>, setting: io::Result<String>) -> Finding {
    let Err(error) = ring else {
        let found = "disks serve many requests at once";
        return finding("io_uring", Health::Good, found);
    };
    let why = match setting.as_deref().map(str::trim) {
        // Older than the setting, or this kernel knows no ring.
        Err(missing)
            if missing.kind() == io::ErrorKind::NotFound && Path::new(CPUINFO).exists() =>
        {
            "this kernel has none, or a seccomp profile forbids it".to_owned()
        }
        Err(unknown) => {
            format!("could not find out why: {IO_URING_DISABLED}: {unknown}; mount /proc")
        }
        Ok("0") => "perhaps a seccomp profile forbids it".to_owned(),
        Ok(value) => format!("kernel.io_uring_disabled is {value}; set it to 0"),
    };
    let found = format!("{error}: disks serve one request after the other; {why}");
    finding("io_uring", Health::Lacking, found)
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

    #[test]
    fn no_cgroups_are_told_from_cgroups_that_cannot_be_seen() {
        let root = tempfile::tempdir().expect("a directory");
        let unknown = cgroup(root.path());
        assert_eq!(unknown.health, Health::Lacking);
        assert!(
            unknown.found.starts_with("could not find out"),
            "{}",
            unknown.found
        );
        fs::create_dir(root.path().join("memory")).expect("a directory");
        assert!(cgroup(root.path()).found.starts_with("version 1"));
        let controllers = root.path().join("cgroup.controllers");
        fs::write(&controllers, "cpu io\n").expect("a file");
        let without = cgroup(root.path());
        assert_eq!(without.health, Health::Lacking);
        assert!(
            without.found.starts_with("version 2 without memory"),
            "{}",
            without.found
        );
        fs::write(&controllers, "cpu memory\n").expect("a file");
        assert_eq!(cgroup(root.path()).health, Health::Good);
    }

    #[test]
    fn a_ring_that_is_forbidden_is_told_from_one_that_is_refused_for_unknown_reasons() {
        let refused = || Err(io::Error::from_raw_os_error(libc::EPERM));
        let found = |setting| io_uring(refused(), setting).found;
        assert!(found(Ok("2\n".to_owned())).contains("io_uring_disabled is 2; set it to 0"));
        assert!(found(Ok("0\n".to_owned())).contains("seccomp"));
        let unreadable = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(found(Err(unreadable)).contains("could not find out why"));
        let absent = io::Error::from(io::ErrorKind::NotFound);
        assert!(!found(Err(absent)).contains("set it to 0"));
        assert_eq!(io_uring(Ok(()), Ok(String::new())).health, Health::Good);
    }
}
