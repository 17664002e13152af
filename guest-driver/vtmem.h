/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * virtio-tmem guest driver: what its parts share.
 *
 *   main.c        the virtio driver: probe, remove, module parameters
 *   vqs.c         the virtqueues as a whole; a device that misbehaves; its events
 *   queue.c       descriptor chains on queues 0 and 1
 *   staging.c     per-CPU batches of puts and flushes, order per object
 *   chunks.c      memory for their pages
 *   cleancache.c  which pages are put, got and flushed
 *   admission.c   which of them are worth a copy
 *   presence.c    which of them the host may hold
 *   ahead.c       which others to fetch with one that is read alone
 *   mounts.c      which file systems take part; one ephemeral pool for each
 *   settle.c      what began before the hooks were attached
 *   hooks.c       attaching to and detaching from the page cache
 *   compat/       everything that depends on the kernel's version
 *   swapdev.c     /dev/vtmemswap0; swapload.c: its reads and its second chances;
 *                 swapahead.c: pages of it fetched ahead; swaphome.c: back from the host
 *   memory.c      what all of this takes of the guest's memory
 *   suspend.c     leaving the host before the guest sleeps
 *   stats.c       debugfs
 *
 * Lock order, outermost first. All but the first two are taken with interrupts
 * off, since puts and flushes come from under the i_pages lock, which is taken in
 * interrupts too:
 *
 *   vtmem_mounts_mutex
 *   swap_info_struct.lock, page and i_pages locks  (the kernel's)
 *     vtmem_swap.slot_lock[]
 *       vtmem_staging.lock or vtmem.get_lock      (one at a time; queue 1)
 *         vtmem.put_lock                          (queue 0)
 *           vtmem_swap.lock                       (failed batches, deferred bios)
 *             buckets of the presence index, vtmem_swap.ahead.lock,
 *             vtmem_chunks.lock
 */
#ifndef VTMEM_H
#define VTMEM_H

#include <linux/atomic.h>
#include <linux/bio.h>
#include <linux/bits.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/mm_types.h>
#include <linux/notifier.h>
#include <linux/percpu.h>
#include <linux/scatterlist.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/virtio.h>
#include <linux/workqueue.h>

#include "virtio_tmem_wire.h"

/* Operations in a chain; a device takes at least as many. */
#define VTMEM_BATCH_OPS		64
/* Pages that a batch draws from vtmem_chunks at once. */
#define VTMEM_CHUNK_ORDER	3
#define VTMEM_CHUNK_PAGES	BIT(VTMEM_CHUNK_ORDER)
#define VTMEM_BATCH_CHUNKS	(VTMEM_BATCH_OPS / VTMEM_CHUNK_PAGES)
/* Pieces of memory that one chain on queue 1 can fill. */
#define VTMEM_GET_SEGS		128
#define VTMEM_NR_EVENTS		4
/* Readahead never asks for more pages at once, 2 MiB (force_page_cache_ra()). */
#define VTMEM_WINDOW		512
#define VTMEM_OWNER_BITS	12
/* Pages fetched with one that is read alone: together, a window of the usual size. */
#define VTMEM_AHEAD		31

/*
 * To show that each thing that keeps the host's copies coherent is needed, and that
 * `vtmem torture` would find it missing: make VTMEM_MUTATE=NAME builds a module, good
 * for nothing else, that leaves one out. Known to the compiler.
 */
#ifdef VTMEM_MUTATE
#define vtmem_left_out(name)	(!strcmp(name, VTMEM_MUTATE))
#else
#define vtmem_left_out(name)	false
#endif

struct vtmem_swap;

struct vtmem_key {
	u32 pool;
	u64 object;
	u64 index;
};

/*
 * Request and response of one chain: a single allocation, never larger than a
 * page. The device reads the first half and writes the second.
 */
struct vtmem_ctl {
	struct vtmem_req_hdr req;
	struct vtmem_op ops[VTMEM_BATCH_OPS];
	struct vtmem_resp_hdr resp ____cacheline_aligned;
	struct vtmem_result results[VTMEM_BATCH_OPS];
};

enum vtmem_batch_state {
	VTMEM_BATCH_FREE,
	VTMEM_BATCH_OPEN,	/* takes operations; under vtmem_staging.lock */
	VTMEM_BATCH_IN_FLIGHT,	/* the device's until it is in the used ring */
	VTMEM_BATCH_DONE,	/* answered; vtmem_reap() looks at the answer */
	VTMEM_BATCH_FAILED,	/* swapdev still needs its pages */
};

struct vtmem_batch {
	enum vtmem_batch_state state;
	unsigned int nr_ops;
	unsigned int nr_puts;
	unsigned int nr_chunks;
	struct list_head node;
	struct vtmem_ctl *ctl;
	void *chunk[VTMEM_BATCH_CHUNKS];	/* pages of puts, in their order */
	u16 bucket[VTMEM_BATCH_OPS];	/* of vtmem.owner */
	/* Of a persistent put: what vtmem_swap.slots held for it. Else 0. */
	u16 slot[VTMEM_BATCH_OPS];
};

struct vtmem_staging {
	spinlock_t lock;		/* everything here; order above */
	struct vtmem *vt;
	struct vtmem_batch *open;
	struct vtmem_batch *batches;
	struct timer_list timer;
} ____cacheline_aligned_in_smp;

struct vtmem_free_chunk;

/* The stock of chunks.c. */
struct vtmem_chunks {
	spinlock_t lock;		/* everything here but the work */
	struct vtmem_free_chunk *free;
	unsigned int nr_free;
	unsigned int least_free;	/* since trim looked last */
	unsigned int nr;		/* all there are */
	unsigned int min;
	unsigned int max;
	struct work_struct grow;
	struct delayed_work trim;
};

struct vtmem {
	struct virtio_device *vdev;
	struct virtqueue *vq[VTMEM_NR_QUEUES];
	struct workqueue_struct *wq;
	struct work_struct config_work;

	/*
	 * The device broke its contract, or said that it needs a reset. Set once;
	 * from then on no queue is touched, gets miss and puts are refused. reset
	 * completes when the device can no longer reach the guest's memory.
	 */
	bool broken;
	struct work_struct break_work;
	struct completion reset;

	spinlock_t put_lock;	/* queue 0 */

	spinlock_t get_lock;	/* queue 1 and what follows */
	struct vtmem_ctl *get_ctl;
	unsigned int get_ops;
	unsigned int get_segs;
	struct scatterlist get_out;
	struct scatterlist get_in[1 + VTMEM_GET_SEGS];

	/* Persistent pages that the host still promises to take. */
	atomic64_t credit;
	/* Asked for more when there was none, it gave none; and it has not since. */
	bool dry;

	unsigned int nr_staging;
	unsigned int nr_batches;	/* per staging */
	unsigned int batch_ops;		/* in each at most */
	struct vtmem_staging *staging;
	struct vtmem_chunks chunks;
	atomic_t *owner;

	void *events;			/* VTMEM_NR_EVENTS buffers of a page */
	spinlock_t event_lock;		/* queue 2 */

	struct vtmem_swap *swap;
	bool cleancache;	/* its hooks are attached */

	/* suspend.c */
	struct notifier_block pm;
	bool away;		/* nothing is at the host, nor will be */
	bool was_broken;	/* before it was frozen */
	bool was_reset;		/* since it was left */
	bool no_queues;		/* while it is frozen, or could not be thawed */
	bool tells;		/* the host how much memory it takes: memory.c */
};

static inline bool vtmem_broken(struct vtmem *vt)
{
	return READ_ONCE(vt->broken);
}

/* main.c */
extern unsigned int vtmem_flush_ms;

/* vqs.c */
int vtmem_queues_init(struct vtmem *vt);
void vtmem_queues_start(struct vtmem *vt);
void vtmem_queues_stop(struct vtmem *vt);
void vtmem_queues_freeze(struct vtmem *vt);
int vtmem_queues_restore(struct vtmem *vt);
void vtmem_queues_exit(struct vtmem *vt);
u64 vtmem_queues_bytes(struct vtmem *vt);
void vtmem_break(struct vtmem *vt, const char *why);
void vtmem_wait_reset(struct vtmem *vt);

/* queue.c */
void vtmem_fill_op(struct vtmem_op *op, u16 type, const struct vtmem_key *key,
		   u64 arg);
bool vtmem_put_submit(struct vtmem *vt, struct vtmem_batch *b);
void vtmem_put_callback(struct virtqueue *vq);
void vtmem_put_notify(struct vtmem *vt);
bool vtmem_reap(struct vtmem *vt);
void vtmem_drain(struct vtmem *vt);

void vtmem_sync_begin(struct vtmem *vt, unsigned long *flags)
	__acquires(&vt->get_lock);
bool vtmem_sync_has_room(struct vtmem *vt, unsigned int segs);
unsigned int vtmem_sync_op(struct vtmem *vt, u16 type,
			   const struct vtmem_key *key, u64 arg);
void vtmem_sync_page(struct vtmem *vt, struct page *page, unsigned int offset,
		     unsigned int len);
int vtmem_sync_run(struct vtmem *vt);
u32 vtmem_sync_status(struct vtmem *vt, unsigned int op);
u32 vtmem_sync_value(struct vtmem *vt, unsigned int op);
void vtmem_sync_end(struct vtmem *vt, unsigned long flags)
	__releases(&vt->get_lock);
int vtmem_pool_create(struct vtmem *vt, u64 kind, u32 *pool);
void vtmem_pool_destroy(struct vtmem *vt, u32 pool);

bool vtmem_credit_take(struct vtmem *vt);
void vtmem_credit_add(struct vtmem *vt, u64 pages);

/* staging.c */
int vtmem_staging_init(struct vtmem *vt, unsigned int ring_size);
void vtmem_staging_exit(struct vtmem *vt);
bool vtmem_stage_page(struct vtmem *vt, const struct vtmem_key *key,
		      struct page *page);
bool vtmem_stage_bio(struct vtmem *vt, const struct vtmem_key *key,
		     struct bio *bio, u16 slot);
void vtmem_flush(struct vtmem *vt, u16 type, const struct vtmem_key *key,
		 u64 arg);
void vtmem_order(struct vtmem *vt, u32 pool, u64 object);
void vtmem_submit_all(struct vtmem *vt);
void vtmem_staging_fail(struct vtmem *vt);
bool vtmem_under_way(struct vtmem *vt);
bool vtmem_reaping(struct vtmem *vt);
void vtmem_batch_free(struct vtmem *vt, struct vtmem_batch *b);
u64 vtmem_staged_pages(struct vtmem *vt);
u64 vtmem_staging_bytes(struct vtmem *vt);

static inline void *vtmem_batch_page(struct vtmem_batch *b, unsigned int put)
{
	return b->chunk[put / VTMEM_CHUNK_PAGES] +
	       put % VTMEM_CHUNK_PAGES * VTMEM_PAGE_SIZE;
}

/* chunks.c */
void *vtmem_chunk_take(struct vtmem *vt);
void vtmem_chunk_give(struct vtmem *vt, void *chunk);
bool vtmem_chunks_short(struct vtmem *vt);
u64 vtmem_chunks_bytes(struct vtmem *vt);
unsigned int vtmem_chunks_allowed(void);
int vtmem_chunks_init(struct vtmem *vt, unsigned int max);
void vtmem_chunks_exit(struct vtmem *vt);

/* cleancache.c: see there for the contexts */
int vtmem_cleancache_init(struct vtmem *vt);
void vtmem_cleancache_exit(void);
bool vtmem_cc_wants(struct inode *inode);
void vtmem_cc_note(struct address_space *mapping, pgoff_t index, unsigned int nr);
void vtmem_cc_get(struct address_space *mapping, pgoff_t index, unsigned int nr,
		  unsigned long *held);
unsigned int vtmem_cc_ahead(struct inode *inode, pgoff_t index);
void vtmem_cc_ahead_fetched(struct inode *inode, pgoff_t index, unsigned int nr);
void vtmem_cc_remove(struct folio *folio, void *shadow);
void vtmem_cc_flush_pages(struct inode *inode, pgoff_t index, u64 nr);
void vtmem_cc_flush_inode(struct inode *inode);
void vtmem_cc_distrust(struct inode *inode);
void vtmem_cc_wait_for_puts(struct inode *inode);
void vtmem_cc_give_up(struct inode *inode);

/* presence.c: any context */
bool vtmem_presence_fits(u64 index);
bool vtmem_presence_set(const struct vtmem_key *key, struct vtmem_key *victim,
			u64 *nr);
unsigned int vtmem_presence_window(const struct vtmem_key *key, unsigned int nr,
				   unsigned long *present);
bool vtmem_presence_clear(const struct vtmem_key *key, u64 nr);
void vtmem_presence_forget(u32 pool);
u64 vtmem_presence_pages(void);
u64 vtmem_presence_bytes(void);
int vtmem_presence_init(void);
void vtmem_presence_exit(void);

/* ahead.c */
unsigned int vtmem_ahead_wanted(const struct vtmem_key *key, bool behind);
void vtmem_ahead_fetched(const struct vtmem_key *key, unsigned int nr);

/* admission.c */
void vtmem_admission_stream(u64 object, u64 index, bool goes_on);
void vtmem_admission_read(const struct vtmem_key *key, unsigned int nr,
			  const unsigned long *held);
bool vtmem_admission_put(const struct vtmem_key *key, bool workingset);
void vtmem_admission_evicted(const struct vtmem_key *key, u64 nr);
void vtmem_admission_ask(struct virtio_device *vdev);
const char *vtmem_admission_name(void);
u64 vtmem_admission_bytes(void);
int vtmem_admission_init(struct virtio_device *vdev);
void vtmem_admission_exit(void);

/* mounts.c */
struct vtmem_mount {
	struct hlist_node hash;
	struct list_head list;
	struct rcu_head rcu;
	struct super_block *sb;
	char id[32];
	const char *fs;
	int state;
	bool wanted;		/* under vtmem_mounts_lock */
	bool has_pool;		/* work, or after it was cancelled */
	u32 pool;		/* valid while READY */
	struct work_struct work;
	/* Inodes whose cached pages may differ from the disk, hashed. */
	DECLARE_BITMAP(distrust, 1024);
	atomic64_t puts;
	atomic64_t gets;
	atomic64_t hits;
};

struct dentry;
void vtmem_mounts_init(struct vtmem *vt, const char *fs, bool all);
void vtmem_mounts_start(void);
void vtmem_mounts_stop(void);
void vtmem_mounts_exit(void);
void vtmem_mounts_pause(void);
void vtmem_mounts_resume(void);
struct vtmem_mount *vtmem_mount_ready(struct super_block *sb);
struct vtmem_mount *vtmem_mount_known(struct super_block *sb);
bool vtmem_mounts_use(u32 pool);
void vtmem_mount_offer(struct super_block *sb);
void vtmem_mount_retire_bdev(struct block_device *bdev, bool again);
void vtmem_mount_shutdown(struct super_block *sb);
void vtmem_mount_forget(struct super_block *sb);
void vtmem_mounts_debugfs(struct dentry *dir);

/* settle.c */
void vtmem_settle(struct super_block *sb);

/* hooks.c */
int vtmem_hooks_attach(void);
void vtmem_hooks_detach(void);
void vtmem_hook_enter(void);
void vtmem_hook_exit(void);

/* swapdev.c, swapload.c */
int vtmem_swap_init(struct vtmem *vt, const char *path);
void vtmem_swap_exit(struct vtmem *vt);
int vtmem_swap_leave(struct vtmem *vt);
void vtmem_swap_return(struct vtmem *vt);
void vtmem_swap_batch_failed(struct vtmem *vt, struct vtmem_batch *b);
u64 vtmem_swap_bytes(struct vtmem *vt);
bool vtmem_swap_uses(struct vtmem *vt, u32 pool);

/* memory.c */
u64 vtmem_memory_bytes(struct vtmem *vt);
void vtmem_memory_tell(struct vtmem *vt);
void vtmem_memory_start(struct vtmem *vt);
void vtmem_memory_stop(struct vtmem *vt);

/* suspend.c */
void vtmem_suspend_init(struct vtmem *vt);
void vtmem_suspend_exit(struct vtmem *vt);
int vtmem_suspend_freeze(struct virtio_device *vdev);
int vtmem_suspend_restore(struct virtio_device *vdev);

/* stats.c */
enum vtmem_stat {
	VTMEM_PUTS,
	VTMEM_PUTS_REFUSED,
	VTMEM_PUTS_SKIPPED,
	VTMEM_PUTS_UNWORTHY,
	VTMEM_GETS,
	VTMEM_HITS,
	VTMEM_MISSES,
	VTMEM_MISSES_LOCAL,
	VTMEM_GETS_AHEAD,
	VTMEM_FLUSH_PAGES,
	VTMEM_FLUSH_RANGES,
	VTMEM_FLUSH_OBJECTS,
	VTMEM_FLUSHES_MERGED,
	VTMEM_FLUSHES_LOCAL,
	VTMEM_PRESENCE_FULL,
	VTMEM_EVICTIONS,
	VTMEM_CHAINS_PUT,
	VTMEM_CHAINS_GET,
	VTMEM_DOORBELLS_PUT,
	VTMEM_DOORBELLS_GET,
	VTMEM_DRAINS,
	VTMEM_SWAP_STORES,
	VTMEM_SWAP_STORES_LOWER,
	VTMEM_SWAP_LOADS,
	VTMEM_SWAP_LOADS_LOWER,
	VTMEM_SWAP_LOADS_AHEAD,
	VTMEM_SWAP_DEFERRED,
	VTMEM_SWAP_RESCUES,
	VTMEM_SWAP_LOST,
	VTMEM_SWAP_HOMED,
	VTMEM_NR_STATS,
};

struct vtmem_stats {
	u64 count[VTMEM_NR_STATS];
};

DECLARE_PER_CPU(struct vtmem_stats, vtmem_stats);

static inline void vtmem_count(enum vtmem_stat stat, u64 by)
{
	this_cpu_add(vtmem_stats.count[stat], by);
}

void vtmem_stats_init(struct vtmem *vt);
void vtmem_stats_exit(void);

#endif /* VTMEM_H */
