/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between kernel versions. One pair of files for each range of versions:
 * pagecache-X.c has the hook points with the functions put in their place, kernel-X.c
 * the calls whose form changed. The Kbuild file picks.
 */
#ifndef VTMEM_COMPAT_H
#define VTMEM_COMPAT_H

#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/ftrace.h>

/*
 * One place in the page cache. Either a replacement, which is called instead of
 * the function and calls it through addr; or entry, which is called before it.
 */
struct vtmem_hook {
	const char *name;
	/*
	 * Its arguments as BTF must have them: "*folio" a pointer to that struct, "*" any
	 * other pointer, a number an integer of so many bytes.
	 */
	const char *args;
	void *replacement;
	void (*entry)(struct pt_regs *regs);
	unsigned long addr;
};

extern struct vtmem_hook vtmem_hooks[];
extern const unsigned int vtmem_nr_hooks;

/* Members of private structures that pagecache-X.c reads, checked against BTF. */
struct vtmem_member {
	const char *type;
	const char *name;
	unsigned int offset;
	unsigned int size;
};

extern const struct vtmem_member vtmem_members[];
extern const unsigned int vtmem_nr_members;

bool vtmem_compat_fs_known(struct super_block *sb);

struct block_device *vtmem_compat_bdev_open(const char *path, void *holder);
void vtmem_compat_bdev_close(struct block_device *bdev);
struct gendisk *vtmem_compat_disk_alloc(void);

#endif /* VTMEM_COMPAT_H */
