// SPDX-License-Identifier: GPL-2.0-only
/*
 * Chunks: memory for pages that are under way to the host.
 *
 * Puts come from reclaim, with locks held and interrupts off, where nothing can be
 * allocated. So there is a stock of chunks of VTMEM_CHUNK_PAGES pages, which batches
 * draw from as they fill and give back when they were answered. The stock is small
 * while nothing is put. A worker adds to it when half of it is in use, up to a share of
 * the guest's memory; what nobody needed for a while goes back to the kernel.
 *
 * vtmem_chunks.lock is innermost, interrupts off.
 */
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>

#include "vtmem.h"

/* One batch can fill, whatever else is under way. */
#define VTMEM_CHUNKS_MIN	VTMEM_BATCH_CHUNKS
/* What every guest may have, however small: a doorbell is to be worth 64 puts. */
#define VTMEM_CHUNKS_SMALL	(2 * VTMEM_BATCH_CHUNKS)
#define VTMEM_CHUNKS_IDLE	(10 * HZ)

static unsigned int vtmem_staging_kb;
module_param_named(staging_kb, vtmem_staging_kb, uint, 0444);
MODULE_PARM_DESC(staging_kb, "Memory in KiB at most for pages under way to the host (default: 1/512 of memory, 512 at least)");

/* A chunk that nobody has: the next one is written in it. */
struct vtmem_free_chunk {
	struct vtmem_free_chunk *next;
};

/* Under the lock. */
static void vtmem_chunks_push(struct vtmem_chunks *c, void *chunk)
{
	struct vtmem_free_chunk *free = chunk;

	free->next = c->free;
	c->free = free;
	c->nr_free++;
}

static void *vtmem_chunks_pop(struct vtmem_chunks *c)
{
	struct vtmem_free_chunk *free = c->free;

	if (!free)
		return NULL;
	c->free = free->next;
	c->nr_free--;
	c->least_free = min(c->least_free, c->nr_free);
	return free;
}

/* Any context. NULL when all are in use. */
void *vtmem_chunk_take(struct vtmem *vt)
{
	struct vtmem_chunks *c = &vt->chunks;
	unsigned long flags;
	bool grow;
	void *chunk;

	spin_lock_irqsave(&c->lock, flags);
	chunk = vtmem_chunks_pop(c);
	grow = 2 * c->nr_free < c->nr && c->nr < c->max;
	spin_unlock_irqrestore(&c->lock, flags);

	if (grow)
		schedule_work(&c->grow);
	return chunk;
}

/* Any context. */
void vtmem_chunk_give(struct vtmem *vt, void *chunk)
{
	struct vtmem_chunks *c = &vt->chunks;
	unsigned long flags;

	spin_lock_irqsave(&c->lock, flags);
	vtmem_chunks_push(c, chunk);
	spin_unlock_irqrestore(&c->lock, flags);
}

/* Is so much in use that the host should be asked to hurry? A snapshot. */
bool vtmem_chunks_short(struct vtmem *vt)
{
	return 4 * READ_ONCE(vt->chunks.nr_free) < READ_ONCE(vt->chunks.nr);
}

u64 vtmem_chunks_bytes(struct vtmem *vt)
{
	return (u64)READ_ONCE(vt->chunks.nr) << VTMEM_CHUNK_ORDER << PAGE_SHIFT;
}

/* Process context. Adds a chunk, if there is memory to spare for it. */
static bool vtmem_chunks_add(struct vtmem_chunks *c, gfp_t gfp)
{
	struct page *pages = alloc_pages(gfp, VTMEM_CHUNK_ORDER);

	if (!pages)
		return false;
	spin_lock_irq(&c->lock);
	vtmem_chunks_push(c, page_address(pages));
	c->nr++;
	spin_unlock_irq(&c->lock);
	return true;
}

/* Twice as many as there are. Who puts meanwhile does with what there is. */
static void vtmem_chunks_grow(struct work_struct *work)
{
	struct vtmem_chunks *c = container_of(work, struct vtmem_chunks, grow);
	unsigned int nr = min(2 * c->nr, c->max);

	while (c->nr < nr)
		if (!vtmem_chunks_add(c, GFP_KERNEL | __GFP_NORETRY |
				      __GFP_NOWARN | __GFP_NOMEMALLOC))
			break;
	mod_delayed_work(system_wq, &c->trim, VTMEM_CHUNKS_IDLE);
	vtmem_memory_tell(container_of(c, struct vtmem, chunks));
}

/* What was free all the time since the last look, or since the stock grew, goes. */
static void vtmem_chunks_trim(struct work_struct *work)
{
	struct vtmem_chunks *c = container_of(to_delayed_work(work),
					      struct vtmem_chunks, trim);
	unsigned int spare, i;
	void *chunk;

	spin_lock_irq(&c->lock);
	spare = min(c->least_free, c->nr - c->min);
	spin_unlock_irq(&c->lock);

	for (i = 0; i < spare; i++) {
		spin_lock_irq(&c->lock);
		chunk = vtmem_chunks_pop(c);
		if (chunk)
			c->nr--;
		spin_unlock_irq(&c->lock);
		if (!chunk)
			break;
		free_pages((unsigned long)chunk, VTMEM_CHUNK_ORDER);
	}

	spin_lock_irq(&c->lock);
	c->least_free = c->nr_free;
	spin_unlock_irq(&c->lock);
	if (c->nr > c->min)
		schedule_delayed_work(&c->trim, VTMEM_CHUNKS_IDLE);
	if (spare)
		vtmem_memory_tell(container_of(c, struct vtmem, chunks));
}

/* How many the guest's memory allows. */
unsigned int vtmem_chunks_allowed(void)
{
	u64 bytes = (u64)vtmem_staging_kb << 10;

	if (!bytes)
		bytes = max_t(u64, totalram_pages() * PAGE_SIZE / 512,
			      VTMEM_CHUNKS_SMALL * VTMEM_CHUNK_PAGES *
				      PAGE_SIZE);
	return clamp_t(u64, bytes >> VTMEM_CHUNK_ORDER >> PAGE_SHIFT,
		       VTMEM_CHUNKS_MIN, UINT_MAX / 2);
}

/* At probe; @max is VTMEM_BATCH_CHUNKS at least. */
int vtmem_chunks_init(struct vtmem *vt, unsigned int max)
{
	struct vtmem_chunks *c = &vt->chunks;

	spin_lock_init(&c->lock);
	INIT_WORK(&c->grow, vtmem_chunks_grow);
	INIT_DELAYED_WORK(&c->trim, vtmem_chunks_trim);
	c->min = VTMEM_CHUNKS_MIN;
	c->max = max;
	while (c->nr < c->min)
		if (!vtmem_chunks_add(c, GFP_KERNEL))
			return -ENOMEM;
	c->least_free = c->nr_free;
	return 0;
}

/* All that were taken have been given back, and nobody takes any more. */
void vtmem_chunks_exit(struct vtmem *vt)
{
	struct vtmem_chunks *c = &vt->chunks;
	void *chunk;

	/* It was never begun. */
	if (!c->max)
		return;
	cancel_work_sync(&c->grow);
	cancel_delayed_work_sync(&c->trim);
	while ((chunk = vtmem_chunks_pop(c)))
		free_pages((unsigned long)chunk, VTMEM_CHUNK_ORDER);
}
