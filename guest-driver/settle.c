// SPDX-License-Identifier: GPL-2.0-only
/*
 * What began before the hooks were attached.
 *
 * A truncate, hole punch, exchange of blocks or direct write that began then flushes
 * nothing at its end. Each of these holds its inode's i_rwsem, or has it counted in
 * i_dio_count, from before it changes the disk until it is done. So an inode that is
 * seen without either, once, after the hooks were attached, is done with all of them;
 * and one that is not seen so for a while is not kept.
 *
 * Nothing is locked, and nobody else waits for this: a task may hold i_rwsem for as long
 * as it likes, and a file system may be frozen meanwhile.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/sched.h>

#include "vtmem.h"

/* Inodes that are waited for. More of them at once are not kept. */
#define VTMEM_SETTLE_INODES	32
/* How often they are looked at, a millisecond apart at least. */
#define VTMEM_SETTLE_LOOKS	500

static bool vtmem_inode_busy(struct inode *inode)
{
	return rwsem_is_locked(&inode->i_rwsem) ||
	       atomic_read(&inode->i_dio_count);
}

/*
 * The busy files of a file system, with a reference to each; those there is no room for
 * are given up. Returns how many.
 */
static unsigned int vtmem_settle_find(struct super_block *sb,
				      struct inode **busy)
{
	struct inode *inode, *held = NULL;
	unsigned int nr = 0;

	spin_lock(&sb->s_inode_list_lock);
	list_for_each_entry(inode, &sb->s_inodes, i_sb_list) {
		bool keep = S_ISREG(inode->i_mode) && vtmem_inode_busy(inode);

		if (!keep && !need_resched())
			continue;
		/* One that is being freed is not put any more. */
		spin_lock(&inode->i_lock);
		if (inode->i_state & (I_FREEING | I_WILL_FREE | I_NEW)) {
			spin_unlock(&inode->i_lock);
			continue;
		}
		__iget(inode);
		spin_unlock(&inode->i_lock);
		spin_unlock(&sb->s_inode_list_lock);

		/* With a reference, its place in the list stays. */
		iput(held);
		held = NULL;
		if (!keep) {
			held = inode;
		} else if (nr < VTMEM_SETTLE_INODES) {
			busy[nr++] = inode;
		} else {
			vtmem_cc_distrust(inode);
			held = inode;
		}
		cond_resched();
		spin_lock(&sb->s_inode_list_lock);
	}
	spin_unlock(&sb->s_inode_list_lock);
	iput(held);
	return nr;
}

/*
 * Process context, with the superblock's entry there and its pool not in use yet. Takes
 * half a second, or a few of them on a coarse clock, at most; but for a file that was
 * unlinked meanwhile, whose last reference this may be: then as long as unlinking one.
 */
void vtmem_settle(struct super_block *sb)
{
	struct inode *busy[VTMEM_SETTLE_INODES];
	unsigned int nr, i, left, look;

	nr = vtmem_settle_find(sb, busy);
	left = nr;
	for (look = 0; left && look < VTMEM_SETTLE_LOOKS; look++) {
		usleep_range(1000, 2000);
		for (i = 0; i < nr; i++) {
			if (!busy[i] || vtmem_inode_busy(busy[i]))
				continue;
			iput(busy[i]);
			busy[i] = NULL;
			left--;
		}
	}
	for (i = 0; i < nr; i++) {
		if (!busy[i])
			continue;
		vtmem_cc_distrust(busy[i]);
		iput(busy[i]);
	}
}
