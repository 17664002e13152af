use super::*;

#[test]
fn reports_of_every_debugging_option_are_complaints() {
    for line in [
        "BUG: KASAN: slab-out-of-bounds in vtmem_stage_page+0x12/0x80 [virtio_tmem]",
        "BUG: sleeping function called from invalid context at mm/page_alloc.c:5521",
        "BUG: scheduling while atomic: kworker/0:1/23/0x00000002",
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [vtmem-work:88]",
        "BUG: MAX_LOCKDEP_CHAINS too low!",
        "WARNING: CPU: 0 PID: 88 at mm/slub.c:1234 kfree+0x1/0x2",
        "WARNING: possible circular locking dependency detected",
        "WARNING: suspicious RCU usage",
        "WARNING: inconsistent lock state",
        "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
        "INFO: task vtmem-work:88 blocked for more than 120 seconds.",
        "INFO: trying to register non-static key.",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "list_del corruption. prev->next should be ffff, but was 0",
        "Oops: 0000 [#1] PREEMPT SMP KASAN",
        "general protection fault, probably for non-canonical address 0xdead",
        "virtio_tmem virtio3: broken: the device needs a reset",
    ] {
        assert!(is_complaint(line), "{line}");
    }
}

#[test]
fn the_work_s_own_noise_is_none() {
    for line in [
        "Write-error on swap-device (254:16:8)",
        "EXT4-fs error (device vda): ext4_find_extent:936: inode #12: comm vtmem-work: reading",
        "I/O error, dev loop0, sector 8 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2",
        "vtmem-work: page allocation failure: order:0, mode:0x40d00(GFP_NOFS), nodemask=(null)",
        "virtio_tmem virtio3: cleancache on, swap device on",
        "rcu: Preemptible hierarchical RCU implementation.",
        "Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
        "kasan: KernelAddressSanitizer initialized",
    ] {
        assert!(!is_complaint(line), "{line}");
    }
}

#[test]
fn what_follows_a_complaint_is_told_too() {
    let mut context = 0;
    assert_eq!(tell(&mut context, "all is well"), None);
    let first = tell(&mut context, "BUG: x").unwrap_or_default();
    assert_eq!(first, "vtmem-complaint: BUG: x");
    let next = tell(&mut context, "Call Trace:").unwrap_or_default();
    assert_eq!(next, "vtmem-log: Call Trace:");
    context = 0;
    assert_eq!(tell(&mut context, "Call Trace:"), None);
}

#[test]
fn a_record_s_text_is_its_first_line_behind_the_numbers() {
    let record = "4,1001,5140900,-;WARNING: a; b\n SUBSYSTEM=x\n";
    assert_eq!(message(record), "WARNING: a; b");
}
