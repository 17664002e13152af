// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps KVM clear of a flaw of QEMU's emulated SVM. Loaded in the lab only, after kvm_amd.
 *
 * When VMRUN injects an external interrupt, QEMU delivers it but leaves its number behind as the number of an exception to be
 * raised. A later exit from the guest clears that. If QEMU's execution loop is left before, which under -icount every virtual
 * timer does, the interrupt is delivered a second time wherever the guest then is: with interrupts disabled, too, and there
 * Linux deadlocks on the lock that it holds.
 *
 * The cure: after each injection an interrupt to this CPU itself is already waiting when the guest is entered. The guest is left
 * before its first instruction, and with that nothing stays behind. KVM has the same means for needs of its own (an "immediate
 * exit"). It costs one more exit for each interrupt that is injected.
 */
#include <linux/hash.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/smp.h>

#define SLOT_BITS 8

/* By vCPU. Two that share a slot could only confuse each other if they were preempted between injection and entry. */
static bool injected[1 << SLOT_BITS];

static bool *slot(struct pt_regs *regs)
{
	/* Both functions' first argument is the vCPU. */
	return &injected[hash_long(regs->di, SLOT_BITS)];
}

static int on_injection(struct kprobe *probe, struct pt_regs *regs)
{
	WRITE_ONCE(*slot(regs), true);
	return 0;
}

/* Runs with interrupts disabled: the interrupt stays pending until the guest is entered. */
static int on_entry(struct kprobe *probe, struct pt_regs *regs)
{
	bool *flag = slot(regs);

	if (READ_ONCE(*flag)) {
		WRITE_ONCE(*flag, false);
		smp_send_reschedule(smp_processor_id());
	}
	return 0;
}

static struct kprobe injection = {
	.symbol_name = "svm_inject_irq",
	.pre_handler = on_injection,
};

static struct kprobe entry = {
	.symbol_name = "svm_vcpu_run",
	.pre_handler = on_entry,
};

static struct kprobe *probes[] = { &entry, &injection };

static int __init vtmem_lab_init(void)
{
	return register_kprobes(probes, ARRAY_SIZE(probes));
}
module_init(vtmem_lab_init);

static void __exit vtmem_lab_exit(void)
{
	unregister_kprobes(probes, ARRAY_SIZE(probes));
}
module_exit(vtmem_lab_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Works around interrupts that QEMU's emulated SVM delivers twice");
