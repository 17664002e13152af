// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which file systems take part in cleancache, and the ephemeral pool of each.
 *
 * An entry is made at the first read of a file system, or by a write to the mounts
 * file; it goes when the superblock does. Its pool comes and goes with the state:
 *
 *	PENDING   a worker is making the pool
 *	READY     pages are put, got and flushed
 *	RETIRED   a worker is destroying the pool
 *	OFF       not wanted, or it cannot be had
 *	DYING     unmount or module removal: nothing is made any more
 *
 * Only READY lets anybody use the pool's number, within an RCU read side section; a
 * pool is destroyed after a grace period since READY was left.
 */
#include <linux/debugfs.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/namei.h>
#include <linux/rculist.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat/compat.h"
#include "vtmem.h"

enum vtmem_mount_state {
	VTMEM_MOUNT_OFF,
	VTMEM_MOUNT_PENDING,
	VTMEM_MOUNT_READY,
	VTMEM_MOUNT_RETIRED,
	VTMEM_MOUNT_DYING,
};

static const char * const vtmem_mount_states[] = {
	[VTMEM_MOUNT_OFF] = "off",
	[VTMEM_MOUNT_PENDING] = "pending",
	[VTMEM_MOUNT_READY] = "on",
	[VTMEM_MOUNT_RETIRED] = "flushing",
	[VTMEM_MOUNT_DYING] = "dying",
};

static struct vtmem *vtmem_mounts_vt;
static const char *vtmem_mounts_fs;
static bool vtmem_mounts_all;
static bool vtmem_mounts_started;	/* under vtmem_mounts_lock */
static bool vtmem_mounts_paused;	/* likewise: no pool is made */

/* Changes of state and of the table; irq-safe since invalidate_bdev() may call. */
static DEFINE_SPINLOCK(vtmem_mounts_lock);
/* Removal of entries, against everything that sleeps with one in its hands. */
static DEFINE_MUTEX(vtmem_mounts_mutex);
static DEFINE_HASHTABLE(vtmem_mounts_hash, 6);
static LIST_HEAD(vtmem_mounts_list);

static bool vtmem_fs_listed(const char *list, const char *name)
{
	size_t len = strlen(name);
	const char *p = list;

	while (p && *p) {
		if (!strncmp(p, name, len) && (p[len] == ',' || !p[len]))
			return true;
		p = strchr(p, ',');
		if (p)
			p++;
	}
	return false;
}

/* Within an RCU read side section. Any state. */
struct vtmem_mount *vtmem_mount_known(struct super_block *sb)
{
	struct vtmem_mount *m;

	hash_for_each_possible_rcu(vtmem_mounts_hash, m, hash,
				   (unsigned long)sb)
		if (m->sb == sb)
			return m;
	return NULL;
}

/* Likewise; NULL unless its pool is there. Any context. */
struct vtmem_mount *vtmem_mount_ready(struct super_block *sb)
{
	struct vtmem_mount *m = vtmem_mount_known(sb);

	/* Pairs with the release in vtmem_mount_make(): pool is set. */
	if (m && smp_load_acquire(&m->state) == VTMEM_MOUNT_READY)
		return m;
	return NULL;
}

/* Worker, or nobody else can be. READY was left before. */
static void vtmem_mount_unmake(struct vtmem_mount *m)
{
	if (!m->has_pool)
		return;
	/* Nobody puts to it any more. */
	synchronize_rcu();
	vtmem_presence_forget(m->pool);
	/*
	 * A put of another mount may have made room in the index by taking one of these
	 * blocks out, and flushes its pages before it leaves its read side section.
	 */
	synchronize_rcu();
	WRITE_ONCE(m->has_pool, false);
	vtmem_pool_destroy(vtmem_mounts_vt, m->pool);
}

/* Does a mount use this pool? Any context. */
bool vtmem_mounts_use(u32 pool)
{
	struct vtmem_mount *m;
	bool used = false;
	int bucket;

	rcu_read_lock();
	hash_for_each_rcu(vtmem_mounts_hash, bucket, m, hash)
		used |= READ_ONCE(m->has_pool) && READ_ONCE(m->pool) == pool;
	rcu_read_unlock();
	return used;
}

static void vtmem_mount_make(struct vtmem_mount *m)
{
	bool ready = false;
	int err;

	vtmem_settle(m->sb);

	err = vtmem_pool_create(vtmem_mounts_vt, VTMEM_POOL_EPHEMERAL, &m->pool);
	if (err)
		pr_warn("no pool for %s on %s (%d): its pages are not kept\n",
			m->fs, m->id, err);
	else
		WRITE_ONCE(m->has_pool, true);

	spin_lock_irq(&vtmem_mounts_lock);
	if (m->state == VTMEM_MOUNT_PENDING) {
		ready = !err;
		/* Pairs with the acquire in vtmem_mount_ready(). */
		smp_store_release(&m->state,
				  ready ? VTMEM_MOUNT_READY : VTMEM_MOUNT_OFF);
	}
	spin_unlock_irq(&vtmem_mounts_lock);
	if (!ready)
		vtmem_mount_unmake(m);
}

static void vtmem_mount_work(struct work_struct *work)
{
	struct vtmem_mount *m = container_of(work, struct vtmem_mount, work);

	if (READ_ONCE(m->state) == VTMEM_MOUNT_RETIRED) {
		vtmem_mount_unmake(m);
		spin_lock_irq(&vtmem_mounts_lock);
		if (m->state == VTMEM_MOUNT_RETIRED)
			m->state = m->wanted && !vtmem_mounts_paused ?
					   VTMEM_MOUNT_PENDING :
					   VTMEM_MOUNT_OFF;
		spin_unlock_irq(&vtmem_mounts_lock);
	}
	if (READ_ONCE(m->state) == VTMEM_MOUNT_PENDING)
		vtmem_mount_make(m);
}

/* Under vtmem_mounts_lock. */
static void vtmem_mount_want(struct vtmem_mount *m, bool wanted)
{
	m->wanted = wanted;
	if (wanted && m->state == VTMEM_MOUNT_OFF && !vtmem_mounts_paused)
		m->state = VTMEM_MOUNT_PENDING;
	else if (!wanted && m->state == VTMEM_MOUNT_PENDING)
		m->state = VTMEM_MOUNT_OFF;
	else if (!wanted && m->state == VTMEM_MOUNT_READY)
		m->state = VTMEM_MOUNT_RETIRED;
	queue_work(vtmem_mounts_vt->wq, &m->work);
}

/*
 * Make an entry if there is none, and set what is wanted of it. The caller keeps the
 * superblock mounted. May be called within a read, with folios locked.
 */
static int vtmem_mount_set(struct super_block *sb, bool wanted, bool override)
{
	struct vtmem_mount *m, *new;
	unsigned long flags;
	int err = 0;

	new = kzalloc(sizeof(*new), GFP_NOFS | __GFP_NOWARN);
	if (!new)
		return -ENOMEM;
	new->sb = sb;
	new->fs = sb->s_type->name;
	strscpy(new->id, sb->s_id, sizeof(new->id));
	INIT_WORK(&new->work, vtmem_mount_work);

	spin_lock_irqsave(&vtmem_mounts_lock, flags);
	m = vtmem_mount_known(sb);
	if (!vtmem_mounts_started) {
		err = -ESHUTDOWN;
	} else if (!m) {
		hash_add_rcu(vtmem_mounts_hash, &new->hash, (unsigned long)sb);
		/* vtmem_mounts_pause() goes along the list without the lock. */
		list_add_tail_rcu(&new->list, &vtmem_mounts_list);
		vtmem_mount_want(new, wanted);
		new = NULL;
	} else if (override) {
		vtmem_mount_want(m, wanted);
	}
	spin_unlock_irqrestore(&vtmem_mounts_lock, flags);
	kfree(new);
	return err;
}

/* NULL if the file system's pages can be kept, else why not. */
static const char *vtmem_mount_misfit(struct super_block *sb)
{
	if (!vtmem_compat_fs_known(sb))
		return "not a file system whose every change of data is known";
	if (!sb->s_bdev)
		return "not on a block device";
	if (sb->s_blocksize != PAGE_SIZE)
		return "its blocks are not as large as a page";
	return NULL;
}

/*
 * A file system that is not READY is being read: should it take part? Process
 * context, within a read. Cheap when the answer is no, or has been given.
 */
void vtmem_mount_offer(struct super_block *sb)
{
	struct vtmem_mount *m;

	if (!READ_ONCE(vtmem_mounts_started) || !vtmem_mounts_all ||
	    !vtmem_fs_listed(vtmem_mounts_fs, sb->s_type->name) ||
	    vtmem_mount_misfit(sb))
		return;
	rcu_read_lock();
	m = vtmem_mount_known(sb);
	rcu_read_unlock();
	if (!m)
		vtmem_mount_set(sb, true, false);
}

/* Under vtmem_mounts_lock. Its pool, if there is one, is out of use. */
static void vtmem_mount_retire(struct vtmem_mount *m)
{
	if (m->state != VTMEM_MOUNT_READY)
		return;
	m->state = VTMEM_MOUNT_RETIRED;
	queue_work(vtmem_mounts_vt->wq, &m->work);
}

/*
 * The device is changed behind the file systems on it: forget all. The pools are out
 * of use when this returns. @again: new ones are made; else not before somebody asks for
 * it in the mounts file. Any process context; may not sleep.
 */
void vtmem_mount_retire_bdev(struct block_device *bdev, bool again)
{
	struct vtmem_mount *m;
	unsigned long flags;

	spin_lock_irqsave(&vtmem_mounts_lock, flags);
	list_for_each_entry(m, &vtmem_mounts_list, list) {
		if (m->sb->s_bdev != bdev || m->state == VTMEM_MOUNT_DYING)
			continue;
		if (!again && m->wanted) {
			m->wanted = false;
			pr_notice("%s was written to below its file system, whose pages are no longer kept\n",
				  m->id);
			if (m->state == VTMEM_MOUNT_PENDING)
				m->state = VTMEM_MOUNT_OFF;
		}
		vtmem_mount_retire(m);
	}
	spin_unlock_irqrestore(&vtmem_mounts_lock, flags);
}

/* Under vtmem_mounts_mutex. Afterwards the pool is gone and stays so. */
static void vtmem_mount_kill(struct vtmem_mount *m)
{
	spin_lock_irq(&vtmem_mounts_lock);
	m->state = VTMEM_MOUNT_DYING;
	spin_unlock_irq(&vtmem_mounts_lock);
	cancel_work_sync(&m->work);
	vtmem_mount_unmake(m);
}

static struct vtmem_mount *vtmem_mount_find(struct super_block *sb)
{
	struct vtmem_mount *m;

	lockdep_assert_held(&vtmem_mounts_mutex);
	rcu_read_lock();
	m = vtmem_mount_known(sb);
	rcu_read_unlock();
	return m;
}

/* Unmount begins: s_umount is held. The entry stays, so that no other is made. */
void vtmem_mount_shutdown(struct super_block *sb)
{
	struct vtmem_mount *m;

	mutex_lock(&vtmem_mounts_mutex);
	m = vtmem_mount_find(sb);
	if (m)
		vtmem_mount_kill(m);
	mutex_unlock(&vtmem_mounts_mutex);
}

static void vtmem_mount_free(struct vtmem_mount *m)
{
	spin_lock_irq(&vtmem_mounts_lock);
	hash_del_rcu(&m->hash);
	list_del(&m->list);
	spin_unlock_irq(&vtmem_mounts_lock);
	kfree_rcu(m, rcu);
}

/* Unmount ends: sb is only a number by now. */
void vtmem_mount_forget(struct super_block *sb)
{
	struct vtmem_mount *m;

	mutex_lock(&vtmem_mounts_mutex);
	m = vtmem_mount_find(sb);
	if (m)
		vtmem_mount_free(m);
	mutex_unlock(&vtmem_mounts_mutex);
}

void vtmem_mounts_init(struct vtmem *vt, const char *fs, bool all)
{
	vtmem_mounts_vt = vt;
	vtmem_mounts_fs = fs;
	vtmem_mounts_all = all;
}

/* The hooks are attached. */
void vtmem_mounts_start(void)
{
	spin_lock_irq(&vtmem_mounts_lock);
	vtmem_mounts_started = true;
	/* It may have gone in the middle of a suspend. */
	vtmem_mounts_paused = false;
	spin_unlock_irq(&vtmem_mounts_lock);
}

/*
 * Destroy all pools. The hooks must still be attached: until the last work is
 * cancelled, unmounting must wait for it.
 */
void vtmem_mounts_stop(void)
{
	struct vtmem_mount *m;

	mutex_lock(&vtmem_mounts_mutex);
	spin_lock_irq(&vtmem_mounts_lock);
	vtmem_mounts_started = false;
	spin_unlock_irq(&vtmem_mounts_lock);
	list_for_each_entry(m, &vtmem_mounts_list, list)
		vtmem_mount_kill(m);
	mutex_unlock(&vtmem_mounts_mutex);
}

/* Destroy all pools, and make none until vtmem_mounts_resume(). */
void vtmem_mounts_pause(void)
{
	struct vtmem_mount *m;

	mutex_lock(&vtmem_mounts_mutex);
	spin_lock_irq(&vtmem_mounts_lock);
	vtmem_mounts_paused = true;
	list_for_each_entry(m, &vtmem_mounts_list, list) {
		if (m->state == VTMEM_MOUNT_PENDING)
			m->state = VTMEM_MOUNT_OFF;
		vtmem_mount_retire(m);
	}
	spin_unlock_irq(&vtmem_mounts_lock);
	list_for_each_entry(m, &vtmem_mounts_list, list)
		flush_work(&m->work);
	mutex_unlock(&vtmem_mounts_mutex);
}

void vtmem_mounts_resume(void)
{
	struct vtmem_mount *m;

	spin_lock_irq(&vtmem_mounts_lock);
	vtmem_mounts_paused = false;
	list_for_each_entry(m, &vtmem_mounts_list, list) {
		if (m->state != VTMEM_MOUNT_OFF || !m->wanted)
			continue;
		m->state = VTMEM_MOUNT_PENDING;
		queue_work(vtmem_mounts_vt->wq, &m->work);
	}
	spin_unlock_irq(&vtmem_mounts_lock);
}

/* The hooks are detached, and the mounts file is gone. */
void vtmem_mounts_exit(void)
{
	struct vtmem_mount *m, *next;

	list_for_each_entry_safe(m, next, &vtmem_mounts_list, list)
		vtmem_mount_free(m);
}

static int vtmem_mounts_show(struct seq_file *seq, void *unused)
{
	struct vtmem_mount *m;

	seq_puts(seq, "device fs state puts gets hits\n");
	mutex_lock(&vtmem_mounts_mutex);
	spin_lock_irq(&vtmem_mounts_lock);
	list_for_each_entry(m, &vtmem_mounts_list, list)
		seq_printf(seq, "%s %s %s %lld %lld %lld\n", m->id, m->fs,
			   vtmem_mount_states[m->state],
			   atomic64_read(&m->puts), atomic64_read(&m->gets),
			   atomic64_read(&m->hits));
	spin_unlock_irq(&vtmem_mounts_lock);
	mutex_unlock(&vtmem_mounts_mutex);
	return 0;
}

static int vtmem_mounts_open(struct inode *inode, struct file *file)
{
	return single_open(file, vtmem_mounts_show, NULL);
}

/* "+PATH" or "-PATH": keep, or no longer keep, pages of the file system at PATH. */
static ssize_t vtmem_mounts_write(struct file *file, const char __user *buf,
				  size_t len, loff_t *pos)
{
	struct vtmem_mount *m;
	const char *why;
	struct path path;
	char *line;
	bool on;
	int err;

	if (len < 2 || len > PATH_MAX)
		return -EINVAL;
	line = memdup_user_nul(buf, len);
	if (IS_ERR(line))
		return PTR_ERR(line);
	line[strcspn(line, "\n")] = '\0';
	on = line[0] == '+';
	if (!on && line[0] != '-') {
		err = -EINVAL;
		goto free;
	}

	err = kern_path(line + 1, LOOKUP_FOLLOW, &path);
	if (err)
		goto free;
	why = vtmem_mount_misfit(path.dentry->d_sb);
	if (why) {
		pr_warn("%s: %s\n", line + 1, why);
		err = -EOPNOTSUPP;
		goto put;
	}
	err = vtmem_mount_set(path.dentry->d_sb, on, true);
	if (!err) {
		/* It is so when the write returns. */
		mutex_lock(&vtmem_mounts_mutex);
		m = vtmem_mount_find(path.dentry->d_sb);
		if (m)
			flush_work(&m->work);
		mutex_unlock(&vtmem_mounts_mutex);
	}
put:
	/* May be the last user of the mount: no lock of ours is held. */
	path_put(&path);
free:
	kfree(line);
	return err ? err : len;
}

static const struct file_operations vtmem_mounts_fops = {
	.owner = THIS_MODULE,
	.open = vtmem_mounts_open,
	.read = seq_read,
	.write = vtmem_mounts_write,
	.llseek = seq_lseek,
	.release = single_release,
};

void vtmem_mounts_debugfs(struct dentry *dir)
{
	debugfs_create_file("mounts", 0600, dir, NULL, &vtmem_mounts_fops);
}
