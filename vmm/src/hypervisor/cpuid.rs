//! What a vCPU says of itself when the guest executes CPUID.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use super::cpu_features::withdraw_what_lacks_its_ground;

/// Leaf 1, ECX: the local APIC timer takes TSC deadlines. KVM emulates it on every host, and leaves it
/// to the VMM to say so.
const ECX_TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ECX: there is a hypervisor.
const ECX_HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: the package has more than one logical processor.
const EDX_HTT: u32 = 1 << 28;
/// Leaf 0x8000_0001, ECX: nested virtualization (AMD). Guests get none.
const ECX_SVM: u32 = 1 << 2;
/// Leaf 1, ECX: nested virtualization (Intel).
const ECX_VMX: u32 = 1 << 5;

/// Makes `cpuid`, as the host offers it, that of vCPU `id` of `cpus`: one package, a core each. What the host offers without
/// what it needs is not offered.
pub fn tailor(cpuid: &mut CpuId, id: u8, cpus: u8) {
    withdraw_what_lacks_its_ground(cpuid.as_mut_slice());
    for entry in cpuid.as_mut_slice() {
        tailor_entry(entry, u32::from(id), u32::from(cpus));
    }
}

fn tailor_entry(entry: &mut kvm_cpuid_entry2, id: u32, cpus: u32) {
    let id_bits = cpus.next_power_of_two().trailing_zeros();
    match entry.function {
        1 => {
            entry.ebx = (entry.ebx & 0xffff) | (cpus << 16) | (id << 24);
            entry.ecx |= ECX_TSC_DEADLINE | ECX_HYPERVISOR;
            entry.ecx &= !ECX_VMX;
            if cpus > 1 {
                entry.edx |= EDX_HTT;
            } else {
                entry.edx &= !EDX_HTT;
            }
        }
        // Cache sharing: every core has its own, one package has them all.
        4 if entry.eax & 0x1f != 0 => {
            let level = (entry.eax >> 5) & 7;
            let sharing = if level >= 3 { cpus - 1 } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | (sharing << 14) | ((cpus - 1) << 26);
        }
        0xb | 0x1f => {
            entry.edx = id;
            let (shift, count, kind) = match entry.index {
                0 => (0, 1, 1),
                1 => (id_bits, cpus, 2),
                _ => (0, 0, 0),
            };
            entry.eax = shift;
            entry.ebx = count;
            entry.ecx = entry.index | (kind << 8);
        }
        0x8000_0001 => entry.ecx &= !ECX_SVM,
        0x8000_0008 => entry.ecx = (cpus - 1) | (id_bits << 12),
        0x8000_001e => {
            entry.eax = id;
            entry.ebx = id;
            entry.ecx = 0;
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "cpuid_test.rs"]
mod tests;
