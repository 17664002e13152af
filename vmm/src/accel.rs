//! Where guests run, and by which clock.

use std::{fs, io};

use clap::ValueEnum;

/// Where guests run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// KVM where the processor virtualizes, the lab elsewhere.
    #[default]
    Auto,
    /// This host's /dev/kvm.
    Kvm,
    /// An emulated host with hardware virtualization, and its /dev/kvm.
    Lab,
}

/// The clock of the lab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Clock {
    /// The wall's.
    #[default]
    Real,
    /// One instruction is one nanosecond; figures repeat to the last digit.
    Virtual,
}

impl Accel {
    /// Decides what `auto` means here, and says so in one line.
    pub fn resolve(self) -> Accel {
        if self != Accel::Auto {
            return self;
        }
        let (accel, why) = match virtualizes() {
            Ok(true) => (
                Accel::Kvm,
                "this processor virtualizes: running on its KVM (--accel kvm)".to_owned(),
            ),
            Ok(false) => (
                Accel::Lab,
                "this processor does not virtualize: running in the lab (--accel lab)".to_owned(),
            ),
            Err(error) => (
                Accel::Lab,
                format!(
                    "{CPUINFO}: {error}: could not find out whether this processor virtualizes, running in the lab; mount \
                     /proc, or say --accel kvm"
                ),
            ),
        };
        eprintln!("vtmem: {why}");
        accel
    }
}

/// What tells of the processor.
pub const CPUINFO: &str = "/proc/cpuinfo";

/// Whether this processor has SVM or VMX. An openable /dev/kvm alone says little: KVM without
/// either cannot run an unmodified kernel.
///
/// # Errors
/// The kernel's list of the processor's flags cannot be read, as where /proc is not mounted, or has none: nobody knows.
pub fn virtualizes() -> io::Result<bool> {
    lists_virtualization(&fs::read_to_string(CPUINFO)?)
}

fn lists_virtualization(cpuinfo: &str) -> io::Result<bool> {
    let mut flags = cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .peekable();
    if flags.peek().is_none() {
        return Err(io::Error::other("it lists no flags"));
    }
    Ok(flags.any(|line| {
        line.split_whitespace()
            .any(|flag| flag == "svm" || flag == "vmx")
    }))
}

#[cfg(test)]
mod tests {
    use super::lists_virtualization;

    #[test]
    fn only_the_processors_flags_count() {
        for (cpuinfo, expected) in [
            ("processor : 0\nflags\t\t: fpu svm sse\n", true),
            ("flags : vmx\n", true),
            ("flags\t\t: fpu svmx sse\nmodel name : vmx\n", false),
        ] {
            let found = lists_virtualization(cpuinfo).expect("there are flags");
            assert_eq!(found, expected, "{cpuinfo}");
        }
    }

    #[test]
    fn without_flags_nobody_knows() {
        for unknown in ["", "processor : 0\nmodel name : svm\n"] {
            assert!(lists_virtualization(unknown).is_err(), "{unknown:?}");
        }
    }
}
