use super::*;

fn entry(function: u32, index: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        index,
        ecx: ECX_SVM | ECX_VMX,
        ..Default::default()
    }
}

#[test]
fn every_vcpu_has_its_own_apic_id() {
    for id in 0..8 {
        let mut cpuid =
            CpuId::from_entries(&[entry(1, 0), entry(0xb, 0), entry(0xb, 1)]).expect("small");
        tailor(&mut cpuid, id, 8);
        let leaves = cpuid.as_slice();
        assert_eq!(leaves[0].ebx >> 24, u32::from(id));
        assert_eq!((leaves[0].ebx >> 16) & 0xff, 8);
        assert_eq!(
            (leaves[1].edx, leaves[2].edx),
            (u32::from(id), u32::from(id))
        );
        assert_eq!((leaves[2].eax, leaves[2].ebx), (3, 8));
    }
}

#[test]
fn nested_virtualization_is_hidden_and_the_deadline_timer_shown() {
    let mut cpuid = CpuId::from_entries(&[entry(1, 0), entry(0x8000_0001, 0)]).expect("small");
    tailor(&mut cpuid, 0, 1);
    let leaves = cpuid.as_slice();
    assert_eq!(
        leaves[0].ecx & (ECX_VMX | ECX_TSC_DEADLINE),
        ECX_TSC_DEADLINE
    );
    assert_eq!(leaves[1].ecx & ECX_SVM, 0);
    assert_eq!(leaves[0].edx & EDX_HTT, 0);
}
