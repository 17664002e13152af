use proptest::prelude::*;

use super::*;

fn entry(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = registers;
    kvm_cpuid_entry2 {
        function,
        index,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

const LEAVES: [(u32, u32); 6] = [
    (1, 0),
    (7, 0),
    (7, 1),
    (XSAVE_LEAF, 0),
    (XSAVE_LEAF, 1),
    (0x8000_0001, 0),
];

fn processor(registers: [[u32; 4]; 6]) -> Vec<kvm_cpuid_entry2> {
    LEAVES
        .iter()
        .zip(registers)
        .map(|(&(leaf, index), registers)| entry(leaf, index, registers))
        .collect()
}

fn whole() -> Vec<kvm_cpuid_entry2> {
    processor([[u32::MAX; 4]; 6])
}

#[test]
fn a_processor_that_has_all_keeps_all() {
    let mut entries = whole();
    withdraw_what_lacks_its_ground(&mut entries);
    assert_eq!(entries, whole());
}

/// As the lab's: everything but XSAVE.
#[test]
fn without_xsave_there_is_no_avx_and_nothing_that_rests_on_it() {
    let mut entries = whole();
    *register(&mut entries, XSAVE).expect("leaf 1") &= !(1 << XSAVE.bit);
    withdraw_what_lacks_its_ground(&mut entries);
    let gone = [
        AVX,
        AVX2,
        AVX512F,
        AMX_TILE,
        feature(1, 0, Ecx, 12),
        feature(1, 0, Ecx, 27),
        feature(1, 0, Ecx, 29),
        feature(7, 0, Ecx, 3),
        feature(7, 0, Ecx, 4),
        feature(7, 0, Ecx, 9),
        feature(7, 0, Ecx, 10),
        feature(7, 1, Eax, 4),
    ];
    for feature in gone {
        assert!(!offered(&mut entries, feature), "{feature:?}");
    }
    for entry in entries.iter().filter(|e| e.function == XSAVE_LEAF) {
        assert_eq!([entry.eax, entry.ebx, entry.ecx, entry.edx], [0; 4]);
    }
    // AES, PCLMULQDQ, and what is none of this table's: BMI1, BMI2.
    for kept in [
        SSE4_2,
        feature(1, 0, Ecx, 25),
        feature(1, 0, Ecx, 1),
        feature(7, 0, Ebx, 3),
        feature(7, 0, Ebx, 8),
    ] {
        assert!(offered(&mut entries, kept), "{kept:?}");
    }
}

#[test]
fn state_that_xsave_does_not_keep_cannot_be_used() {
    for (states, feature) in [(1 << 2, AVX), (1 << 6, AVX512F), (1 << 18, AMX_TILE)] {
        let mut entries = whole();
        let components = super::feature(XSAVE_LEAF, 0, Eax, 0);
        *register(&mut entries, components).expect("leaf 0xd") &= !states;
        withdraw_what_lacks_its_ground(&mut entries);
        assert!(!offered(&mut entries, feature), "{feature:?}");
        assert!(offered(&mut entries, XSAVE));
    }
}

proptest! {
    /// Whatever a hypervisor offers: what is left has its ground, nothing was added, and nothing went without cause.
    #[test]
    fn what_is_offered_has_its_ground(
        registers: [[u32; 4]; 6],
        present in prop::collection::vec(prop::bool::weighted(0.9), 6),
    ) {
        let mut entries = processor(registers);
        let mut present = present.into_iter();
        entries.retain(|_| present.next().expect("one for each leaf"));
        let before = entries.clone();
        withdraw_what_lacks_its_ground(&mut entries);

        for &(feature, need) in NEEDS {
            if offered(&mut entries, feature) {
                prop_assert!(met(&mut entries, need), "{feature:?} without {need:?}");
            } else if offered(&mut before.clone(), feature) {
                let cause = |&(other, need): &(Feature, Need)| {
                    other == feature && !met(&mut entries.clone(), need)
                };
                prop_assert!(NEEDS.iter().any(cause), "{feature:?} is gone without a cause");
            }
        }
        for (before, after) in before.iter().zip(&entries) {
            for (before, after) in [
                (before.eax, after.eax),
                (before.ebx, after.ebx),
                (before.ecx, after.ecx),
                (before.edx, after.edx),
            ] {
                prop_assert_eq!(after & !before, 0);
            }
        }
    }
}
