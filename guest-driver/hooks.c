// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attaching the functions of compat/pagecache-X.c to the page cache, with ftrace, and
 * detaching them.
 *
 * Two ftrace_ops serve all hooks. One may change the instruction pointer: a
 * replacement runs in place of the function, and calls it. That call comes through
 * here again, and is let through, because it comes from this module. The other only
 * looks: entry functions run inside ftrace's trampoline.
 *
 * A hook that is skipped once would let a stale page live. So neither ops asks ftrace
 * for recursion protection, which skips nested calls (no hook calls a hooked
 * function), both are PERMANENT, so that kernel.ftrace_enabled cannot be
 * turned off under them, and kprobes, which can, and which miss nested hits, are
 * not used.
 */
#include <linux/btf.h>
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>

#include "compat/compat.h"
#include "vtmem.h"

/* Tasks inside a replacement. Only the sum means something. */
static DEFINE_PER_CPU(long, vtmem_hook_users);

/* Called by every replacement first and last. May sleep in between. */
void vtmem_hook_enter(void)
{
	this_cpu_inc(vtmem_hook_users);
}

void vtmem_hook_exit(void)
{
	this_cpu_dec(vtmem_hook_users);
}

/* Kernel functions that are not exported. */
static struct {
	unsigned long (*lookup)(const char *name);
	int (*on_each_symbol)(int (*fn)(void *data, const char *name,
					struct module *mod, unsigned long addr),
			      void *data);
	struct btf *(*get_btf)(void);
	s32 (*find_by_name_kind)(const struct btf *btf, const char *name, u8 kind);
	const struct btf_type *(*type_by_id)(const struct btf *btf, u32 id);
	const char *(*name_by_offset)(const struct btf *btf, u32 offset);
} vtmem_kernel;

/* A kprobe can look up what a module may not; it is gone before it could fire. */
static int vtmem_kernel_init(void)
{
	struct kprobe kp = { .symbol_name = "kallsyms_lookup_name" };
	int err = register_kprobe(&kp);

	if (err) {
		pr_err("cannot look up kernel symbols (%d): is CONFIG_KPROBES on?\n",
		       err);
		return err;
	}
	vtmem_kernel.lookup = (void *)kp.addr;
	unregister_kprobe(&kp);

	vtmem_kernel.on_each_symbol =
		(void *)vtmem_kernel.lookup("kallsyms_on_each_symbol");
	vtmem_kernel.get_btf = (void *)vtmem_kernel.lookup("bpf_get_btf_vmlinux");
	vtmem_kernel.find_by_name_kind =
		(void *)vtmem_kernel.lookup("btf_find_by_name_kind");
	vtmem_kernel.type_by_id = (void *)vtmem_kernel.lookup("btf_type_by_id");
	vtmem_kernel.name_by_offset =
		(void *)vtmem_kernel.lookup("btf_name_by_offset");
	if (!vtmem_kernel.on_each_symbol || !vtmem_kernel.get_btf ||
	    !vtmem_kernel.find_by_name_kind || !vtmem_kernel.type_by_id ||
	    !vtmem_kernel.name_by_offset) {
		pr_err("this kernel has no BTF, or hides its symbols\n");
		return -EOPNOTSUPP;
	}
	return 0;
}

/*
 * For each symbol of the kernel. A clone (name.part.0, name.isra.0, ...) holds code
 * of the function that callers reach past its entry.
 */
static int vtmem_hook_symbol(void *data, const char *name, struct module *mod,
			     unsigned long addr)
{
	unsigned int *seen = data;
	unsigned int i;

	for (i = 0; i < vtmem_nr_hooks; i++) {
		struct vtmem_hook *hook = &vtmem_hooks[i];
		size_t len = strlen(hook->name);

		if (strncmp(name, hook->name, len))
			continue;
		if (!name[len]) {
			hook->addr = addr;
			seen[i]++;
		} else if (name[len] == '.' && strcmp(name + len, ".cold")) {
			pr_err("%s has a clone, %s, in this kernel\n",
			       hook->name, name);
			return -EOPNOTSUPP;
		}
	}
	return 0;
}

static int vtmem_hooks_resolve(void)
{
	unsigned int *seen;
	unsigned int i;
	int err;

	seen = kcalloc(vtmem_nr_hooks, sizeof(*seen), GFP_KERNEL);
	if (!seen)
		return -ENOMEM;
	err = vtmem_kernel.on_each_symbol(vtmem_hook_symbol, seen);
	for (i = 0; i < vtmem_nr_hooks && !err; i++) {
		if (seen[i] == 1)
			continue;
		pr_err("%s is %s in this kernel\n", vtmem_hooks[i].name,
		       seen[i] ? "ambiguous" : "missing or inlined");
		err = -EOPNOTSUPP;
	}
	kfree(seen);
	return err;
}

static const struct btf_type *vtmem_btf_resolve(const struct btf *btf, u32 id)
{
	const struct btf_type *t = vtmem_kernel.type_by_id(btf, id);

	while (t) {
		switch (BTF_INFO_KIND(t->info)) {
		case BTF_KIND_TYPEDEF:
		case BTF_KIND_CONST:
		case BTF_KIND_VOLATILE:
		case BTF_KIND_RESTRICT:
			t = vtmem_kernel.type_by_id(btf, t->type);
			continue;
		}
		break;
	}
	return t;
}

/* One argument in the notation of vtmem_hook.args; returns what it wrote. */
static int vtmem_btf_print(const struct btf *btf, u32 id, char *buf, size_t size)
{
	const struct btf_type *t = vtmem_btf_resolve(btf, id);

	if (!t)
		return scnprintf(buf, size, "void");
	switch (BTF_INFO_KIND(t->info)) {
	case BTF_KIND_PTR:
		t = vtmem_btf_resolve(btf, t->type);
		if (t && BTF_INFO_KIND(t->info) == BTF_KIND_STRUCT)
			return scnprintf(buf, size, "*%s",
				vtmem_kernel.name_by_offset(btf, t->name_off));
		return scnprintf(buf, size, "*");
	case BTF_KIND_INT:
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return scnprintf(buf, size, "%u", t->size);
	}
	return scnprintf(buf, size, "?");
}

static int vtmem_hook_check(const struct btf *btf, const struct vtmem_hook *hook)
{
	const struct btf_type *t, *proto;
	const struct btf_param *params;
	char args[128];
	size_t len = 0;
	unsigned int i;
	s32 id;

	args[0] = '\0';
	id = vtmem_kernel.find_by_name_kind(btf, hook->name, BTF_KIND_FUNC);
	if (id < 0) {
		pr_err("%s: BTF does not know it\n", hook->name);
		return -EOPNOTSUPP;
	}
	t = vtmem_kernel.type_by_id(btf, id);
	proto = vtmem_kernel.type_by_id(btf, t->type);
	params = (const struct btf_param *)(proto + 1);
	for (i = 0; i < BTF_INFO_VLEN(proto->info); i++) {
		if (i)
			len += scnprintf(args + len, sizeof(args) - len, " ");
		len += vtmem_btf_print(btf, params[i].type, args + len,
				       sizeof(args) - len);
	}
	if (strcmp(args, hook->args)) {
		pr_err("%s has the arguments (%s) in this kernel, not (%s)\n",
		       hook->name, args, hook->args);
		return -EOPNOTSUPP;
	}
	return 0;
}

static int vtmem_member_check(const struct btf *btf,
			      const struct vtmem_member *want)
{
	const struct btf_type *t, *type;
	const struct btf_member *member;
	unsigned int i, offset;
	s32 id;

	id = vtmem_kernel.find_by_name_kind(btf, want->type, BTF_KIND_STRUCT);
	if (id < 0)
		goto differs;
	t = vtmem_kernel.type_by_id(btf, id);
	member = (const struct btf_member *)(t + 1);
	for (i = 0; i < BTF_INFO_VLEN(t->info); i++, member++) {
		if (strcmp(vtmem_kernel.name_by_offset(btf, member->name_off),
			   want->name))
			continue;
		offset = BTF_INFO_KFLAG(t->info) ?
				 BTF_MEMBER_BIT_OFFSET(member->offset) :
				 member->offset;
		type = vtmem_btf_resolve(btf, member->type);
		if (offset == want->offset * 8 && type &&
		    (BTF_INFO_KIND(type->info) == BTF_KIND_PTR ?
			     sizeof(void *) : type->size) == want->size)
			return 0;
		break;
	}
differs:
	pr_err("struct %s has no %s at offset %u in this kernel\n", want->type,
	       want->name, want->offset);
	return -EOPNOTSUPP;
}

static int vtmem_btf_check(void)
{
	const struct btf *btf = vtmem_kernel.get_btf();
	unsigned int i;
	int err;

	if (IS_ERR_OR_NULL(btf)) {
		pr_err("the kernel's BTF cannot be read\n");
		return -EOPNOTSUPP;
	}
	for (i = 0; i < vtmem_nr_hooks; i++) {
		err = vtmem_hook_check(btf, &vtmem_hooks[i]);
		if (err)
			return err;
	}
	for (i = 0; i < vtmem_nr_members; i++) {
		err = vtmem_member_check(btf, &vtmem_members[i]);
		if (err)
			return err;
	}
	return 0;
}

/* ip is that of the call to ftrace, at the function's start or after an endbr. */
static const struct vtmem_hook *vtmem_hook_find(unsigned long ip)
{
	unsigned int i;

	for (i = 0; i < vtmem_nr_hooks; i++)
		if (ip - vtmem_hooks[i].addr <= FTRACE_MCOUNT_MAX_OFFSET)
			return &vtmem_hooks[i];
	return NULL;
}

static void notrace vtmem_redirect(unsigned long ip, unsigned long parent_ip,
				   struct ftrace_ops *ops,
				   struct ftrace_regs *fregs)
{
	const struct vtmem_hook *hook = vtmem_hook_find(ip);

	if (hook && !within_module(parent_ip, THIS_MODULE))
		ftrace_instruction_pointer_set(fregs, (unsigned long)hook->replacement);
}

static void notrace vtmem_entry(unsigned long ip, unsigned long parent_ip,
				struct ftrace_ops *ops,
				struct ftrace_regs *fregs)
{
	const struct vtmem_hook *hook = vtmem_hook_find(ip);

	if (hook)
		hook->entry(&fregs->regs);
}

#ifdef CONFIG_HAVE_DYNAMIC_FTRACE_WITH_ARGS
#define VTMEM_OPS_FLAGS	FTRACE_OPS_FL_PERMANENT
#else
#define VTMEM_OPS_FLAGS	(FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_SAVE_REGS)
#endif

static struct ftrace_ops vtmem_redirect_ops = {
	.func = vtmem_redirect,
	.flags = VTMEM_OPS_FLAGS | FTRACE_OPS_FL_IPMODIFY,
};

static struct ftrace_ops vtmem_entry_ops = {
	.func = vtmem_entry,
	.flags = VTMEM_OPS_FLAGS,
};

static int vtmem_hooks_filter(void)
{
	unsigned int i;
	int err;

	for (i = 0; i < vtmem_nr_hooks; i++) {
		err = ftrace_set_filter_ip(vtmem_hooks[i].replacement ?
						   &vtmem_redirect_ops :
						   &vtmem_entry_ops,
					   vtmem_hooks[i].addr, 0, 0);
		if (err) {
			pr_err("%s cannot be traced (%d)\n",
			       vtmem_hooks[i].name, err);
			return err;
		}
	}
	return 0;
}

static void vtmem_hooks_unfilter(void)
{
	ftrace_free_filter(&vtmem_redirect_ops);
	ftrace_free_filter(&vtmem_entry_ops);
}

static long vtmem_hook_users_sum(void)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(vtmem_hook_users, cpu));
	return sum;
}

/*
 * Wait until no task is in a replacement. ftrace sends none there any more; one that was
 * sent but has not counted itself has not slept since, and RCU-tasks waits for it. So
 * does it for one that has counted itself out but not returned yet.
 */
static void vtmem_hooks_wait(void)
{
	synchronize_rcu_tasks();
	while (vtmem_hook_users_sum())
		msleep(20);
	synchronize_rcu_tasks();
}

/* All or nothing. */
int vtmem_hooks_attach(void)
{
	int err;

	err = vtmem_kernel_init();
	if (!err)
		err = vtmem_hooks_resolve();
	if (!err)
		err = vtmem_btf_check();
	if (!err)
		err = vtmem_hooks_filter();
	if (err)
		goto unfilter;

	err = register_ftrace_function(&vtmem_entry_ops);
	if (err) {
		pr_err("cannot attach (%d)\n", err);
		goto unfilter;
	}
	err = register_ftrace_function(&vtmem_redirect_ops);
	if (err) {
		pr_err("cannot attach (%d)%s\n", err,
		       err == -EBUSY ?
			       ": one of the functions is live-patched" : "");
		unregister_ftrace_function(&vtmem_entry_ops);
		goto unfilter;
	}
	return 0;

unfilter:
	vtmem_hooks_unfilter();
	return err;
}

/* Nothing is held any more. After this no CPU is in a hook. */
void vtmem_hooks_detach(void)
{
	unregister_ftrace_function(&vtmem_redirect_ops);
	unregister_ftrace_function(&vtmem_entry_ops);
	vtmem_hooks_wait();
	vtmem_hooks_unfilter();
}
