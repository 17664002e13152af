// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/vtmemswap0: a block device to swap to, stacked over a real one.
 *
 * A page that is written is put, as long as there is credit: it is copied to staging,
 * and the write is complete, without an exit. Without credit, or without a device
 * that works, it goes to the real device at the same place: the regular
 * swap-out path. Slots that are freed are flushed. Slot 0, mkswap's header, is always
 * on the real device.
 *
 * slot_lock[] makes a change of a slot's entry and the staging of its operation one
 * step. It nests inside swap_info_struct.lock, from under which slots are freed.
 */
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "compat/compat.h"
#include "swap.h"

static struct workqueue_struct *vtmem_swap_wq;

/* To the real device, as it is. Process context; may sleep. */
void vtmem_swap_pass(struct vtmem_swap *sw, struct bio *bio)
{
	bio_set_dev(bio, sw->lower);
	submit_bio_noacct(bio);
}

/*
 * Credit comes with answers: read those that are there before giving up, and have the
 * host answer what is under way. That exit does the work of a doorbell. If the host had
 * none to give, it is not asked again before it has given some.
 */
static bool vtmem_swap_credit(struct vtmem *vt)
{
	if (vtmem_credit_take(vt))
		return true;
	if (vtmem_reap(vt) && vtmem_credit_take(vt))
		return true;
	if (READ_ONCE(vt->dry) || !vtmem_under_way(vt))
		return false;
	vtmem_drain(vt);
	if (vtmem_credit_take(vt))
		return true;
	WRITE_ONCE(vt->dry, true);
	return false;
}

/* Under the slot's lock. */
static bool vtmem_swap_put(struct vtmem_swap *sw, struct bio *bio,
			   const struct vtmem_key *key, u16 entry)
{
	struct vtmem *vt = sw->vt;

	if (vtmem_broken(vt) || !vtmem_swap_credit(vt))
		return false;
	if (vtmem_stage_bio(vt, key, bio, entry))
		return true;
	if (!vtmem_broken(vt)) {
		/* All batches are under way: the host executes them here and now. */
		vtmem_drain(vt);
		if (vtmem_stage_bio(vt, key, bio, entry))
			return true;
	}
	vtmem_credit_add(vt, 1);
	return false;
}

/* One page. Process context: reclaim, or swapdev's worker. */
void vtmem_swap_store(struct vtmem_swap *sw, struct bio *bio)
{
	sector_t slot = vtmem_slot(bio);
	struct vtmem_key key = vtmem_slot_key(sw, slot);
	spinlock_t *lock = vtmem_slot_lock(sw, slot);
	unsigned long flags;
	u16 entry, next;

	spin_lock_irqsave(lock, flags);
	entry = sw->slots[slot];
	if ((entry & VTMEM_SLOT_STATE) == VTMEM_SLOT_RESCUE) {
		/* The older page must not land on top of this one. */
		spin_unlock_irqrestore(lock, flags);
		vtmem_swap_defer(sw, bio);
		return;
	}

	next = vtmem_slot_next(entry, VTMEM_SLOT_HOST);
	/* What must be on the disk when it completes goes to the disk. */
	if (slot && !sw->dead && !sw->away && !op_is_flush(bio->bi_opf) &&
	    bio->bi_iter.bi_size == PAGE_SIZE &&
	    vtmem_swap_put(sw, bio, &key, next)) {
		sw->slots[slot] = next;
		vtmem_swap_ahead_drop(sw, slot);
		spin_unlock_irqrestore(lock, flags);
		vtmem_count(VTMEM_SWAP_STORES, 1);
		bio_endio(bio);
		return;
	}

	if ((entry & VTMEM_SLOT_STATE) == VTMEM_SLOT_HOST && !sw->dead)
		vtmem_flush(sw->vt, VTMEM_OP_FLUSH_PAGE, &key, 0);
	sw->slots[slot] = vtmem_slot_next(entry, VTMEM_SLOT_LOWER);
	vtmem_swap_ahead_drop(sw, slot);
	spin_unlock_irqrestore(lock, flags);
	vtmem_count(VTMEM_SWAP_STORES_LOWER, 1);
	vtmem_swap_pass(sw, bio);
}

/* The page of a slot is no longer needed. Any context. */
static void vtmem_swap_free_slot(struct vtmem_swap *sw, sector_t slot)
{
	struct vtmem_key key = vtmem_slot_key(sw, slot);
	spinlock_t *lock = vtmem_slot_lock(sw, slot);
	unsigned long flags;
	u16 entry;

	spin_lock_irqsave(lock, flags);
	entry = sw->slots[slot];
	switch (entry & VTMEM_SLOT_STATE) {
	case VTMEM_SLOT_HOST:
		if (!sw->dead)
			vtmem_flush(sw->vt, VTMEM_OP_FLUSH_PAGE, &key, 0);
		fallthrough;
	case VTMEM_SLOT_LOST:
		sw->slots[slot] = vtmem_slot_next(entry, VTMEM_SLOT_LOWER);
		vtmem_swap_ahead_drop(sw, slot);
		break;
	}
	spin_unlock_irqrestore(lock, flags);
}

static void vtmem_swap_discard(struct vtmem_swap *sw, struct bio *bio)
{
	sector_t slot = vtmem_slot(bio);
	sector_t end = bio_end_sector(bio) >> PAGE_SECTORS_SHIFT;

	for (; slot < end; slot++) {
		vtmem_swap_free_slot(sw, slot);
		cond_resched();
	}
	if (bdev_max_discard_sectors(sw->lower))
		vtmem_swap_pass(sw, bio);
	else
		bio_endio(bio);
}

/* Process context. */
static void vtmem_swap_submit_bio(struct bio *bio)
{
	struct vtmem_swap *sw = bio->bi_bdev->bd_disk->private_data;

	bio = bio_split_to_limits(bio);
	if (!bio)
		return;

	switch (bio_op(bio)) {
	case REQ_OP_READ:
		vtmem_swap_load(sw, bio);
		break;
	case REQ_OP_WRITE:
		if (bio_sectors(bio))
			vtmem_swap_store(sw, bio);
		else	/* an empty flush */
			vtmem_swap_pass(sw, bio);
		break;
	case REQ_OP_FLUSH:
		vtmem_swap_pass(sw, bio);
		break;
	case REQ_OP_DISCARD:
		vtmem_swap_discard(sw, bio);
		break;
	default:
		bio->bi_status = BLK_STS_NOTSUPP;
		bio_endio(bio);
	}
}

/* Under swap_info_struct.lock, perhaps page table locks too. */
static void vtmem_swap_slot_free_notify(struct block_device *bdev,
					unsigned long slot)
{
	struct vtmem_swap *sw = bdev->bd_disk->private_data;

	if (slot < sw->nr_slots)
		vtmem_swap_free_slot(sw, slot);
}

/* The last opener has gone. */
static void vtmem_swap_free_disk(struct gendisk *disk)
{
	struct vtmem_swap *sw = disk->private_data;

	vtmem_compat_bdev_close(sw->lower);
	vtmem_swap_ahead_exit(sw);
	kvfree(sw->slots);
	kfree(sw);
}

static const struct block_device_operations vtmem_swap_fops = {
	.owner = THIS_MODULE,
	.submit_bio = vtmem_swap_submit_bio,
	.swap_slot_free_notify = vtmem_swap_slot_free_notify,
	.free_disk = vtmem_swap_free_disk,
};

/*
 * Some persistent puts of a batch were refused, or never got to the host. Any context,
 * staging lock held among them. The worker frees the batch.
 */
void vtmem_swap_batch_failed(struct vtmem *vt, struct vtmem_batch *b)
{
	struct vtmem_swap *sw = vt->swap;
	unsigned long flags;

	b->state = VTMEM_BATCH_FAILED;
	spin_lock_irqsave(&sw->lock, flags);
	list_add_tail(&b->node, &sw->failed);
	spin_unlock_irqrestore(&sw->lock, flags);
	queue_work(vtmem_swap_wq, &sw->work);
}

void vtmem_swap_queue_work(struct vtmem_swap *sw)
{
	queue_work(vtmem_swap_wq, &sw->work);
}

/* Any context. The pool outlives vt->swap by less than its last flushes. */
bool vtmem_swap_uses(struct vtmem *vt, u32 pool)
{
	struct vtmem_swap *sw = READ_ONCE(vt->swap);

	return sw && sw->pool == pool;
}

u64 vtmem_swap_bytes(struct vtmem *vt)
{
	struct vtmem_swap *sw = vt->swap;

	return sw ? sizeof(*sw) + sw->nr_slots * sizeof(*sw->slots) +
		    vtmem_swap_ahead_bytes(sw) : 0;
}

int vtmem_swap_init(struct vtmem *vt, const char *path)
{
	struct vtmem_swap *sw;
	unsigned int i;
	int err;

	sw = kzalloc(sizeof(*sw), GFP_KERNEL);
	if (!sw)
		return -ENOMEM;
	sw->vt = vt;
	spin_lock_init(&sw->lock);
	for (i = 0; i < VTMEM_SLOT_LOCKS; i++)
		spin_lock_init(&sw->slot_lock[i]);
	INIT_LIST_HEAD(&sw->failed);
	bio_list_init(&sw->deferred);
	INIT_WORK(&sw->work, vtmem_swap_work);
	vtmem_swap_ahead_init(sw);
	vtmem_swap_home_init(sw);

	sw->lower = vtmem_compat_bdev_open(path, sw);
	if (IS_ERR(sw->lower)) {
		err = PTR_ERR(sw->lower);
		dev_err(&vt->vdev->dev,
			"cannot open %s to stack the swap device on (%d): is it there, and not in use?\n",
			path, err);
		goto free;
	}
	sw->nr_slots = bdev_nr_sectors(sw->lower) >> PAGE_SECTORS_SHIFT;
	if (!sw->nr_slots || bdev_logical_block_size(sw->lower) > PAGE_SIZE) {
		dev_err(&vt->vdev->dev, "%s is empty, or its blocks exceed a page\n",
			path);
		err = -EINVAL;
		goto close;
	}
	sw->slots = kvcalloc(sw->nr_slots, sizeof(*sw->slots), GFP_KERNEL);
	vtmem_swap_wq = alloc_ordered_workqueue("vtmemswap", WQ_MEM_RECLAIM);
	if (!sw->slots || !vtmem_swap_wq) {
		err = -ENOMEM;
		goto free_wq;
	}

	err = vtmem_pool_create(vt, VTMEM_POOL_PERSISTENT, &sw->pool);
	if (err) {
		dev_err(&vt->vdev->dev,
			"the host gives no pool for swapped pages (%d)\n", err);
		goto free_wq;
	}

	sw->disk = vtmem_compat_disk_alloc();
	if (!sw->disk) {
		err = -ENOMEM;
		goto destroy_pool;
	}
	sw->disk->flags |= GENHD_FL_NO_PART;
	sw->disk->fops = &vtmem_swap_fops;
	sw->disk->private_data = sw;
	strscpy(sw->disk->disk_name, "vtmemswap0", DISK_NAME_LEN);
	set_capacity(sw->disk, sw->nr_slots << PAGE_SECTORS_SHIFT);

	vt->swap = sw;
	err = add_disk(sw->disk);
	if (err) {
		vt->swap = NULL;
		/* Of a disk that was not added, ->free_disk() is not called. */
		put_disk(sw->disk);
		goto destroy_pool;
	}
	return 0;

destroy_pool:
	vtmem_pool_destroy(vt, sw->pool);
free_wq:
	if (vtmem_swap_wq)
		destroy_workqueue(vtmem_swap_wq);
	kvfree(sw->slots);
close:
	vtmem_compat_bdev_close(sw->lower);
free:
	kfree(sw);
	return err;
}

/* Stores and freed slots look at dead and away under a lock: they do so anew. */
void vtmem_swap_wait_stores(struct vtmem_swap *sw)
{
	unsigned int i;

	for (i = 0; i < VTMEM_SLOT_LOCKS; i++) {
		spin_lock_irq(&sw->slot_lock[i]);
		spin_unlock_irq(&sw->slot_lock[i]);
	}
}

/* All puts are answered, and those that were refused are on the real device. */
void vtmem_swap_settle(struct vtmem_swap *sw)
{
	vtmem_submit_all(sw->vt);
	vtmem_drain(sw->vt);
	while (vtmem_reaping(sw->vt))
		msleep(20);
	flush_workqueue(vtmem_swap_wq);
}

/* In turns with what is deferred. */
void vtmem_swap_queue_home(struct vtmem_swap *sw)
{
	queue_work(vtmem_swap_wq, &sw->home.work);
}

/*
 * The module cannot be unloaded while the disk is open, but a device can go. Then what
 * the host held is lost, reads of it fail, and sw lives until the last close.
 */
void vtmem_swap_exit(struct vtmem *vt)
{
	struct vtmem_swap *sw = vt->swap;

	if (!sw)
		return;

	del_gendisk(sw->disk);
	/* Stores and freed slots look at dead under a lock, loads under SRCU. */
	WRITE_ONCE(sw->dead, true);
	vtmem_swap_wait_stores(sw);
	vtmem_swap_wait_loads();
	vtmem_swap_ahead_stop(sw);

	/* What the host refuses now still goes to the real device. */
	vtmem_swap_settle(sw);
	vtmem_pool_destroy(vt, sw->pool);
	destroy_workqueue(vtmem_swap_wq);
	vt->swap = NULL;
	put_disk(sw->disk);
}
