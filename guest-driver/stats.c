// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counters, in debugfs under virtio_tmem/: one file each, like zswap's.
 */
#include <linux/debugfs.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>

#include "vtmem.h"

DEFINE_PER_CPU(struct vtmem_stats, vtmem_stats);

static const char * const vtmem_stat_names[VTMEM_NR_STATS] = {
	[VTMEM_PUTS] = "puts",
	[VTMEM_PUTS_REFUSED] = "puts_refused",
	[VTMEM_PUTS_SKIPPED] = "puts_skipped",
	[VTMEM_PUTS_UNWORTHY] = "puts_unworthy",
	[VTMEM_GETS] = "gets",
	[VTMEM_HITS] = "hits",
	[VTMEM_MISSES] = "misses",
	[VTMEM_MISSES_LOCAL] = "misses_local",
	[VTMEM_GETS_AHEAD] = "gets_ahead",
	[VTMEM_FLUSH_PAGES] = "flush_pages",
	[VTMEM_FLUSH_RANGES] = "flush_ranges",
	[VTMEM_FLUSH_OBJECTS] = "flush_objects",
	[VTMEM_FLUSHES_MERGED] = "flushes_merged",
	[VTMEM_FLUSHES_LOCAL] = "flushes_local",
	[VTMEM_PRESENCE_FULL] = "presence_full",
	[VTMEM_EVICTIONS] = "evictions",
	[VTMEM_CHAINS_PUT] = "chains_put",
	[VTMEM_CHAINS_GET] = "chains_get",
	[VTMEM_DOORBELLS_PUT] = "doorbells_put",
	[VTMEM_DOORBELLS_GET] = "doorbells_get",
	[VTMEM_DRAINS] = "drains",
	[VTMEM_SWAP_STORES] = "swap_stores",
	[VTMEM_SWAP_STORES_LOWER] = "swap_stores_lower",
	[VTMEM_SWAP_LOADS] = "swap_loads",
	[VTMEM_SWAP_LOADS_LOWER] = "swap_loads_lower",
	[VTMEM_SWAP_LOADS_AHEAD] = "swap_loads_ahead",
	[VTMEM_SWAP_DEFERRED] = "swap_deferred",
	[VTMEM_SWAP_RESCUES] = "swap_rescues",
	[VTMEM_SWAP_LOST] = "swap_lost",
	[VTMEM_SWAP_HOMED] = "swap_homed",
};

static struct dentry *vtmem_debugfs;

static int vtmem_stat_get(void *data, u64 *value)
{
	const char * const *name = data;
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(vtmem_stats, cpu).count[name - vtmem_stat_names];
	*value = sum;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(vtmem_stat_fops, vtmem_stat_get, NULL, "%llu\n");

static int vtmem_credit_get(void *data, u64 *value)
{
	struct vtmem *vt = data;

	*value = atomic64_read(&vt->credit);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(vtmem_credit_fops, vtmem_credit_get, NULL, "%llu\n");

static int vtmem_staged_get(void *data, u64 *value)
{
	*value = vtmem_staged_pages(data);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(vtmem_staged_fops, vtmem_staged_get, NULL, "%llu\n");

static int vtmem_memory_get(void *data, u64 *value)
{
	*value = vtmem_memory_bytes(data);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(vtmem_memory_fops, vtmem_memory_get, NULL, "%llu\n");

static int vtmem_broken_get(void *data, u64 *value)
{
	*value = vtmem_broken(data);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(vtmem_broken_fops, vtmem_broken_get, NULL, "%llu\n");

static int vtmem_admission_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%s\n", vtmem_admission_name());
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vtmem_admission);

/* A kernel without debugfs does without. */
void vtmem_stats_init(struct vtmem *vt)
{
	unsigned int i;

	vtmem_debugfs = debugfs_create_dir("virtio_tmem", NULL);
	for (i = 0; i < VTMEM_NR_STATS; i++)
		debugfs_create_file(vtmem_stat_names[i], 0444, vtmem_debugfs,
				    (void *)&vtmem_stat_names[i],
				    &vtmem_stat_fops);
	debugfs_create_file("credit", 0444, vtmem_debugfs, vt,
			    &vtmem_credit_fops);
	debugfs_create_file("staged_pages", 0444, vtmem_debugfs, vt,
			    &vtmem_staged_fops);
	debugfs_create_file("memory_bytes", 0444, vtmem_debugfs, vt,
			    &vtmem_memory_fops);
	debugfs_create_file("broken", 0444, vtmem_debugfs, vt,
			    &vtmem_broken_fops);
	debugfs_create_file("admission", 0444, vtmem_debugfs, NULL,
			    &vtmem_admission_fops);
	vtmem_mounts_debugfs(vtmem_debugfs);
}

void vtmem_stats_exit(void)
{
	debugfs_remove_recursive(vtmem_debugfs);
}
