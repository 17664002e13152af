//! Which features of a processor rest on which others.
//!
//! A hypervisor that is itself emulated, or that lacks a part of what it runs on, may offer a feature without what it needs: QEMU
//! 7.2 does not tell a nested KVM of XSETBV, so the lab's processor has no XSAVE, and yet its KVM offers AVX, which
//! faults. A guest believes what it is told and checks one bit. So what lacks its ground is not offered.
//!
//! Sources: Intel SDM volume 1, chapters 13 to 15 (what CPUID bits software must check before it uses an extension); AMD APM
//! volume 3, appendix E; and, for the same table from a kernel's view, Linux' arch/x86/kernel/cpu/cpuid-deps.c.

use kvm_bindings::kvm_cpuid_entry2;

/// A register of a CPUID leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}
use Register::{Eax, Ebx, Ecx, Edx};

impl Register {
    fn of(self, entry: &mut kvm_cpuid_entry2) -> &mut u32 {
        match self {
            Eax => &mut entry.eax,
            Ebx => &mut entry.ebx,
            Ecx => &mut entry.ecx,
            Edx => &mut entry.edx,
        }
    }
}

/// A bit of CPUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Feature {
    leaf: u32,
    index: u32,
    register: Register,
    bit: u32,
}

const fn feature(leaf: u32, index: u32, register: Register, bit: u32) -> Feature {
    Feature {
        leaf,
        index,
        register,
        bit,
    }
}

/// What a feature needs.
#[derive(Debug, Clone, Copy)]
enum Need {
    /// Another feature.
    Of(Feature),
    /// These components of the state that XSAVE keeps (leaf 0xD, index 0, EAX).
    States(u32),
}
use Need::{Of, States};

/// The leaf of XSAVE, which is empty where there is no XSAVE.
const XSAVE_LEAF: u32 = 0xd;

const FXSR: Feature = feature(1, 0, Edx, 24);
const SSE: Feature = feature(1, 0, Edx, 25);
const SSE2: Feature = feature(1, 0, Edx, 26);
const SSE3: Feature = feature(1, 0, Ecx, 0);
const SSSE3: Feature = feature(1, 0, Ecx, 9);
const SSE4_1: Feature = feature(1, 0, Ecx, 19);
const SSE4_2: Feature = feature(1, 0, Ecx, 20);
const XSAVE: Feature = feature(1, 0, Ecx, 26);
const AVX: Feature = feature(1, 0, Ecx, 28);
const AVX2: Feature = feature(7, 0, Ebx, 5);
const AVX512F: Feature = feature(7, 0, Ebx, 16);
const AVX512BW: Feature = feature(7, 0, Ebx, 30);
const XSAVEC: Feature = feature(XSAVE_LEAF, 1, Eax, 1);
const XFD: Feature = feature(XSAVE_LEAF, 1, Eax, 4);
const AMX_TILE: Feature = feature(7, 0, Edx, 24);

/// Each feature with one thing that it needs.
const NEEDS: &[(Feature, Need)] = &[
    (SSE, Of(FXSR)),
    (SSE2, Of(SSE)),
    (SSE3, Of(SSE2)),
    (SSSE3, Of(SSE3)),
    (SSE4_1, Of(SSSE3)),
    (SSE4_2, Of(SSE4_1)),
    // PCLMULQDQ, AES, SHA, GFNI, SSE4A.
    (feature(1, 0, Ecx, 1), Of(SSE2)),
    (feature(1, 0, Ecx, 25), Of(SSE2)),
    (feature(7, 0, Ebx, 29), Of(SSE2)),
    (feature(7, 0, Ecx, 8), Of(SSE2)),
    (feature(0x8000_0001, 0, Ecx, 6), Of(SSE3)),
    (XSAVE, Of(FXSR)),
    // OSXSAVE; XSAVEOPT, XSAVEC, XGETBV of 1, XSAVES, XFD.
    (feature(1, 0, Ecx, 27), Of(XSAVE)),
    (feature(XSAVE_LEAF, 1, Eax, 0), Of(XSAVE)),
    (XSAVEC, Of(XSAVE)),
    (feature(XSAVE_LEAF, 1, Eax, 2), Of(XSAVE)),
    (feature(XSAVE_LEAF, 1, Eax, 3), Of(XSAVEC)),
    (XFD, Of(XSAVE)),
    // Protection keys, and that they are on; bounds checking.
    (feature(7, 0, Ecx, 3), Of(XSAVE)),
    (feature(7, 0, Ecx, 3), States(1 << 9)),
    (feature(7, 0, Ecx, 4), Of(feature(7, 0, Ecx, 3))),
    (feature(7, 0, Ebx, 14), Of(XSAVE)),
    (feature(7, 0, Ebx, 14), States(0b11 << 3)),
    // The upper halves of the YMM registers, and what computes in them: F16C, FMA, FMA4, XOP, LWP, VAES, VPCLMULQDQ, and
    // the later AVX of leaf 7, index 1.
    (AVX, Of(XSAVE)),
    (AVX, Of(SSE4_2)),
    (AVX, States(0b110)),
    (feature(1, 0, Ecx, 29), Of(AVX)),
    (feature(1, 0, Ecx, 12), Of(AVX)),
    (feature(0x8000_0001, 0, Ecx, 16), Of(AVX)),
    (feature(0x8000_0001, 0, Ecx, 11), Of(AVX)),
    (feature(0x8000_0001, 0, Ecx, 15), Of(XSAVE)),
    (feature(7, 0, Ecx, 9), Of(AVX)),
    (feature(7, 0, Ecx, 10), Of(AVX)),
    (AVX2, Of(AVX)),
    (feature(7, 1, Eax, 0), Of(AVX2)),
    (feature(7, 1, Eax, 1), Of(AVX2)),
    (feature(7, 1, Eax, 2), Of(AVX2)),
    (feature(7, 1, Eax, 4), Of(AVX2)),
    (feature(7, 1, Eax, 23), Of(AVX2)),
    (feature(7, 1, Edx, 4), Of(AVX2)),
    (feature(7, 1, Edx, 5), Of(AVX2)),
    (feature(7, 1, Edx, 10), Of(AVX2)),
    // The ZMM and the mask registers: DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW, 4FMAPS,
    // VP2INTERSECT, FP16; BF16; AVX10.
    (AVX512F, Of(AVX2)),
    (AVX512F, States(0b111 << 5)),
    (feature(7, 0, Ebx, 17), Of(AVX512F)),
    (feature(7, 0, Ebx, 21), Of(AVX512F)),
    (feature(7, 0, Ebx, 26), Of(AVX512F)),
    (feature(7, 0, Ebx, 27), Of(AVX512F)),
    (feature(7, 0, Ebx, 28), Of(AVX512F)),
    (AVX512BW, Of(AVX512F)),
    (feature(7, 0, Ebx, 31), Of(AVX512F)),
    (feature(7, 0, Ecx, 1), Of(AVX512BW)),
    (feature(7, 0, Ecx, 6), Of(AVX512BW)),
    (feature(7, 0, Ecx, 11), Of(AVX512F)),
    (feature(7, 0, Ecx, 12), Of(AVX512BW)),
    (feature(7, 0, Ecx, 14), Of(AVX512F)),
    (feature(7, 0, Edx, 2), Of(AVX512F)),
    (feature(7, 0, Edx, 3), Of(AVX512F)),
    (feature(7, 0, Edx, 8), Of(AVX512F)),
    (feature(7, 0, Edx, 23), Of(AVX512BW)),
    (feature(7, 1, Eax, 5), Of(AVX512BW)),
    (feature(7, 1, Edx, 19), Of(AVX512F)),
    // Tiles, in BF16, INT8, FP16 and complex numbers.
    (AMX_TILE, Of(XFD)),
    (AMX_TILE, States(0b11 << 17)),
    (feature(7, 0, Edx, 22), Of(AMX_TILE)),
    (feature(7, 0, Edx, 25), Of(AMX_TILE)),
    (feature(7, 1, Eax, 21), Of(AMX_TILE)),
    (feature(7, 1, Edx, 8), Of(AMX_TILE)),
];

fn register(entries: &mut [kvm_cpuid_entry2], at: Feature) -> Option<&mut u32> {
    entries
        .iter_mut()
        .find(|entry| entry.function == at.leaf && entry.index == at.index)
        .map(|entry| at.register.of(entry))
}

fn offered(entries: &mut [kvm_cpuid_entry2], feature: Feature) -> bool {
    register(entries, feature).is_some_and(|bits| *bits & 1 << feature.bit != 0)
}

fn met(entries: &mut [kvm_cpuid_entry2], need: Need) -> bool {
    match need {
        Of(feature) => offered(entries, feature),
        States(states) => register(entries, feature(XSAVE_LEAF, 0, Eax, 0))
            .is_some_and(|bits| *bits & states == states),
    }
}

/// Withdraws every feature whose ground is missing, and those that rest on it.
pub(super) fn withdraw_what_lacks_its_ground(entries: &mut [kvm_cpuid_entry2]) {
    // The table is in order of what rests on what, so one pass is enough; a test says so.
    for &(feature, need) in NEEDS {
        if !met(entries, need)
            && let Some(bits) = register(entries, feature)
        {
            *bits &= !(1 << feature.bit);
        }
    }
    if !offered(entries, XSAVE) {
        for entry in entries.iter_mut().filter(|e| e.function == XSAVE_LEAF) {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
        }
    }
}

#[cfg(test)]
#[path = "cpu_features_test.rs"]
mod tests;
