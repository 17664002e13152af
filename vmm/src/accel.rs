//! Where guests run, and by which clock.

use std::fs;

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
        if virtualizes(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()) {
            eprintln!("vtmem: this processor virtualizes: running on its KVM (--accel kvm)");
            Accel::Kvm
        } else {
            eprintln!(
                "vtmem: this processor does not virtualize: running in the lab (--accel lab)"
            );
            Accel::Lab
        }
    }
}

/// Whether /proc/cpuinfo lists SVM or VMX. An openable /dev/kvm alone says little: KVM without
/// either cannot run an unmodified kernel.
pub fn virtualizes(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| {
            line.split_whitespace()
                .any(|flag| flag == "svm" || flag == "vmx")
        })
}

#[cfg(test)]
mod tests {
    use super::virtualizes;

    #[test]
    fn only_the_processors_flags_count() {
        assert!(virtualizes("processor : 0\nflags\t\t: fpu svm sse\n"));
        assert!(virtualizes("flags : vmx\n"));
        assert!(!virtualizes("flags\t\t: fpu svmx sse\nmodel name : vmx\n"));
    }
}
