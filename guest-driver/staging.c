// SPDX-License-Identifier: GPL-2.0-only
/*
 * Staging: where puts and flushes wait until a batch of them is worth a chain.
 *
 * Each CPU has a few batches, each with room for VTMEM_BATCH_OPS operations; their
 * pages are copied to memory from chunks.c: nothing is allocated on the paths of
 * reclaim. A guest with many CPUs and little memory has fewer stagings than CPUs. A
 * batch goes to queue 0 when it is full, when a get needs what is in it, when there
 * is no memory for another page of it, or when the timer finds it.
 *
 * Order. The host executes queue 0 in order, so the operations on one object must
 * be submitted in the order in which the page cache's lock ordered them. They may
 * come from several CPUs. Hence vtmem.owner: while operations of an object (of all
 * objects with its hash, really) wait in some CPU's staging, later ones are
 * appended there, whichever CPU they come from. An entry holds the owning CPU and
 * the number of waiting operations. It changes
 *	0 -> 1 by cmpxchg, under the staging lock of the new owner;
 *	n -> n + 1 and n -> n - 1 under the staging lock of the owner.
 * Counts are dropped only when the batch is available to the host: whoever then sees
 * 0 and becomes the owner submits after it.
 */
#include <linux/hash.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>

#include <asm/unaligned.h>

#include "vtmem.h"

#define VTMEM_OWNER_COUNT_BITS	16
#define VTMEM_OWNER_COUNT_MASK	((1 << VTMEM_OWNER_COUNT_BITS) - 1)

static unsigned int vtmem_batches = 4;
module_param_named(batches, vtmem_batches, uint, 0444);
MODULE_PARM_DESC(batches, "Batches of 64 pages that each CPU may have under way");

static unsigned int vtmem_batch = VTMEM_BATCH_OPS;
module_param_named(batch, vtmem_batch, uint, 0444);
MODULE_PARM_DESC(batch, "Puts and flushes that share a chain at most (default 64); fewer: each chain rings, to measure what batches are worth");

/* Where the page of a put comes from. */
struct vtmem_source {
	struct page *page;
	struct bio *bio;
	u16 slot;
};

static u16 vtmem_bucket(u32 pool, u64 object)
{
	return hash_64(object + ((u64)pool << 40), VTMEM_OWNER_BITS);
}

static unsigned int vtmem_owner_count(int v)
{
	return v & VTMEM_OWNER_COUNT_MASK;
}

/*
 * Lock the staging that the next operation of a bucket has to go to, and count that
 * operation. Any context; returns with interrupts off.
 */
static struct vtmem_staging *vtmem_staging_lock(struct vtmem *vt, u16 bucket,
						unsigned long *flags)
	__acquires(&s->lock)
{
	atomic_t *owner = &vt->owner[bucket];
	struct vtmem_staging *s;
	unsigned int cpu;
	int v;

	for (;;) {
		/*
		 * The caller has seen, in the page cache, the effect of an operation
		 * that was staged before. It has to see its count too.
		 */
		smp_mb();
		v = atomic_read(owner);
		if (vtmem_owner_count(v))
			cpu = v >> VTMEM_OWNER_COUNT_BITS;
		else
			cpu = raw_smp_processor_id() % vt->nr_staging;
		s = &vt->staging[cpu];

		spin_lock_irqsave(&s->lock, *flags);
		v = atomic_read(owner);
		if (vtmem_owner_count(v)) {
			if (v >> VTMEM_OWNER_COUNT_BITS == cpu) {
				atomic_inc(owner);
				return s;
			}
		} else if (atomic_try_cmpxchg(owner, &v,
				(cpu << VTMEM_OWNER_COUNT_BITS) | 1)) {
			return s;
		}
		spin_unlock_irqrestore(&s->lock, *flags);
	}
}

/* Under the owner's staging lock. */
static void vtmem_owner_drop(struct vtmem *vt, u16 bucket)
{
	/* Who sees 0 submits after what was counted here: that is available by now. */
	smp_mb__before_atomic();
	atomic_dec(&vt->owner[bucket]);
}

/* Under s->lock. Does not ring. */
static void vtmem_submit(struct vtmem_staging *s)
{
	struct vtmem_batch *b = s->open;
	unsigned int i;

	if (!b)
		return;
	s->open = NULL;
	b->state = VTMEM_BATCH_IN_FLIGHT;
	vtmem_put_submit(s->vt, b);
	/*
	 * The batch may be answered and reused by now? No: only vtmem_open() reuses
	 * it, under s->lock.
	 */
	for (i = 0; i < b->nr_ops; i++)
		vtmem_owner_drop(s->vt, b->bucket[i]);
}

/*
 * Under s->lock. Ring for batches that are full when half of them, or three quarters of
 * the memory for pages, are under way: gets, whose exits execute what is on queue 0 too, often come
 * first. Promised pages are promised again only when their batch was executed, so earlier
 * when there are not enough for the next batch.
 */
static void vtmem_ring_in_time(struct vtmem_staging *s)
{
	struct vtmem *vt = s->vt;
	unsigned int under_way = 0, i;

	for (i = 0; i < vt->nr_batches; i++)
		under_way += READ_ONCE(s->batches[i].state) ==
			     VTMEM_BATCH_IN_FLIGHT;
	if (2 * under_way >= vt->nr_batches || vt->batch_ops < VTMEM_BATCH_OPS ||
	    atomic64_read(&vt->credit) < VTMEM_BATCH_OPS ||
	    vtmem_chunks_short(vt))
		vtmem_put_notify(vt);
}

/* Under s->lock. Is there, or is there now, memory for one more page of the batch? */
static bool vtmem_batch_extend(struct vtmem *vt, struct vtmem_batch *b)
{
	void *chunk;

	if (b->nr_puts < b->nr_chunks * VTMEM_CHUNK_PAGES)
		return true;
	chunk = vtmem_chunk_take(vt);
	if (!chunk)
		return false;
	b->chunk[b->nr_chunks++] = chunk;
	return true;
}

/*
 * Under s->lock. A batch with room for an operation, and for a page if with_page, or
 * NULL when all of them, or all the memory for pages, are in use.
 */
static struct vtmem_batch *vtmem_open(struct vtmem_staging *s, bool with_page)
{
	struct vtmem *vt = s->vt;
	struct vtmem_batch *b = s->open;
	unsigned int i, pass;

	if (b && b->nr_ops < vt->batch_ops &&
	    (!with_page || vtmem_batch_extend(vt, b)))
		return b;
	if (b) {
		vtmem_submit(s);
		vtmem_ring_in_time(s);
	}

	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < vt->nr_batches; i++) {
			b = &s->batches[i];
			/* Pairs with vtmem_batch_free(). */
			if (smp_load_acquire(&b->state) != VTMEM_BATCH_FREE)
				continue;
			b->nr_ops = 0;
			b->nr_puts = 0;
			b->nr_chunks = 0;
			if (with_page && !vtmem_batch_extend(vt, b))
				break;
			b->state = VTMEM_BATCH_OPEN;
			s->open = b;
			return b;
		}
		if (!vtmem_reap(vt))
			break;
	}
	return NULL;
}

/* Nobody else has the batch. */
static void vtmem_batch_give_chunks(struct vtmem *vt, struct vtmem_batch *b)
{
	while (b->nr_chunks)
		vtmem_chunk_give(vt, b->chunk[--b->nr_chunks]);
}

/* Any context: the pages of a batch are no longer needed. */
void vtmem_batch_free(struct vtmem *vt, struct vtmem_batch *b)
{
	vtmem_batch_give_chunks(vt, b);
	/* Pairs with vtmem_open() and vtmem_reaping(): all of it was read. */
	smp_store_release(&b->state, VTMEM_BATCH_FREE);
}

/*
 * A flush that continues the last operation of the batch becomes part of it: pages
 * leave the page cache mostly in order.
 */
static bool vtmem_merge_flush(struct vtmem *vt, struct vtmem_batch *b,
			      u16 bucket, u16 type,
			      const struct vtmem_key *key, u64 arg)
{
	struct vtmem_op *last;
	u64 index, nr;
	u16 last_type;

	if (!b->nr_ops || b->bucket[b->nr_ops - 1] != bucket ||
	    (type != VTMEM_OP_FLUSH_PAGE && type != VTMEM_OP_FLUSH_RANGE) ||
	    !virtio_has_feature(vt->vdev, VTMEM_F_FLUSH_RANGE))
		return false;

	last = &b->ctl->ops[b->nr_ops - 1];
	last_type = le16_to_cpu(last->type);
	if (last_type == VTMEM_OP_FLUSH_PAGE)
		nr = 1;
	else if (last_type == VTMEM_OP_FLUSH_RANGE)
		nr = le64_to_cpu(last->arg);
	else
		return false;

	index = le64_to_cpu(last->index);
	if (le32_to_cpu(last->pool) != key->pool ||
	    get_unaligned_le64(last->object) != key->object ||
	    key->index < index || key->index - index != nr ||
	    check_add_overflow(nr, type == VTMEM_OP_FLUSH_PAGE ? 1 : arg, &nr))
		return false;

	last->type = cpu_to_le16(VTMEM_OP_FLUSH_RANGE);
	last->arg = cpu_to_le64(nr);
	vtmem_count(VTMEM_FLUSHES_MERGED, 1);
	return true;
}

/* A bio of one page's length, in one piece or several. */
static void vtmem_copy_bio(void *to, struct bio *bio)
{
	struct bvec_iter iter;
	struct bio_vec bv;

	bio_for_each_segment(bv, bio, iter) {
		memcpy_from_bvec(to, &bv);
		to += bv.bv_len;
	}
}

/*
 * Append one operation. Any context, i_pages locks held and interrupts off among
 * them. False when there is no room, or the device is broken.
 */
static bool vtmem_stage(struct vtmem *vt, u16 type, const struct vtmem_key *key,
			u64 arg, const struct vtmem_source *src)
{
	u16 bucket = vtmem_bucket(key->pool, key->object);
	struct vtmem_staging *s;
	struct vtmem_batch *b;
	unsigned long flags;
	unsigned int i;

	s = vtmem_staging_lock(vt, bucket, &flags);
	b = vtmem_broken(vt) ? NULL : vtmem_open(s, src);
	if (!b) {
		vtmem_owner_drop(vt, bucket);
		spin_unlock_irqrestore(&s->lock, flags);
		return false;
	}
	if (!src && vtmem_merge_flush(vt, b, bucket, type, key, arg)) {
		/* That operation is counted already. */
		vtmem_owner_drop(vt, bucket);
		spin_unlock_irqrestore(&s->lock, flags);
		return true;
	}

	i = b->nr_ops++;
	vtmem_fill_op(&b->ctl->ops[i], type, key, arg);
	b->bucket[i] = bucket;
	b->slot[i] = 0;
	if (src) {
		void *to = vtmem_batch_page(b, b->nr_puts++);

		if (src->page)
			memcpy_from_page(to, src->page, 0, VTMEM_PAGE_SIZE);
		else
			vtmem_copy_bio(to, src->bio);
		b->slot[i] = src->slot;
	}
	if (b->nr_ops == vt->batch_ops) {
		vtmem_submit(s);
		vtmem_ring_in_time(s);
	}
	if (!timer_pending(&s->timer))
		mod_timer(&s->timer,
			  jiffies + msecs_to_jiffies(vtmem_flush_ms));
	spin_unlock_irqrestore(&s->lock, flags);
	return true;
}

/*
 * A page cache page. False: not staged; the caller flushes the key, since the host
 * may hold an older page of it.
 */
bool vtmem_stage_page(struct vtmem *vt, const struct vtmem_key *key,
		      struct page *page)
{
	const struct vtmem_source src = { .page = page };

	if (vtmem_stage(vt, VTMEM_OP_PUT, key, 0, &src)) {
		vtmem_count(VTMEM_PUTS, 1);
		return true;
	}
	return false;
}

/* One page that is being swapped out; @slot is not 0. */
bool vtmem_stage_bio(struct vtmem *vt, const struct vtmem_key *key,
		     struct bio *bio, u16 slot)
{
	const struct vtmem_source src = { .bio = bio, .slot = slot };

	if (vtmem_stage(vt, VTMEM_OP_PUT, key, 0, &src)) {
		vtmem_count(VTMEM_PUTS, 1);
		return true;
	}
	return false;
}

/*
 * Flushes cannot be refused. Any context. If all batches are under way, the host
 * executes them now, within one exit, and there is room; if swapdev still holds all
 * of them, this flush is executed by itself, after everything before it.
 */
void vtmem_flush(struct vtmem *vt, u16 type, const struct vtmem_key *key,
		 u64 arg)
{
	unsigned long flags;

	if (type == VTMEM_OP_FLUSH_RANGE &&
	    !virtio_has_feature(vt->vdev, VTMEM_F_FLUSH_RANGE))
		type = VTMEM_OP_FLUSH_OBJECT;

	if (type == VTMEM_OP_FLUSH_PAGE)
		vtmem_count(VTMEM_FLUSH_PAGES, 1);
	else if (type == VTMEM_OP_FLUSH_RANGE)
		vtmem_count(VTMEM_FLUSH_RANGES, 1);
	else
		vtmem_count(VTMEM_FLUSH_OBJECTS, 1);

	if (vtmem_stage(vt, type, key, arg, NULL))
		return;
	/* A broken device gets no further gets, and is being reset. */
	if (vtmem_broken(vt))
		return;
	vtmem_drain(vt);
	if (vtmem_stage(vt, type, key, arg, NULL))
		return;
	vtmem_sync_begin(vt, &flags);
	vtmem_sync_op(vt, type, key, arg);
	vtmem_sync_run(vt);
	vtmem_sync_end(vt, flags);
}

/*
 * Before a get on queue 1: make sure that what was staged for the object is on
 * queue 0. The get's own doorbell has it executed.
 */
void vtmem_order(struct vtmem *vt, u32 pool, u64 object)
{
	atomic_t *owner = &vt->owner[vtmem_bucket(pool, object)];
	struct vtmem_staging *s;
	unsigned long flags;
	int v;

	smp_mb();	/* as in vtmem_staging_lock() */
	v = atomic_read(owner);
	if (!vtmem_owner_count(v))
		return;
	/* Another owner by the time of the lock: then that one has submitted. */
	s = &vt->staging[v >> VTMEM_OWNER_COUNT_BITS];
	spin_lock_irqsave(&s->lock, flags);
	if (vtmem_owner_count(atomic_read(owner)))
		vtmem_submit(s);
	spin_unlock_irqrestore(&s->lock, flags);
}

/* Process context. Everything that is staged now, to queue 0. */
void vtmem_submit_all(struct vtmem *vt)
{
	unsigned int i;

	for (i = 0; i < vt->nr_staging; i++) {
		struct vtmem_staging *s = &vt->staging[i];

		spin_lock_irq(&s->lock);
		vtmem_submit(s);
		spin_unlock_irq(&s->lock);
	}
}

/* Softirq. Nothing stays staged, and no answer unread, for longer than this. */
static void vtmem_staging_timer(struct timer_list *timer)
{
	struct vtmem_staging *s = from_timer(s, timer, timer);
	struct vtmem *vt = s->vt;
	bool busy = false;
	unsigned int i;

	spin_lock_irq(&s->lock);
	vtmem_submit(s);
	spin_unlock_irq(&s->lock);
	vtmem_put_notify(vt);
	vtmem_reap(vt);

	spin_lock_irq(&s->lock);
	for (i = 0; i < vt->nr_batches; i++)
		busy |= READ_ONCE(s->batches[i].state) ==
			VTMEM_BATCH_IN_FLIGHT;
	if (busy && !vtmem_broken(vt))
		mod_timer(&s->timer,
			  jiffies + msecs_to_jiffies(vtmem_flush_ms));
	spin_unlock_irq(&s->lock);
}

/*
 * From the worker that has just reset a broken device: what the host did not answer
 * it has not got. Swapped pages among that go to the disk. Nobody stages any more.
 */
void vtmem_staging_fail(struct vtmem *vt)
{
	unsigned int i, j, k;

	for (i = 0; i < vt->nr_staging; i++) {
		struct vtmem_staging *s = &vt->staging[i];

		spin_lock_irq(&s->lock);
		s->open = NULL;
		for (j = 0; j < vt->nr_batches; j++) {
			struct vtmem_batch *b = &s->batches[j];
			bool lost = false;

			if (b->state != VTMEM_BATCH_OPEN &&
			    b->state != VTMEM_BATCH_IN_FLIGHT)
				continue;
			b->state = VTMEM_BATCH_DONE;
			for (k = 0; k < b->nr_ops; k++) {
				b->ctl->results[k].status =
					cpu_to_le32(VTMEM_S_REFUSED);
				lost |= b->slot[k];
			}
			if (lost)
				vtmem_swap_batch_failed(vt, b);
			else
				vtmem_batch_free(vt, b);
		}
		spin_unlock_irq(&s->lock);
	}
}

/* Does the device have a batch? A snapshot, without locks. */
bool vtmem_under_way(struct vtmem *vt)
{
	unsigned int i, j;

	for (i = 0; i < vt->nr_staging; i++)
		for (j = 0; j < vt->nr_batches; j++)
			if (READ_ONCE(vt->staging[i].batches[j].state) ==
			    VTMEM_BATCH_IN_FLIGHT)
				return true;
	return false;
}

/* Is an answered batch being looked at, on another CPU or in this very moment? */
bool vtmem_reaping(struct vtmem *vt)
{
	unsigned int i, j;

	for (i = 0; i < vt->nr_staging; i++)
		for (j = 0; j < vt->nr_batches; j++) {
			struct vtmem_batch *b = &vt->staging[i].batches[j];

			/* Pairs with vtmem_batch_free(). */
			if (smp_load_acquire(&b->state) == VTMEM_BATCH_DONE)
				return true;
		}
	return false;
}

/* For debugfs: a snapshot, without locks. */
u64 vtmem_staged_pages(struct vtmem *vt)
{
	unsigned int i, j;
	u64 pages = 0;

	for (i = 0; i < vt->nr_staging; i++)
		for (j = 0; j < vt->nr_batches; j++) {
			struct vtmem_batch *b = &vt->staging[i].batches[j];

			if (READ_ONCE(b->state) != VTMEM_BATCH_FREE)
				pages += READ_ONCE(b->nr_puts);
		}
	return pages;
}

u64 vtmem_staging_bytes(struct vtmem *vt)
{
	u64 batches = (u64)vt->nr_staging * vt->nr_batches;

	return batches * (sizeof(struct vtmem_batch) + sizeof(struct vtmem_ctl)) +
	       (sizeof(*vt->owner) << VTMEM_OWNER_BITS) + vtmem_chunks_bytes(vt);
}

/*
 * How many stagings, batches and chunks. All batches together, with two descriptors
 * each and one for each of their chunks, fit on queue 0, so that submitting cannot fail
 * for want of room. Returns how many chunks at most.
 */
static unsigned int vtmem_staging_size(struct vtmem *vt, unsigned int ring_size)
{
	unsigned int chunks = vtmem_chunks_allowed();
	unsigned int batches;

	vt->nr_staging = min3(num_possible_cpus(), ring_size / 8,
			      max(chunks / 4, 1U));
	if (!vt->nr_staging)
		return 0;
	vt->nr_batches = clamp(vtmem_batches, 2U,
			       ring_size / (4 * vt->nr_staging));
	batches = vt->nr_staging * vt->nr_batches;
	return min3(chunks, ring_size - 2 * batches,
		    batches * VTMEM_BATCH_CHUNKS);
}

int vtmem_staging_init(struct vtmem *vt, unsigned int ring_size)
{
	unsigned int chunks = vtmem_staging_size(vt, ring_size);
	unsigned int i, j;

	if (chunks < VTMEM_BATCH_CHUNKS) {
		dev_err(&vt->vdev->dev, "queue 0 has only %u entries\n",
			ring_size);
		return -EINVAL;
	}
	vt->batch_ops = clamp(vtmem_batch, 1U, (unsigned int)VTMEM_BATCH_OPS);

	vt->owner = kvcalloc(1 << VTMEM_OWNER_BITS, sizeof(*vt->owner),
			     GFP_KERNEL);
	vt->staging = kcalloc(vt->nr_staging, sizeof(*vt->staging), GFP_KERNEL);
	if (!vt->owner || !vt->staging || vtmem_chunks_init(vt, chunks))
		goto nomem;

	for (i = 0; i < vt->nr_staging; i++) {
		struct vtmem_staging *s = &vt->staging[i];

		s->vt = vt;
		spin_lock_init(&s->lock);
		timer_setup(&s->timer, vtmem_staging_timer, 0);
		s->batches = kcalloc(vt->nr_batches, sizeof(*s->batches),
				     GFP_KERNEL);
		if (!s->batches)
			goto nomem;
		for (j = 0; j < vt->nr_batches; j++) {
			struct vtmem_batch *b = &s->batches[j];

			b->ctl = kzalloc(sizeof(*b->ctl), GFP_KERNEL);
			if (!b->ctl)
				goto nomem;
		}
	}
	return 0;

nomem:
	vtmem_staging_exit(vt);
	return -ENOMEM;
}

/* The device no longer reaches the batches, and nobody stages. */
void vtmem_staging_exit(struct vtmem *vt)
{
	unsigned int i, j;

	for (i = 0; vt->staging && i < vt->nr_staging; i++) {
		struct vtmem_staging *s = &vt->staging[i];

		if (s->vt)
			del_timer_sync(&s->timer);
		for (j = 0; s->batches && j < vt->nr_batches; j++) {
			vtmem_batch_give_chunks(vt, &s->batches[j]);
			kfree(s->batches[j].ctl);
		}
		kfree(s->batches);
	}
	vtmem_chunks_exit(vt);
	kfree(vt->staging);
	kvfree(vt->owner);
	vt->staging = NULL;
	vt->owner = NULL;
}
