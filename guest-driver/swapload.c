// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads of /dev/vtmemswap0, and second chances.
 *
 * Reads are collected by the reader's plug, as the kernel swaps in a cluster or a
 * neighbourhood, and fetched with one exit; swapahead.c has what came with them
 * unasked. What the host does not have after all is
 * for the worker: it first writes the pages of refused puts to the real device,
 * and then tries again. A page that is neither there nor here is an I/O error.
 */
#include <linux/blkdev.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "swap.h"

/*
 * Reads that a plug collects at most: what one chain takes. Each holds a locked page that
 * reclaim cannot have, while the reader goes on to allocate the next one. Without a bound,
 * MADV_WILLNEED of more than memory has the OOM killer strike with swap free. The block
 * layer bounds its own plugs for the same reason.
 */
#define VTMEM_PLUG_MAX		VTMEM_BATCH_OPS

struct vtmem_plug {
	struct blk_plug_cb cb;
	struct bio_list bios;
	unsigned int nr;	/* of bios */
};

/* Loads against vtmem_swap_exit(): a plugged bio does not keep the disk busy. */
DEFINE_STATIC_SRCU(vtmem_swap_srcu);

static u16 vtmem_slot_state(struct vtmem_swap *sw, sector_t slot)
{
	return READ_ONCE(sw->slots[slot]) & VTMEM_SLOT_STATE;
}

/*
 * To be tried again by the worker. Any context. There are no more of these than pages
 * whose puts were refused, unless the device broke: then the worker waits for its reset.
 */
void vtmem_swap_defer(struct vtmem_swap *sw, struct bio *bio)
{
	unsigned long flags;

	vtmem_count(VTMEM_SWAP_DEFERRED, 1);
	spin_lock_irqsave(&sw->lock, flags);
	bio_list_add(&sw->deferred, bio);
	spin_unlock_irqrestore(&sw->lock, flags);
	vtmem_swap_queue_work(sw);
}

static unsigned int vtmem_bio_segs(struct bio *bio)
{
	struct bvec_iter iter;
	struct bio_vec bv;
	unsigned int nr = 0;

	bio_for_each_bvec(bv, bio, iter)
		nr++;
	return nr;
}

/*
 * Take from bios as many as a chain can carry, and fetch them. loaded[i] says whether
 * the i-th of *taken was. Process context. After -EINPROGRESS the device has the pages
 * until vtmem_wait_reset(), so their bios must not end before.
 */
static int vtmem_swap_fetch(struct vtmem_swap *sw, struct bio_list *bios,
			    struct bio_list *taken, bool *loaded, bool may_sleep)
{
	struct vtmem *vt = sw->vt;
	unsigned int nr = 0, ahead = 0, added = 0, i;
	struct bvec_iter iter;
	unsigned long flags;
	struct bio_vec bv;
	struct bio *bio;
	int err;

	/* Pages that are still staged have to be on queue 0 before. */
	bio_list_for_each(bio, bios)
		vtmem_order(vt, sw->pool,
			    vtmem_slot(bio) >> VTMEM_SLOT_OBJECT_SHIFT);
	if (may_sleep)
		ahead = vtmem_swap_ahead_begin(sw,
					       vtmem_slot(bio_list_peek(bios)),
					       vtmem_slot(bios->tail));

	vtmem_sync_begin(vt, &flags);
	while ((bio = bio_list_peek(bios)) &&
	       vtmem_sync_has_room(vt, vtmem_bio_segs(bio))) {
		struct vtmem_key key = vtmem_slot_key(sw, vtmem_slot(bio));

		bio_list_add(taken, bio_list_pop(bios));
		vtmem_sync_op(vt, VTMEM_OP_GET, &key, 0);
		bio_for_each_bvec(bv, bio, iter)
			vtmem_sync_page(vt, bv.bv_page, bv.bv_offset, bv.bv_len);
		nr++;
	}
	if (bio_list_empty(bios))
		added = vtmem_swap_ahead_add(sw, ahead);
	err = vtmem_sync_run(vt);
	for (i = 0; i < nr && !err; i++)
		loaded[i] = vtmem_sync_status(vt, i) == VTMEM_S_OK;
	if (ahead)
		vtmem_swap_ahead_done(sw, nr, added, !err);
	vtmem_sync_end(vt, flags);

	if (!err) {
		vtmem_count(VTMEM_GETS, nr);
		vtmem_count(VTMEM_SWAP_LOADS, nr);
	}
	return err;
}

/*
 * Process context. All bios are of slots that the host should have. What it has is there
 * when this returns, for each of them holds a locked page.
 */
static void vtmem_swap_load_list(struct vtmem_swap *sw, struct bio_list *bios,
				 bool may_sleep)
{
	bool loaded[VTMEM_BATCH_OPS];
	struct bio_list taken;
	struct bio *bio;
	unsigned int i;
	int err, idx;

	idx = srcu_read_lock(&vtmem_swap_srcu);
	while (READ_ONCE(sw->dead) && (bio = bio_list_pop(bios)))
		bio_io_error(bio);
	while (!bio_list_empty(bios)) {
		bio_list_init(&taken);
		err = vtmem_swap_fetch(sw, bios, &taken, loaded, may_sleep);
		for (i = 0; (bio = bio_list_pop(&taken)); i++) {
			if (!err && loaded[i]) {
				vtmem_count(VTMEM_HITS, 1);
				bio_endio(bio);
				continue;
			}
			if (!err)
				vtmem_count(VTMEM_MISSES, 1);
			/* The refusal of its put is in the used ring by now. */
			vtmem_reap(sw->vt);
			vtmem_swap_defer(sw, bio);
		}
	}
	srcu_read_unlock(&vtmem_swap_srcu, idx);
}

/* After sw->dead was set: no load uses sw->vt any more. */
void vtmem_swap_wait_loads(void)
{
	synchronize_srcu(&vtmem_swap_srcu);
}

static void vtmem_swap_unplug(struct blk_plug_cb *cb, bool from_schedule)
{
	struct vtmem_plug *plug = container_of(cb, struct vtmem_plug, cb);
	struct vtmem_swap *sw = cb->data;

	/* From the scheduler the task is no longer in a state to sleep. */
	vtmem_swap_load_list(sw, &plug->bios, !from_schedule);
	kfree(plug);
}

/* One page. Process context. */
void vtmem_swap_load(struct vtmem_swap *sw, struct bio *bio)
{
	struct vtmem_plug *plug;
	struct blk_plug_cb *cb;
	struct bio_list bios;

	switch (vtmem_slot_state(sw, vtmem_slot(bio))) {
	case VTMEM_SLOT_LOWER:
		vtmem_count(VTMEM_SWAP_LOADS_LOWER, 1);
		vtmem_swap_pass(sw, bio);
		return;
	case VTMEM_SLOT_RESCUE:
		vtmem_swap_defer(sw, bio);
		return;
	case VTMEM_SLOT_LOST:
		bio_io_error(bio);
		return;
	}

	if (vtmem_swap_ahead_load(sw, bio))
		return;
	cb = blk_check_plugged(vtmem_swap_unplug, sw, sizeof(struct vtmem_plug));
	if (!cb) {
		bio_list_init(&bios);
		bio_list_add(&bios, bio);
		vtmem_swap_load_list(sw, &bios, true);
		return;
	}
	plug = container_of(cb, struct vtmem_plug, cb);
	bio_list_add(&plug->bios, bio);
	if (++plug->nr < VTMEM_PLUG_MAX || vtmem_left_out("plug"))
		return;
	/* The plug is the task's own, but a wait for the device may flush it meanwhile. */
	bios = plug->bios;
	bio_list_init(&plug->bios);
	plug->nr = 0;
	vtmem_swap_load_list(sw, &bios, true);
}

/* One page of a failed batch to the real device. */
static void vtmem_swap_rescue_page(struct vtmem_swap *sw, sector_t slot,
				   u16 stored, void *page)
{
	spinlock_t *lock = vtmem_slot_lock(sw, slot);
	u16 entry, state;
	int err;

	spin_lock_irq(lock);
	entry = sw->slots[slot];
	/* Freed or stored anew since: not needed. */
	if (entry != stored) {
		spin_unlock_irq(lock);
		return;
	}
	sw->slots[slot] = (entry & ~VTMEM_SLOT_STATE) | VTMEM_SLOT_RESCUE;
	spin_unlock_irq(lock);

	bio_init(&sw->rescue_bio, sw->lower, &sw->rescue_vec, 1, REQ_OP_WRITE);
	sw->rescue_bio.bi_iter.bi_sector = slot << PAGE_SECTORS_SHIFT;
	__bio_add_page(&sw->rescue_bio, virt_to_page(page), PAGE_SIZE, 0);
	err = submit_bio_wait(&sw->rescue_bio);
	bio_uninit(&sw->rescue_bio);

	state = err ? VTMEM_SLOT_LOST : VTMEM_SLOT_LOWER;
	vtmem_count(err ? VTMEM_SWAP_LOST : VTMEM_SWAP_RESCUES, 1);
	spin_lock_irq(lock);
	sw->slots[slot] = vtmem_slot_next(sw->slots[slot], state);
	spin_unlock_irq(lock);
}

static void vtmem_swap_rescue(struct vtmem_swap *sw, struct vtmem_batch *b)
{
	struct vtmem_ctl *ctl = b->ctl;
	unsigned int i, put = 0;

	for (i = 0; i < b->nr_ops; i++) {
		if (le16_to_cpu(ctl->ops[i].type) != VTMEM_OP_PUT)
			continue;
		if (b->slot[i] &&
		    le32_to_cpu(ctl->results[i].status) != VTMEM_S_OK)
			vtmem_swap_rescue_page(sw,
					       le64_to_cpu(ctl->ops[i].index),
					       b->slot[i],
					       vtmem_batch_page(b, put));
		put++;
	}
	vtmem_batch_free(sw->vt, b);
}

/* A deferred read, after everything that had to be rescued is. */
static void vtmem_swap_retry(struct vtmem_swap *sw, struct bio *bio)
{
	struct bio_list bios, taken;
	bool loaded;
	int err;

	if (vtmem_slot_state(sw, vtmem_slot(bio)) != VTMEM_SLOT_HOST) {
		vtmem_swap_load(sw, bio);
		return;
	}
	bio_list_init(&bios);
	bio_list_init(&taken);
	bio_list_add(&bios, bio);
	err = vtmem_swap_fetch(sw, &bios, &taken, &loaded, true);
	if (err == -EINPROGRESS)
		vtmem_wait_reset(sw->vt);
	if (!err && loaded) {
		vtmem_count(VTMEM_HITS, 1);
		bio_endio(bio);
		return;
	}
	/*
	 * Its put was executed before the first try, so if it was refused, the answer
	 * has been read, or is being read elsewhere.
	 */
	if (vtmem_reaping(sw->vt) || !list_empty_careful(&sw->failed) ||
	    vtmem_slot_state(sw, vtmem_slot(bio)) != VTMEM_SLOT_HOST) {
		vtmem_swap_defer(sw, bio);
		return;
	}
	vtmem_count(VTMEM_SWAP_LOST, 1);
	bio_io_error(bio);
}

/*
 * Worker with a rescuer thread, in the way of swap-out: allocates nothing of its own,
 * and what the lower device allocates comes from reserves.
 */
void vtmem_swap_work(struct work_struct *work)
{
	struct vtmem_swap *sw = container_of(work, struct vtmem_swap, work);
	unsigned int noreclaim = memalloc_noreclaim_save();
	struct vtmem_batch *b;
	struct bio_list bios;
	struct bio *bio;

	/* A broken device: its batches become failed ones before reset completes. */
	if (vtmem_broken(sw->vt))
		vtmem_wait_reset(sw->vt);

	spin_lock_irq(&sw->lock);
	bios = sw->deferred;
	bio_list_init(&sw->deferred);
	while ((b = list_first_entry_or_null(&sw->failed, struct vtmem_batch,
					     node))) {
		list_del_init(&b->node);
		spin_unlock_irq(&sw->lock);
		vtmem_swap_rescue(sw, b);
		spin_lock_irq(&sw->lock);
	}
	spin_unlock_irq(&sw->lock);

	while ((bio = bio_list_pop(&bios))) {
		if (op_is_write(bio_op(bio)))
			vtmem_swap_store(sw, bio);
		else
			vtmem_swap_retry(sw, bio);
	}
	memalloc_noreclaim_restore(noreclaim);
}
