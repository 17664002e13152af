// SPDX-License-Identifier: GPL-2.0-only
/*
 * cleancache: clean pages that the guest reclaims are put, reads get them back, and
 * whatever makes a held page differ from the disk flushes it.
 *
 * The invariant: no get ever returns a page that differs from what a read from the
 * disk would return now. compat/pagecache-*.c has the places in the page cache that
 * call in here, each with the reason why it is needed; this file decides.
 *
 * A key is (pool of the file system, inode number, index). The generation of the inode
 * is not in it: an ioctl can change it back and forth. Instead a deleted inode's
 * pages are flushed at its eviction, before its number is free again. An inode that
 * is evicted from memory only keeps its pages in the host: without an inode in
 * memory nothing can change them.
 *
 * What a page is worth is asked of admission.c, and whether the host can have it at all
 * of presence.c: most misses and flushes end there.
 *
 * All functions look the mount up and stage, or get, within one RCU read side
 * section: mounts.c destroys a pool, whose number the host may then reuse, after a
 * grace period.
 */
#include <linux/backing-dev.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>

#include "compat/compat.h"
#include "vtmem.h"

/* Of full size: as many pages as the kernel reads ahead by default. */
#define VTMEM_STREAM_WINDOW	32

static struct vtmem *vtmem_cc;

/* Files whose pages are kept. Others may hold none, but are flushed all the same. */
static bool vtmem_cc_inode_fits(struct inode *inode)
{
	return S_ISREG(inode->i_mode) && !IS_SWAPFILE(inode) && !IS_DAX(inode) &&
	       !IS_ENCRYPTED(inode) && !IS_VERITY(inode) &&
	       (!IS_NOQUOTA(inode) || vtmem_left_out("quota")) &&
	       inode->i_blkbits == PAGE_SHIFT;
}

static unsigned long *vtmem_cc_distrust_bit(struct vtmem_mount *m,
					    struct inode *inode,
					    unsigned int *bit)
{
	*bit = hash_64(inode->i_ino, ilog2(sizeof(m->distrust) * BITS_PER_BYTE));
	return m->distrust;
}

/*
 * The same of inodes whose file system had no entry then, by the addresses of their
 * superblocks. For good: hardly anything comes here.
 */
static DECLARE_BITMAP(vtmem_cc_early, 1024);

static unsigned int vtmem_cc_early_bit(struct inode *inode)
{
	return hash_64(inode->i_ino ^ (unsigned long)inode->i_sb,
		       ilog2(sizeof(vtmem_cc_early) * BITS_PER_BYTE));
}

static bool vtmem_cc_distrusted(struct vtmem_mount *m, struct inode *inode)
{
	unsigned int bit;
	unsigned long *map = vtmem_cc_distrust_bit(m, inode, &bit);

	return test_bit(bit, map) || test_bit(vtmem_cc_early_bit(inode),
					      vtmem_cc_early);
}

static struct vtmem_key vtmem_cc_key(struct vtmem_mount *m, struct inode *inode,
				     pgoff_t index)
{
	return (struct vtmem_key){
		.pool = m->pool,
		.object = inode->i_ino,
		.index = index,
	};
}

/*
 * A read begins. Process context, folios and invalidate_lock may be held. False: do
 * not ask. The first read of a file system starts the making of its pool.
 */
bool vtmem_cc_wants(struct inode *inode)
{
	bool ready;

	if (!S_ISREG(inode->i_mode))
		return false;
	rcu_read_lock();
	ready = vtmem_mount_ready(inode->i_sb);
	rcu_read_unlock();
	if (!ready)
		vtmem_mount_offer(inode->i_sb);
	return ready && vtmem_cc_inode_fits(inode);
}

/* Under the folio's lock: was it added for reading, and nothing else since? */
static bool vtmem_cc_readable(struct folio *folio)
{
	return folio && !xa_is_value(folio) && !folio_test_large(folio) &&
	       !folio_test_uptodate(folio) && !folio_test_dirty(folio) &&
	       !folio_test_private(folio);
}

static bool vtmem_cc_cached(struct address_space *mapping, pgoff_t index)
{
	void *entry = xa_load(&mapping->i_pages, index);

	return entry && !xa_is_value(entry);
}

/* Does the window continue one as large, which is how the kernel reads a stream? */
static bool vtmem_cc_goes_on(struct address_space *mapping, pgoff_t index,
			     unsigned int nr)
{
	unsigned int full = min_t(unsigned long, VTMEM_STREAM_WINDOW,
				  inode_to_bdi(mapping->host)->ra_pages);

	return nr >= full && index >= nr &&
	       vtmem_cc_cached(mapping, index - 1) &&
	       vtmem_cc_cached(mapping, index - nr);
}

/*
 * A window of nr pages is going to be read, of a file system that takes part or will do
 * when its pool is made: evidence for admission. Process context.
 */
void vtmem_cc_note(struct address_space *mapping, pgoff_t index, unsigned int nr)
{
	struct inode *inode = mapping->host;
	bool known;

	rcu_read_lock();
	known = S_ISREG(inode->i_mode) && vtmem_mount_known(inode->i_sb);
	rcu_read_unlock();
	if (known)
		vtmem_admission_stream(inode->i_ino, index,
				       vtmem_cc_goes_on(mapping, index, nr));
}

/*
 * Fill those of the nr folios from index on that the host holds, and set their bits in
 * held. The caller has locked them, and added them to the page cache for reading.
 * Interrupts are off during each exit, for 64 folios; where none can be there,
 * there is no exit.
 *
 * A get must not overwrite newer data. With blocks as large as pages (mounts.c), a
 * locked folio that is not uptodate, not dirty and without buffers has never been
 * written to.
 */
void vtmem_cc_get(struct address_space *mapping, pgoff_t index, unsigned int nr,
		  unsigned long *held)
{
	struct inode *inode = mapping->host;
	struct vtmem *vt = vtmem_cc;
	u16 place[VTMEM_BATCH_OPS];
	DECLARE_BITMAP(present, VTMEM_WINDOW);
	unsigned int i, n, k, hits = 0, gets = 0;
	struct vtmem_mount *m;
	struct vtmem_key key;
	unsigned long flags;
	int err = 0;

	rcu_read_lock();
	m = vtmem_mount_ready(inode->i_sb);
	if (!m) {
		rcu_read_unlock();
		return;
	}

	key = vtmem_cc_key(m, inode, index);
	if (vtmem_presence_window(&key, nr, present))
		vtmem_order(vt, m->pool, inode->i_ino);
	i = find_first_bit(present, nr);
	while (i < nr && !err) {
		n = 0;
		vtmem_sync_begin(vt, &flags);
		for (; i < nr && vtmem_sync_has_room(vt, 1);
		     i = find_next_bit(present, nr, i + 1)) {
			struct folio *folio = xa_load(&mapping->i_pages,
						      index + i);

			key.index = index + i;
			/* The page leaves the host with this. */
			if (!vtmem_cc_readable(folio) ||
			    !vtmem_presence_clear(&key, 1))
				continue;
			place[n++] = i;
			vtmem_sync_op(vt, VTMEM_OP_GET, &key, 0);
			vtmem_sync_page(vt, folio_page(folio, 0), 0,
					VTMEM_PAGE_SIZE);
		}
		if (n)
			err = vtmem_sync_run(vt);
		for (k = 0; k < n && !err; k++) {
			gets++;
			if (vtmem_sync_status(vt, k) != VTMEM_S_OK)
				continue;
			__set_bit(place[k], held);
			hits++;
		}
		vtmem_sync_end(vt, flags);
	}
	key.index = index;
	vtmem_admission_read(&key, nr, held);
	atomic64_add(gets, &m->gets);
	atomic64_add(hits, &m->hits);
	rcu_read_unlock();

	vtmem_count(VTMEM_MISSES_LOCAL, nr - gets);
	vtmem_count(VTMEM_GETS, gets);
	vtmem_count(VTMEM_HITS, hits);
	vtmem_count(VTMEM_MISSES, gets - hits);
	/* The file system must not read into folios that the device still has. */
	if (err == -EINPROGRESS)
		vtmem_wait_reset(vt);
}

/*
 * The page at index is going to be read alone: how many after it come with it, without a
 * gap? None if it needs no exit itself. Process context.
 */
unsigned int vtmem_cc_ahead(struct inode *inode, pgoff_t index)
{
	pgoff_t end = DIV_ROUND_UP(i_size_read(inode), PAGE_SIZE);
	DECLARE_BITMAP(present, VTMEM_AHEAD + 1);
	unsigned int nr = 0, window;
	struct vtmem_mount *m;
	struct vtmem_key key;
	bool behind;

	rcu_read_lock();
	m = vtmem_mount_ready(inode->i_sb);
	if (m && index < end) {
		key = vtmem_cc_key(m, inode, index);
		behind = index && vtmem_cc_cached(inode->i_mapping, index - 1);
		window = min_t(pgoff_t, 1 + vtmem_ahead_wanted(&key, behind),
			       end - index);
		if (window > 1 && vtmem_presence_window(&key, window, present))
			nr = find_first_zero_bit(present, window);
	}
	rcu_read_unlock();
	return nr ? nr - 1 : 0;
}

/* As many after the page at index as were found room for come with it. */
void vtmem_cc_ahead_fetched(struct inode *inode, pgoff_t index, unsigned int nr)
{
	struct vtmem_mount *m;
	struct vtmem_key key;

	rcu_read_lock();
	m = vtmem_mount_ready(inode->i_sb);
	if (m) {
		key = vtmem_cc_key(m, inode, index);
		vtmem_ahead_fetched(&key, nr);
	}
	rcu_read_unlock();
	vtmem_count(VTMEM_GETS_AHEAD, nr);
}

/*
 * Did writing a page of the file to the disk fail since its inode is in memory? The hook
 * of it (compat/) tells of what happens from now on, and this of what happened before the
 * driver was loaded.
 */
static bool vtmem_cc_write_failed(struct inode *inode)
{
	return READ_ONCE(inode->i_mapping->wb_err) &&
	       !vtmem_left_out("writeback-failed");
}

/*
 * Is the folio what a read from the disk would return? Besides the obvious: direct I/O
 * changes the disk without the folio; and where writeback or direct writes failed, it
 * may be newer or older than the disk.
 */
static bool vtmem_cc_may_put(struct vtmem_mount *m, struct inode *inode,
			     struct folio *folio)
{
	return vtmem_cc_inode_fits(inode) && folio_test_uptodate(folio) &&
	       !folio_test_dirty(folio) && !folio_test_writeback(folio) &&
	       !folio_test_error(folio) && !vtmem_cc_write_failed(inode) &&
	       (!atomic_read(&inode->i_dio_count) ||
		vtmem_left_out("direct-count")) &&
	       !(READ_ONCE(inode->i_state) & (I_FREEING | I_WILL_FREE)) &&
	       folio_pos(folio) < i_size_read(inode) &&
	       !vtmem_cc_distrusted(m, inode);
}

/* Under the i_pages lock. The host hears of it only if it can hold one of the pages. */
static void vtmem_cc_flush_present(u16 type, const struct vtmem_key *key, u64 nr)
{
	if (vtmem_presence_clear(key, nr))
		vtmem_flush(vtmem_cc, type, key, nr);
	else
		vtmem_count(VTMEM_FLUSHES_LOCAL, 1);
}

/* When all batches are under way, the host gets to execute them here and now. */
static bool vtmem_cc_put(struct vtmem_mount *m, const struct vtmem_key *key,
			 struct page *page)
{
	struct vtmem_key victim;
	bool staged;
	u64 nr;

	if (vtmem_presence_set(key, &victim, &nr)) {
		vtmem_flush(vtmem_cc, VTMEM_OP_FLUSH_RANGE, &victim, nr);
		vtmem_count(VTMEM_PRESENCE_FULL, 1);
	}
	staged = vtmem_stage_page(vtmem_cc, key, page);
	if (!staged && !vtmem_broken(vtmem_cc)) {
		vtmem_drain(vtmem_cc);
		staged = vtmem_stage_page(vtmem_cc, key, page);
	}
	if (staged)
		atomic64_inc(&m->puts);
	else
		vtmem_count(VTMEM_PUTS_SKIPPED, 1);
	return staged;
}

static bool vtmem_cc_admits(const struct vtmem_key *key, struct folio *folio)
{
	if (vtmem_admission_put(key, folio_test_workingset(folio)))
		return true;
	vtmem_count(VTMEM_PUTS_UNWORTHY, 1);
	return false;
}

/*
 * A folio leaves the page cache: by reclaim if there is a shadow. Under the i_pages
 * lock, with interrupts off and the folio locked; in reclaim its refcount is frozen
 * too, so nobody can change it while it is copied. A later lookup of the index
 * sees the removal only after this was staged.
 *
 * What is not put is flushed: an older page of the key may still be held, from
 * before the folio was overwritten without having been read.
 */
void vtmem_cc_remove(struct folio *folio, void *shadow)
{
	struct inode *inode = folio->mapping->host;
	struct vtmem_mount *m;
	struct vtmem_key key;

	if (!inode || !S_ISREG(inode->i_mode))
		return;

	rcu_read_lock();
	m = vtmem_mount_ready(inode->i_sb);
	if (m) {
		key = vtmem_cc_key(m, inode, folio->index);
		if (folio_test_large(folio)) {
			if (!vtmem_left_out("remove-large"))
				vtmem_cc_flush_present(VTMEM_OP_FLUSH_RANGE,
						       &key,
						       folio_nr_pages(folio));
		} else if ((!shadow || !vtmem_cc_may_put(m, inode, folio) ||
			    !vtmem_presence_fits(key.index) ||
			    !vtmem_cc_admits(&key, folio) ||
			    !vtmem_cc_put(m, &key, folio_page(folio, 0))) &&
			   !vtmem_left_out("remove")) {
			vtmem_cc_flush_present(VTMEM_OP_FLUSH_PAGE, &key, 1);
		}
	}
	rcu_read_unlock();
}

/* nr may reach beyond the end of the index space. Any context. */
void vtmem_cc_flush_pages(struct inode *inode, pgoff_t index, u64 nr)
{
	struct vtmem_mount *m;
	struct vtmem_key key;

	if (!S_ISREG(inode->i_mode))
		return;

	rcu_read_lock();
	m = vtmem_mount_ready(inode->i_sb);
	if (m) {
		key = vtmem_cc_key(m, inode, index);
		if (nr == 1)
			vtmem_cc_flush_present(VTMEM_OP_FLUSH_PAGE, &key, nr);
		else if (index == 0 && nr >= ULONG_MAX)
			vtmem_cc_flush_present(VTMEM_OP_FLUSH_OBJECT, &key, nr);
		else
			vtmem_cc_flush_present(VTMEM_OP_FLUSH_RANGE, &key, nr);
	}
	rcu_read_unlock();
}

/* Any context. */
void vtmem_cc_flush_inode(struct inode *inode)
{
	vtmem_cc_flush_pages(inode, 0, U64_MAX);
}

/*
 * Pages of the inode may stay in the page cache although the disk has others: put
 * none of it any more. Coarse and for good, since it hardly ever happens.
 */
void vtmem_cc_distrust(struct inode *inode)
{
	struct vtmem_mount *m;
	unsigned int bit;

	rcu_read_lock();
	m = vtmem_mount_known(inode->i_sb);
	if (m) {
		unsigned long *map = vtmem_cc_distrust_bit(m, inode, &bit);

		set_bit(bit, map);
	} else if (!vtmem_left_out("early")) {
		set_bit(vtmem_cc_early_bit(inode), vtmem_cc_early);
	}
	rcu_read_unlock();
}

/* Puts hold the i_pages lock from before they look until they are staged. Any context. */
void vtmem_cc_wait_for_puts(struct inode *inode)
{
	unsigned long flags;

	xa_lock_irqsave(&inode->i_mapping->i_pages, flags);
	xa_unlock_irqrestore(&inode->i_mapping->i_pages, flags);
}

/* The same, and forget those that were put. Any context, i_pages lock not held. */
void vtmem_cc_give_up(struct inode *inode)
{
	vtmem_cc_distrust(inode);
	vtmem_cc_wait_for_puts(inode);
	vtmem_cc_flush_inode(inode);
}

/* Pools are made only when all hooks are attached. */
int vtmem_cleancache_init(struct vtmem *vt)
{
	int err;

	vtmem_cc = vt;
	err = vtmem_hooks_attach();
	if (err)
		return err;
	vtmem_mounts_start();
	return 0;
}

/*
 * No pool, then no hooks: as long as something is held, everything that must flush
 * it is attached.
 */
void vtmem_cleancache_exit(void)
{
	vtmem_mounts_stop();
	vtmem_hooks_detach();
}
