// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page cache of Linux 6.1: where clean pages leave it, where it reads, and every
 * way in which what the disk would return can change.
 *
 * None of these functions is inlined or cloned in the kernels this is for; hooks.c
 * refuses a kernel where one is missing, doubled, cloned or has other arguments.
 *
 * A page that is in the page cache is never got, so the host's copy of it may be
 * old while it is there. What matters are the ways out of the page cache, and changes
 * to the disk that do not go through it:
 *
 *   __filemap_remove_folio        reclaim: put. Single-page truncation, invalidation
 *                                 (drop_caches, POSIX_FADV_DONTNEED), splitting: flush
 *   delete_from_page_cache_batch  truncation, many pages at a time
 *   truncate_inode_pages_range    truncate, hole punch, collapse, insert and zero range:
 *                                 also what is held without being cached
 *   invalidate_inode_pages2_range the same before a direct write, with i_rwsem held
 *                                 and before its first bio
 *   iomap_dio_complete            a direct write, after its last bio
 *   evict                         a deleted inode
 *   generic_shutdown_super        unmount
 *   invalidate_bdev               BLKFLSBUF, remount, a changed medium
 *   blkdev_write_iter             somebody writes to the disk below a file system
 *   truncate_bdev_range           ... discards or zeroes a part of it
 *   blkdev_ioctl                  ... or sends it a command of its own kind
 *   ext4_move_extents             defragmentation swaps blocks of two files
 *   __filemap_set_wb_err          writeback failed: the disk lacks what is cached
 *   iomap_swapfile_activate       from now on swap writes to the file's blocks
 *   bmap                          somebody asks where they are: md writes a bitmap there
 *
 * No hook where one folio takes the place of another (migration, compaction,
 * khugepaged): the key stays cached all the time. docs/coherence.md has every way.
 *
 * Direct writes, in order: invalidate_inode_pages2_range() has flushed the range; a page
 * read and reclaimed before inode_dio_begin() may be put after that; from then until
 * inode_dio_end() i_dio_count stops puts; iomap_dio_complete() waits for those that
 * looked too early, and flushes before inode_dio_end(); cached pages are invalidated
 * there too.
 */
#include <linux/fs.h>
#include <linux/ftrace.h>
#include <linux/iomap.h>
#include <linux/pagemap.h>
#include <linux/pagevec.h>
#include <linux/uaccess.h>

#include <scsi/sg.h>

#include "../vtmem.h"
#include "compat.h"

enum {
	VTMEM_HOOK_READ_PAGES,
	VTMEM_HOOK_READ_FOLIO,
	VTMEM_HOOK_TRUNCATE,
	VTMEM_HOOK_INVALIDATE,
	VTMEM_HOOK_SHUTDOWN_SUPER,
	VTMEM_HOOK_MOVE_EXTENTS,
	VTMEM_HOOK_BDEV_IOCTL,
};

#define VTMEM_ORIGINAL(hook, type) ((type)vtmem_hooks[hook].addr)

/*
 * fs/iomap/direct-io.c keeps this to itself. vtmem_members has what is used of it.
 */
struct vtmem_iomap_dio {
	struct kiocb *iocb;
	const struct iomap_dio_ops *dops;
	loff_t i_size;
	loff_t size;
	atomic_t ref;
	unsigned int flags;
	int error;
};

#define VTMEM_IOMAP_DIO_WRITE	BIT(30)

const struct vtmem_member vtmem_members[] = {
	{ "iomap_dio", "iocb", offsetof(struct vtmem_iomap_dio, iocb), 8 },
	{ "iomap_dio", "size", offsetof(struct vtmem_iomap_dio, size), 8 },
	{ "iomap_dio", "flags", offsetof(struct vtmem_iomap_dio, flags), 4 },
	{ "iomap_dio", "error", offsetof(struct vtmem_iomap_dio, error), 4 },
};

const unsigned int vtmem_nr_members = ARRAY_SIZE(vtmem_members);

/*
 * The file systems whose ways to change data all pass through the hooks below. A type's
 * name is not enough: there is a driver of ext2 that is not ext4's.
 */
bool vtmem_compat_fs_known(struct super_block *sb)
{
	const char *name = sb->s_type->name;
	char symbol[KSYM_SYMBOL_LEN];

	snprintf(symbol, sizeof(symbol), "%ps", sb->s_op->alloc_inode);
	if (!strcmp(name, "xfs"))
		return !strncmp(symbol, "xfs_", strlen("xfs_"));
	if (!strcmp(name, "ext4") || !strcmp(name, "ext3") || !strcmp(name, "ext2"))
		return !strncmp(symbol, "ext4_", strlen("ext4_"));
	return false;
}

/*
 * Reading
 */

/* The rest of what mm/readahead.c does with a folio: it is read. */
static void vtmem_folio_read(struct address_space *mapping, pgoff_t index,
			     bool put)
{
	struct folio *folio = xa_load(&mapping->i_pages, index);

	folio_mark_uptodate(folio);
	folio_unlock(folio);
	if (put)
		folio_put(folio);
}

/*
 * Add folios for up to nr pages from index on, locked, as readahead does; but nobody
 * waits for memory to be freed for them. Returns how many, without a gap.
 */
static unsigned int vtmem_add_folios(struct address_space *mapping, pgoff_t index,
				     unsigned int nr)
{
	gfp_t gfp = readahead_gfp_mask(mapping) & ~__GFP_DIRECT_RECLAIM;
	struct folio *folio;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		folio = filemap_alloc_folio(gfp, 0);
		if (!folio)
			break;
		if (filemap_add_folio(mapping, folio, index + i, gfp)) {
			folio_put(folio);
			break;
		}
	}
	return i;
}

/*
 * One locked folio is read alone: get it, and with it those that are likely to be read
 * next. invalidate_lock keeps the pages from being added while their blocks are freed;
 * most callers hold it anyway. True: the folio was got.
 */
static bool vtmem_get_alone(struct address_space *mapping, pgoff_t index)
{
	struct inode *inode = mapping->host;
	DECLARE_BITMAP(held, VTMEM_AHEAD + 1);
	unsigned int nr = vtmem_cc_ahead(inode, index), i;
	bool locked = false;

	if (nr) {
		locked = filemap_invalidate_trylock_shared(mapping);
		nr = locked ? vtmem_add_folios(mapping, index + 1, nr) : 0;
		vtmem_cc_ahead_fetched(inode, index, nr);
	}
	bitmap_zero(held, VTMEM_AHEAD + 1);
	vtmem_cc_get(mapping, index, 1 + nr, held);
	for (i = 1; i <= nr; i++) {
		struct folio *folio = xa_load(&mapping->i_pages, index + i);

		/* One that did not come is read when it is asked for. */
		if (test_bit(i, held))
			folio_mark_uptodate(folio);
		folio_unlock(folio);
		folio_put(folio);
	}
	if (locked)
		filemap_invalidate_unlock_shared(mapping);
	return test_bit(0, held);
}

/* Hand a part of the window to the file system. */
static void vtmem_read_rest(struct readahead_control *rac, unsigned int from,
			    unsigned int to)
{
	struct readahead_control part = *rac;

	part._index += from;
	part._nr_pages = to - from;
	VTMEM_ORIGINAL(VTMEM_HOOK_READ_PAGES,
		       void (*)(struct readahead_control *))(&part);
	rac->_workingset = false;
}

/*
 * In place of read_pages(), for one readahead window. Process context; its folios are
 * locked and in the page cache, each with a reference for the reader to drop;
 * invalidate_lock is held shared. The host's pages are fetched in as few exits as
 * possible, then the gaps go to the file system, under one plug so that its bios
 * still merge.
 */
static void vtmem_read_pages(struct readahead_control *rac)
{
	DECLARE_BITMAP(held, VTMEM_WINDOW);
	struct address_space *mapping = rac->mapping;
	unsigned int nr, i, end;
	struct blk_plug plug;
	bool wants;

	vtmem_hook_enter();
	nr = readahead_count(rac);
	bitmap_zero(held, VTMEM_WINDOW);
	wants = nr && nr <= VTMEM_WINDOW && vtmem_cc_wants(mapping->host);
	if (nr)
		vtmem_cc_note(mapping, readahead_index(rac), nr);
	if (wants && nr > 1)
		vtmem_cc_get(mapping, readahead_index(rac), nr, held);
	else if (wants && vtmem_get_alone(mapping, readahead_index(rac)))
		__set_bit(0, held);

	if (bitmap_empty(held, VTMEM_WINDOW)) {
		VTMEM_ORIGINAL(VTMEM_HOOK_READ_PAGES,
			       void (*)(struct readahead_control *))(rac);
		vtmem_hook_exit();
		return;
	}

	blk_start_plug(&plug);
	for (i = 0; i < nr; i = end) {
		if (test_bit(i, held)) {
			end = i + 1;
			vtmem_folio_read(mapping, rac->_index + i, true);
		} else {
			end = find_next_bit(held, nr, i);
			vtmem_read_rest(rac, i, end);
		}
	}
	blk_finish_plug(&plug);

	/* As read_pages() leaves it: the window is consumed. */
	rac->_index += nr;
	rac->_nr_pages = 0;
	rac->_batch_count = 0;
	rac->_workingset = false;
	vtmem_hook_exit();
}

/* In place of filemap_read_folio(): one folio, locked; read errors are the file's. */
static int vtmem_filemap_read_folio(struct file *file, filler_t filler,
				    struct folio *folio)
{
	struct address_space *mapping = folio->mapping;
	bool held = false;
	int ret = 0;

	vtmem_hook_enter();
	/* Other fillers do not read what ->read_folio() would. */
	if (mapping && filler == mapping->a_ops->read_folio &&
	    vtmem_cc_wants(mapping->host)) {
		vtmem_cc_note(mapping, folio->index, 1);
		held = vtmem_get_alone(mapping, folio->index);
	}

	if (held) {
		folio_clear_error(folio);
		vtmem_folio_read(mapping, folio->index, false);
	} else {
		ret = VTMEM_ORIGINAL(VTMEM_HOOK_READ_FOLIO,
				     int (*)(struct file *, filler_t,
					     struct folio *))(file, filler,
							      folio);
	}
	vtmem_hook_exit();
	return ret;
}

/*
 * Removing and changing
 */

/*
 * Before __filemap_remove_folio(): i_pages lock held, interrupts off, folio locked. On
 * the way of reclaim, i_lock is held too and the folio's refcount frozen.
 */
static void vtmem_remove_folio(struct pt_regs *regs)
{
	vtmem_cc_remove((struct folio *)regs_get_kernel_argument(regs, 0),
			(void *)regs_get_kernel_argument(regs, 1));
}

/*
 * Before delete_from_page_cache_batch(): folios locked. Its only caller,
 * truncate_inode_pages_range(), is followed by a flush of the whole range, but for
 * inodes that are evicted from memory and live on.
 */
static void vtmem_delete_batch(struct pt_regs *regs)
{
	struct address_space *mapping =
		(struct address_space *)regs_get_kernel_argument(regs, 0);
	struct folio_batch *fbatch =
		(struct folio_batch *)regs_get_kernel_argument(regs, 1);
	unsigned int i;

	if (!(READ_ONCE(mapping->host->i_state) & I_FREEING) ||
	    vtmem_left_out("batch"))
		return;
	for (i = 0; i < folio_batch_count(fbatch); i++)
		vtmem_cc_flush_pages(mapping->host, fbatch->folios[i]->index,
				     folio_nr_pages(fbatch->folios[i]));
}

/*
 * In place of truncate_inode_pages_range(). Process context, usually under
 * invalidate_lock. The flush comes last: until the page cache is empty there,
 * reclaim may still put a page, and the caller frees the blocks only after this. Of
 * pages partly in the range the file system makes new ones, so they go as well.
 */
static void vtmem_truncate(struct address_space *mapping, loff_t start,
			   loff_t end)
{
	struct inode *inode = mapping->host;
	pgoff_t first = start >> PAGE_SHIFT;

	vtmem_hook_enter();
	VTMEM_ORIGINAL(VTMEM_HOOK_TRUNCATE,
		       void (*)(struct address_space *, loff_t,
				loff_t))(mapping, start, end);
	if (inode && !(READ_ONCE(inode->i_state) & I_FREEING) &&
	    !vtmem_left_out("truncate")) {
		if (end == -1)
			vtmem_cc_flush_pages(inode, first, U64_MAX);
		else if (end >= start)
			vtmem_cc_flush_pages(inode, first,
					     (end >> PAGE_SHIFT) - first + 1);
	}
	vtmem_hook_exit();
}

/*
 * In place of invalidate_inode_pages2_range(); end is inclusive. Process context. A
 * direct write follows or is done, or a client of pNFS wrote to the file's blocks.
 *
 * A page that could not be removed may stay. Before a direct write that has it go
 * through the page cache. Afterwards nothing needs to be done: such a page is dirty,
 * since a clean one is removed, unless ext4 cannot let go of it, and then reclaim cannot
 * either. All of it is written after the direct write, and only then it is clean, and
 * what the disk has; or it is truncated, or its writeback fails, which have their hooks.
 * The kernel counts it as a failed write besides (dio_warn_stale_pagecache()), after
 * which no page of the inode is put.
 */
static int vtmem_invalidate(struct address_space *mapping, pgoff_t start,
			    pgoff_t end)
{
	struct inode *inode = mapping->host;
	int ret;

	vtmem_hook_enter();
	ret = VTMEM_ORIGINAL(VTMEM_HOOK_INVALIDATE,
			     int (*)(struct address_space *, pgoff_t,
				     pgoff_t))(mapping, start, end);
	if (!vtmem_left_out("invalidate") && !vtmem_left_out("direct"))
		vtmem_cc_flush_pages(inode, start,
				     end - start == ULONG_MAX ?
					     U64_MAX :
					     (u64)end - start + 1);
	vtmem_hook_exit();
	return ret;
}

/*
 * Before iomap_dio_complete(). For a write: process context, i_dio_count held, all its
 * bios done. After an error an unknown part of what was submitted was written, and
 * pages in the page cache stay as they are; often nothing was, for a request that is not
 * aligned, or would have to wait and must not. A put that did not see i_dio_count holds
 * the i_pages lock until it is staged, before this flush.
 */
static void vtmem_dio_complete(struct pt_regs *regs)
{
	struct vtmem_iomap_dio *dio =
		(struct vtmem_iomap_dio *)regs_get_kernel_argument(regs, 0);
	struct inode *inode;
	pgoff_t first;

	if (!(dio->flags & VTMEM_IOMAP_DIO_WRITE))
		return;
	inode = dio->iocb->ki_filp->f_mapping->host;
	if (dio->error) {
		if (dio->size && !vtmem_left_out("direct-error"))
			vtmem_cc_give_up(inode);
	} else if (dio->size && !vtmem_left_out("direct")) {
		vtmem_cc_wait_for_puts(inode);
		first = dio->iocb->ki_pos >> PAGE_SHIFT;
		vtmem_cc_flush_pages(inode, first,
				     ((dio->iocb->ki_pos + dio->size - 1) >>
				      PAGE_SHIFT) - first + 1);
	}
}

/*
 * Before evict(). Process context, reclaim among them; I_FREEING is set, so nothing is
 * put any more and nobody reads. Before: afterwards the inode number may belong to
 * another file.
 */
static void vtmem_evict(struct pt_regs *regs)
{
	struct inode *inode = (struct inode *)regs_get_kernel_argument(regs, 0);

	if ((!inode->i_nlink || is_bad_inode(inode)) && !vtmem_left_out("evict"))
		vtmem_cc_flush_inode(inode);
	/* A file is DAX, or not, for as long as its inode is in memory. */
	if (IS_DAX(inode) && !vtmem_left_out("dax"))
		vtmem_cc_flush_inode(inode);
}

/*
 * In place of generic_shutdown_super(): s_umount is held for writing, and no file of the
 * file system is open.
 */
static void vtmem_shutdown_super(struct super_block *sb)
{
	vtmem_hook_enter();
	if (!vtmem_left_out("unmount"))
		vtmem_mount_shutdown(sb);
	VTMEM_ORIGINAL(VTMEM_HOOK_SHUTDOWN_SUPER,
		       void (*)(struct super_block *))(sb);
	if (!vtmem_left_out("unmount"))
		vtmem_mount_forget(sb);
	vtmem_hook_exit();
}

/* Before invalidate_bdev(). Process context. */
static void vtmem_invalidate_bdev(struct pt_regs *regs)
{
	if (!vtmem_left_out("bdev"))
		vtmem_mount_retire_bdev((struct block_device *)
					regs_get_kernel_argument(regs, 0),
					true);
}

/*
 * Before blkdev_write_iter(). Process context. A repair of a file system that is mounted
 * read-only, say: its cached pages may then be older than the disk, and stay.
 */
static void vtmem_bdev_write(struct pt_regs *regs)
{
	struct kiocb *iocb = (struct kiocb *)regs_get_kernel_argument(regs, 0);

	if (!vtmem_left_out("bdev-write"))
		vtmem_mount_retire_bdev(I_BDEV(iocb->ki_filp->f_mapping->host),
					false);
}

/*
 * Before truncate_bdev_range(): BLKDISCARD, BLKZEROOUT, BLKSECDISCARD, fallocate(2), before
 * they do so. A mounted file system does not keep them from it; its own discards do
 * not come this way. Process context.
 */
static void vtmem_bdev_discard(struct pt_regs *regs)
{
	if (!vtmem_left_out("bdev-discard"))
		vtmem_mount_retire_bdev((struct block_device *)
					regs_get_kernel_argument(regs, 0),
					false);
}

/*
 * Does this ioctl send something to the disk that the block layer knows nothing of? What
 * only reads, as who watches over disks does all the time, harms nobody.
 */
static bool vtmem_ioctl_sends(unsigned int cmd, unsigned long arg)
{
	struct sg_io_hdr hdr;

	if (cmd != SG_IO)
		return false;
	if (copy_from_user(&hdr, (void __user *)arg, sizeof(hdr)))
		return false;
	return hdr.dxfer_direction != SG_DXFER_NONE &&
	       hdr.dxfer_direction != SG_DXFER_FROM_DEV;
}

/* In place of blkdev_ioctl(), for it may sleep. Process context. */
static long vtmem_bdev_ioctl(struct file *file, unsigned int cmd,
			     unsigned long arg)
{
	struct block_device *bdev = I_BDEV(file->f_mapping->host);
	bool sends;
	long ret;

	vtmem_hook_enter();
	sends = vtmem_ioctl_sends(cmd, arg) && !vtmem_left_out("bdev-ioctl");
	if (sends)
		vtmem_mount_retire_bdev(bdev, false);
	ret = VTMEM_ORIGINAL(VTMEM_HOOK_BDEV_IOCTL,
			     long (*)(struct file *, unsigned int,
				      unsigned long))(file, cmd, arg);
	vtmem_hook_exit();
	return ret;
}

/*
 * In place of ext4_move_extents(). Process context; i_rwsem of both inodes held, but
 * reads go on. Cached pages of the donor are not invalidated. What the host has of it is
 * given up before, for a read that comes meanwhile would get it after the blocks were
 * exchanged.
 */
static int vtmem_move_extents(struct file *orig, struct file *donor,
			      u64 orig_blk, u64 donor_blk, u64 len, u64 *moved)
{
	int ret;

	vtmem_hook_enter();
	if (!vtmem_left_out("move-extents"))
		vtmem_cc_give_up(file_inode(donor));
	ret = VTMEM_ORIGINAL(VTMEM_HOOK_MOVE_EXTENTS,
			     int (*)(struct file *, struct file *, u64, u64, u64,
				     u64 *))(orig, donor, orig_blk, donor_blk,
					     len, moved);
	if (!vtmem_left_out("move-extents")) {
		vtmem_cc_flush_inode(file_inode(orig));
		vtmem_cc_give_up(file_inode(donor));
	}
	vtmem_hook_exit();
	return ret;
}

/*
 * Before __filemap_set_wb_err(). Any context, bios' ends among them. PG_error is no
 * mark to go by: whoever waits for writeback clears it, and the page stays, clean and
 * newer than the disk. For most pages this comes before their writeback ends; iomap
 * unlocks one that it could not map before, so flush as well.
 */
static void vtmem_writeback_failed(struct pt_regs *regs)
{
	struct address_space *mapping =
		(struct address_space *)regs_get_kernel_argument(regs, 0);

	if (mapping->host && !vtmem_left_out("writeback-failed"))
		vtmem_cc_give_up(mapping->host);
}

/* Before iomap_swapfile_activate(). Process context, i_rwsem held. */
static void vtmem_swapfile(struct pt_regs *regs)
{
	struct file *file = (struct file *)regs_get_kernel_argument(regs, 1);

	if (!vtmem_left_out("swapfile"))
		vtmem_cc_give_up(file_inode(file));
}

/*
 * Before bmap(). Process context. Who asks may write to those blocks, as md does with a
 * bitmap in a file. A journal is asked for each block, and is not to be read: it has no
 * name.
 */
static void vtmem_bmap(struct pt_regs *regs)
{
	struct inode *inode = (struct inode *)regs_get_kernel_argument(regs, 0);

	if (!hlist_empty(&inode->i_dentry) && !vtmem_left_out("bmap"))
		vtmem_cc_give_up(inode);
}

struct vtmem_hook vtmem_hooks[] = {
	[VTMEM_HOOK_READ_PAGES] = {
		.name = "read_pages", .args = "*readahead_control",
		.replacement = vtmem_read_pages,
	},
	[VTMEM_HOOK_READ_FOLIO] = {
		.name = "filemap_read_folio", .args = "*file * *folio",
		.replacement = vtmem_filemap_read_folio,
	},
	[VTMEM_HOOK_TRUNCATE] = {
		.name = "truncate_inode_pages_range",
		.args = "*address_space 8 8",
		.replacement = vtmem_truncate,
	},
	[VTMEM_HOOK_INVALIDATE] = {
		.name = "invalidate_inode_pages2_range",
		.args = "*address_space 8 8",
		.replacement = vtmem_invalidate,
	},
	[VTMEM_HOOK_SHUTDOWN_SUPER] = {
		.name = "generic_shutdown_super", .args = "*super_block",
		.replacement = vtmem_shutdown_super,
	},
	[VTMEM_HOOK_MOVE_EXTENTS] = {
		.name = "ext4_move_extents", .args = "*file *file 8 8 8 *",
		.replacement = vtmem_move_extents,
	},
	[VTMEM_HOOK_BDEV_IOCTL] = {
		.name = "blkdev_ioctl", .args = "*file 4 8",
		.replacement = vtmem_bdev_ioctl,
	},
	{
		.name = "__filemap_remove_folio", .args = "*folio *",
		.entry = vtmem_remove_folio,
	},
	{
		.name = "delete_from_page_cache_batch",
		.args = "*address_space *folio_batch",
		.entry = vtmem_delete_batch,
	},
	{
		.name = "iomap_dio_complete", .args = "*iomap_dio",
		.entry = vtmem_dio_complete,
	},
	{
		.name = "evict", .args = "*inode", .entry = vtmem_evict,
	},
	{
		.name = "invalidate_bdev", .args = "*block_device",
		.entry = vtmem_invalidate_bdev,
	},
	{
		.name = "blkdev_write_iter", .args = "*kiocb *iov_iter",
		.entry = vtmem_bdev_write,
	},
	{
		.name = "truncate_bdev_range", .args = "*block_device 4 8 8",
		.entry = vtmem_bdev_discard,
	},
	{
		.name = "bmap", .args = "*inode *", .entry = vtmem_bmap,
	},
	{
		.name = "__filemap_set_wb_err", .args = "*address_space 4",
		.entry = vtmem_writeback_failed,
	},
	{
		.name = "iomap_swapfile_activate",
		.args = "*swap_info_struct *file * *iomap_ops",
		.entry = vtmem_swapfile,
	},
};

const unsigned int vtmem_nr_hooks = ARRAY_SIZE(vtmem_hooks);
