// SPDX-License-Identifier: GPL-2.0-only
/*
 * Descriptor chains on queues 0 and 1.
 *
 * Queue 0 takes batches (staging.c) and answers when it likes. Nobody sleeps for
 * its answers, so its interrupt stays off: the used ring is read when the next
 * batch goes out, by the staging timer, and when room is short.
 *
 * Queue 1 is synchronous: the doorbell's exit executes the chain, and everything
 * that was available on queue 0 before it. The driver thus never waits for the
 * host with a lock held, beyond the length of that exit, and never allocates.
 */
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include <asm/unaligned.h>

#include "vtmem.h"

/*
 * A conforming device has answered when the doorbell returns. One that serves
 * queue 1 from a thread still works, slowly; one that does not answer for this
 * long is given up. Nor is there more time to find room for a chain where the device
 * reaches memory through bounce buffers: they may all be in use for a moment, by chains of
 * ours that the host is about to answer, or by other devices.
 */
#define VTMEM_ANSWER_NS		NSEC_PER_SEC

static bool vtmem_windows = true;
module_param_named(windows, vtmem_windows, bool, 0444);
MODULE_PARM_DESC(windows, "One chain for a readahead window or a swap cluster (default Y); N: one for each page, to measure what windows are worth");

void vtmem_credit_add(struct vtmem *vt, u64 pages)
{
	if (!pages)
		return;
	atomic64_add(pages, &vt->credit);
	WRITE_ONCE(vt->dry, false);
}

/* Spend one page of credit, if there is one. Any context. */
bool vtmem_credit_take(struct vtmem *vt)
{
	return atomic64_dec_if_positive(&vt->credit) >= 0;
}

void vtmem_fill_op(struct vtmem_op *op, u16 type, const struct vtmem_key *key,
		   u64 arg)
{
	__le64 object = cpu_to_le64(key->object);

	op->type = cpu_to_le16(type);
	op->flags = 0;
	op->pool = cpu_to_le32(key->pool);
	memset(op->object, 0, sizeof(op->object));
	memcpy(op->object, &object, sizeof(object));
	op->index = cpu_to_le64(key->index);
	op->arg = cpu_to_le64(arg);
}

/* An answer to a chain of nr operations that has the right shape. */
static bool vtmem_response_ok(struct vtmem_ctl *ctl, unsigned int nr,
			      unsigned int len)
{
	return len >= sizeof(ctl->resp) + nr * sizeof(ctl->results[0]) &&
	       le32_to_cpu(ctl->resp.nr_ops) == nr;
}

static bool vtmem_op_is_flush(u16 type)
{
	return type == VTMEM_OP_FLUSH_PAGE || type == VTMEM_OP_FLUSH_RANGE ||
	       type == VTMEM_OP_FLUSH_OBJECT;
}

/*
 * A flush that the host did not execute would let a stale page be read; unless it is of
 * an ephemeral pool that is not used any more, and so not known there.
 */
static void vtmem_check_flush(struct vtmem *vt, const struct vtmem_op *op,
			      u32 status)
{
	u32 pool = le32_to_cpu(op->pool);

	if (!vtmem_op_is_flush(le16_to_cpu(op->type)) ||
	    status == VTMEM_S_OK || status == VTMEM_S_ABSENT)
		return;
	if (status == VTMEM_S_INVALID && !vtmem_mounts_use(pool) &&
	    !vtmem_swap_uses(vt, pool))
		return;
	vtmem_break(vt, "the host did not execute a flush");
}

/*
 * Queue 0
 */

static bool vtmem_wait_for_maps(struct vtmem *vt, u64 start);

/*
 * Make a batch available, in order, without ringing. Called under the staging
 * lock, which nests outside put_lock. False if the device is broken; the batch
 * is then dealt with by vtmem_staging_fail().
 */
bool vtmem_put_submit(struct vtmem *vt, struct vtmem_batch *b)
{
	struct vtmem_ctl *ctl = b->ctl;
	struct scatterlist req, data[VTMEM_BATCH_CHUNKS], resp;
	struct scatterlist *sgs[2 + VTMEM_BATCH_CHUNKS];
	unsigned int out = 0, put, nr;
	int err = -EIO;
	u64 start;

	ctl->req.nr_ops = cpu_to_le32(b->nr_ops);
	ctl->req.flags = 0;
	ctl->resp.nr_ops = 0;

	sg_init_one(&req, &ctl->req,
		    sizeof(ctl->req) + b->nr_ops * sizeof(ctl->ops[0]));
	sgs[out++] = &req;
	for (put = 0; put < b->nr_puts; put += nr) {
		struct scatterlist *sg = &data[put / VTMEM_CHUNK_PAGES];

		nr = min_t(unsigned int, b->nr_puts - put, VTMEM_CHUNK_PAGES);
		sg_init_one(sg, vtmem_batch_page(b, put), nr * VTMEM_PAGE_SIZE);
		sgs[out++] = sg;
	}
	sg_init_one(&resp, &ctl->resp,
		    sizeof(ctl->resp) + b->nr_ops * sizeof(ctl->results[0]));
	sgs[out] = &resp;

	start = ktime_get_mono_fast_ns();
	do {
		spin_lock(&vt->put_lock);
		if (!vtmem_broken(vt))
			err = virtqueue_add_sgs(vt->vq[VTMEM_QUEUE_PUT], sgs,
						out, 1, b, GFP_ATOMIC);
		spin_unlock(&vt->put_lock);
	} while (err == -ENOMEM && vtmem_wait_for_maps(vt, start));

	if (err) {
		/* The ring holds every batch there is (vtmem_staging_init). */
		vtmem_break(vt, "queue 0 takes no more chains");
		return false;
	}
	vtmem_count(VTMEM_CHAINS_PUT, 1);
	return true;
}

/* Ring queue 0, if the device wants to hear. Any context. */
void vtmem_put_notify(struct vtmem *vt)
{
	struct virtqueue *vq = vt->vq[VTMEM_QUEUE_PUT];
	unsigned long flags;
	bool kick = false;

	spin_lock_irqsave(&vt->put_lock, flags);
	if (!vtmem_broken(vt))
		kick = virtqueue_kick_prepare(vq);
	spin_unlock_irqrestore(&vt->put_lock, flags);

	if (kick) {
		vtmem_count(VTMEM_DOORBELLS_PUT, 1);
		virtqueue_notify(vq);
	}
}

/* A page of a file that the host has not taken. */
static void vtmem_presence_clear_op(const struct vtmem_op *op)
{
	const struct vtmem_key key = {
		.pool = le32_to_cpu(op->pool),
		.object = get_unaligned_le64(op->object),
		.index = le64_to_cpu(op->index),
	};

	vtmem_presence_clear(&key, 1);
}

/*
 * The device is done with a batch. Runs without locks of ours, or under a staging
 * lock: what needs more than counting goes to swapdev's worker.
 */
static void vtmem_put_done(struct vtmem *vt, struct vtmem_batch *b,
			   unsigned int len)
{
	struct vtmem_ctl *ctl = b->ctl;
	bool lost = false;
	unsigned int i;

	if (!vtmem_response_ok(ctl, b->nr_ops, len)) {
		vtmem_break(vt, "malformed response on queue 0");
		for (i = 0; i < b->nr_ops; i++)
			ctl->results[i].status = cpu_to_le32(VTMEM_S_INVALID);
	} else {
		vtmem_credit_add(vt, le32_to_cpu(ctl->resp.credit));
	}

	for (i = 0; i < b->nr_ops; i++) {
		u32 status = le32_to_cpu(READ_ONCE(ctl->results[i].status));

		vtmem_check_flush(vt, &ctl->ops[i], status);
		if (le16_to_cpu(ctl->ops[i].type) != VTMEM_OP_PUT ||
		    status == VTMEM_S_OK)
			continue;
		vtmem_count(VTMEM_PUTS_REFUSED, 1);
		lost |= b->slot[i];
		if (!b->slot[i])
			vtmem_presence_clear_op(&ctl->ops[i]);
	}

	if (lost)
		vtmem_swap_batch_failed(vt, b);
	else
		vtmem_batch_free(vt, b);
}

/*
 * Collect finished batches. Any context, also under a staging lock. True if there
 * was one.
 */
bool vtmem_reap(struct vtmem *vt)
{
	struct vtmem_batch *b;
	unsigned long flags;
	unsigned int len;
	bool any = false;

	for (;;) {
		b = NULL;
		spin_lock_irqsave(&vt->put_lock, flags);
		if (!vtmem_broken(vt))
			b = virtqueue_get_buf(vt->vq[VTMEM_QUEUE_PUT], &len);
		/* No longer in flight: vtmem_staging_fail() is not to touch it. */
		if (b)
			WRITE_ONCE(b->state, VTMEM_BATCH_DONE);
		spin_unlock_irqrestore(&vt->put_lock, flags);
		if (!b)
			return any;
		vtmem_put_done(vt, b, len);
		any = true;
	}
}

/*
 * No bounce buffer for a chain: have the host answer what it has, and take that. Any
 * context, a staging lock or get_lock held. False: it has been long enough since start.
 */
static bool vtmem_wait_for_maps(struct vtmem *vt, u64 start)
{
	vtmem_put_notify(vt);
	if (!vtmem_reap(vt))
		udelay(5);
	return !vtmem_broken(vt) &&
	       ktime_get_mono_fast_ns() - start < VTMEM_ANSWER_NS;
}

void vtmem_put_callback(struct virtqueue *vq)
{
	vtmem_reap(vq->vdev->priv);
}

/*
 * Queue 1. begin, then operations and the pages for gets, then run, then statuses,
 * then end. get_lock is held and interrupts are off all the way: i_pages locks,
 * which interrupts take, nest outside of get_lock.
 */
void vtmem_sync_begin(struct vtmem *vt, unsigned long *flags)
	__acquires(&vt->get_lock)
{
	spin_lock_irqsave(&vt->get_lock, *flags);
	vt->get_ops = 0;
	vt->get_segs = 0;
}

bool vtmem_sync_has_room(struct vtmem *vt, unsigned int segs)
{
	return vt->get_ops < (vtmem_windows ? VTMEM_BATCH_OPS : 1) &&
	       vt->get_segs + segs <= VTMEM_GET_SEGS;
}

unsigned int vtmem_sync_op(struct vtmem *vt, u16 type,
			   const struct vtmem_key *key, u64 arg)
{
	unsigned int i = vt->get_ops++;

	vtmem_fill_op(&vt->get_ctl->ops[i], type, key, arg);
	vt->get_ctl->results[i].status = cpu_to_le32(VTMEM_S_INVALID);
	return i;
}

/* Where the last get's page, or its next piece, is to go. */
void vtmem_sync_page(struct vtmem *vt, struct page *page, unsigned int offset,
		     unsigned int len)
{
	struct scatterlist *sg = &vt->get_in[vt->get_segs];

	/* get_in[0] is the response; neighbours in memory share a descriptor. */
	if (vt->get_segs &&
	    sg_phys(sg) + sg->length == page_to_phys(page) + offset) {
		sg->length += len;
		return;
	}
	vt->get_segs++;
	sg_set_page(sg + 1, page, len, offset);
}

/*
 * 0: executed. -EIO: not executed, and the device has nothing of it.
 * -EINPROGRESS: no answer; before the pages of the chain may be used again,
 * call vtmem_wait_reset().
 */
int vtmem_sync_run(struct vtmem *vt)
{
	struct virtqueue *vq = vt->vq[VTMEM_QUEUE_GET];
	struct vtmem_ctl *ctl = vt->get_ctl;
	struct scatterlist *sgs[] = { &vt->get_out, &vt->get_in[0] };
	struct scatterlist *last = &vt->get_in[vt->get_segs];
	unsigned int nr = vt->get_ops;
	unsigned int len, i;
	u64 start;
	int err;

	if (vtmem_broken(vt))
		return -EIO;

	ctl->req.nr_ops = cpu_to_le32(nr);
	ctl->req.flags = 0;
	ctl->resp.nr_ops = 0;
	sg_init_one(&vt->get_out, &ctl->req,
		    sizeof(ctl->req) + nr * sizeof(ctl->ops[0]));
	sg_set_buf(&vt->get_in[0], &ctl->resp,
		   sizeof(ctl->resp) + nr * sizeof(ctl->results[0]));

	start = ktime_get_mono_fast_ns();
	sg_mark_end(last);
	do {
		err = virtqueue_add_sgs(vq, sgs, 1, 1, vt, GFP_ATOMIC);
	} while (err == -ENOMEM && vtmem_wait_for_maps(vt, start));
	sg_unmark_end(last);
	if (err) {
		vtmem_break(vt, "queue 1 takes no chain");
		return -EIO;
	}
	vtmem_count(VTMEM_CHAINS_GET, 1);
	vtmem_count(VTMEM_DOORBELLS_GET, 1);

	/* Ring in any case: the exit is what executes the chain. */
	virtqueue_kick_prepare(vq);
	virtqueue_notify(vq);

	start = ktime_get_mono_fast_ns();
	while (!virtqueue_get_buf(vq, &len)) {
		if (virtqueue_is_broken(vq) ||
		    ktime_get_mono_fast_ns() - start > VTMEM_ANSWER_NS) {
			vtmem_break(vt, "no answer on queue 1");
			return -EINPROGRESS;
		}
		udelay(1);
	}

	if (!vtmem_response_ok(ctl, nr, len)) {
		vtmem_break(vt, "malformed response on queue 1");
		return -EIO;
	}
	vtmem_credit_add(vt, le32_to_cpu(ctl->resp.credit));
	for (i = 0; i < nr; i++)
		vtmem_check_flush(vt, &ctl->ops[i], vtmem_sync_status(vt, i));
	return 0;
}

u32 vtmem_sync_status(struct vtmem *vt, unsigned int op)
{
	return le32_to_cpu(READ_ONCE(vt->get_ctl->results[op].status));
}

u32 vtmem_sync_value(struct vtmem *vt, unsigned int op)
{
	return le32_to_cpu(READ_ONCE(vt->get_ctl->results[op].value));
}

void vtmem_sync_end(struct vtmem *vt, unsigned long flags)
	__releases(&vt->get_lock)
{
	spin_unlock_irqrestore(&vt->get_lock, flags);
}

/*
 * Have the host execute everything on queue 0 now, and collect the answers. Works
 * in any context and allocates nothing; costs one exit.
 */
void vtmem_drain(struct vtmem *vt)
{
	static const struct vtmem_key none;
	unsigned long flags;

	vtmem_count(VTMEM_DRAINS, 1);
	vtmem_sync_begin(vt, &flags);
	vtmem_sync_op(vt, VTMEM_OP_NOP, &none, 0);
	vtmem_sync_run(vt);
	vtmem_sync_end(vt, flags);
	vtmem_reap(vt);
}

int vtmem_pool_create(struct vtmem *vt, u64 kind, u32 *pool)
{
	static const struct vtmem_key none;
	unsigned long flags;
	unsigned int op;
	int err;

	vtmem_sync_begin(vt, &flags);
	op = vtmem_sync_op(vt, VTMEM_OP_NEW_POOL, &none, kind);
	err = vtmem_sync_run(vt);
	if (!err) {
		if (vtmem_sync_status(vt, op) == VTMEM_S_OK)
			*pool = vtmem_sync_value(vt, op);
		else
			err = -ENOSPC;
	}
	vtmem_sync_end(vt, flags);
	return err;
}

/* The caller has seen to it that nobody stages for the pool any more. */
void vtmem_pool_destroy(struct vtmem *vt, u32 pool)
{
	const struct vtmem_key key = { .pool = pool };
	unsigned long flags;

	vtmem_submit_all(vt);
	vtmem_sync_begin(vt, &flags);
	vtmem_sync_op(vt, VTMEM_OP_DESTROY_POOL, &key, 0);
	vtmem_sync_run(vt);
	vtmem_sync_end(vt, flags);
	vtmem_reap(vt);
}
