// SPDX-License-Identifier: GPL-2.0-only
/*
 * Swapped pages back from the host to the real device, all of them, before the guest sleeps.
 *
 * First nothing is put any more, and all puts are answered, so that a slot's entry says
 * where its page is. Then runs of neighbours are fetched and written, by the worker that
 * does what may sleep, in turns with its other work: meanwhile their slots are marked as
 * those of refused puts are, so that reads of them wait and stores do not overtake.
 */
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>

#include "swap.h"

/* How often a long way home says where it is. */
#define VTMEM_HOME_TELL		(5 * HZ)

/* From home.next on: the next run of slots that the host has. Returns how many. */
static unsigned int vtmem_swap_home_claim(struct vtmem_swap *sw)
{
	unsigned int nr = 0;

	while (nr < VTMEM_HOME_PAGES && sw->home.next + nr < sw->nr_slots) {
		sector_t slot = sw->home.next + nr;
		spinlock_t *lock = vtmem_slot_lock(sw, slot);
		bool host;
		u16 entry;

		spin_lock_irq(lock);
		entry = sw->slots[slot];
		host = (entry & VTMEM_SLOT_STATE) == VTMEM_SLOT_HOST;
		if (host)
			sw->slots[slot] = (entry & ~VTMEM_SLOT_STATE) |
					  VTMEM_SLOT_RESCUE;
		spin_unlock_irq(lock);
		cond_resched();
		if (host) {
			nr++;
			continue;
		}
		if (nr)
			break;
		sw->home.next++;
	}
	return nr;
}

static int vtmem_swap_home_fetch(struct vtmem_swap *sw, unsigned int nr)
{
	struct vtmem *vt = sw->vt;
	unsigned int done, i, ops;
	unsigned long flags;
	int err = 0;

	for (done = 0; done < nr && !err; done += ops) {
		vtmem_sync_begin(vt, &flags);
		for (ops = 0; done + ops < nr && vtmem_sync_has_room(vt, 1); ops++) {
			struct vtmem_key key =
				vtmem_slot_key(sw, sw->home.next + done + ops);

			vtmem_sync_op(vt, VTMEM_OP_GET, &key, 0);
			vtmem_sync_page(vt, sw->home.page[done + ops], 0, PAGE_SIZE);
		}
		err = vtmem_sync_run(vt);
		for (i = 0; i < ops && !err; i++)
			if (vtmem_sync_status(vt, i) != VTMEM_S_OK)
				err = -EIO;
		vtmem_sync_end(vt, flags);
	}
	if (err == -EINPROGRESS)
		vtmem_wait_reset(vt);
	return err;
}

static int vtmem_swap_home_write(struct vtmem_swap *sw, unsigned int nr)
{
	struct bio *bio = bio_alloc(sw->lower, nr, REQ_OP_WRITE, GFP_NOIO);
	unsigned int i;
	int err;

	bio->bi_iter.bi_sector = sw->home.next << PAGE_SECTORS_SHIFT;
	for (i = 0; i < nr; i++)
		__bio_add_page(bio, sw->home.page[i], PAGE_SIZE, 0);
	err = submit_bio_wait(bio);
	bio_put(bio);
	return err;
}

/* They are home; or where they were. */
static void vtmem_swap_home_release(struct vtmem_swap *sw, unsigned int nr,
				    bool home)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		sector_t slot = sw->home.next + i;
		struct vtmem_key key = vtmem_slot_key(sw, slot);
		spinlock_t *lock = vtmem_slot_lock(sw, slot);
		u16 entry;

		spin_lock_irq(lock);
		entry = sw->slots[slot];
		if (home) {
			sw->slots[slot] = vtmem_slot_next(entry, VTMEM_SLOT_LOWER);
			vtmem_flush(sw->vt, VTMEM_OP_FLUSH_PAGE, &key, 0);
			vtmem_swap_ahead_drop(sw, slot);
		} else {
			sw->slots[slot] = (entry & ~VTMEM_SLOT_STATE) |
					  VTMEM_SLOT_HOST;
		}
		spin_unlock_irq(lock);
	}
	if (home) {
		WRITE_ONCE(sw->home.pages, sw->home.pages + nr);
		vtmem_count(VTMEM_SWAP_HOMED, nr);
	}
}

/* One run. */
static void vtmem_swap_home_work(struct work_struct *work)
{
	struct vtmem_swap *sw = container_of(work, struct vtmem_swap, home.work);
	unsigned int noio = memalloc_noio_save();
	unsigned int nr = vtmem_swap_home_claim(sw);

	if (nr) {
		sw->home.err = vtmem_swap_home_fetch(sw, nr);
		if (!sw->home.err)
			sw->home.err = vtmem_swap_home_write(sw, nr);
		vtmem_swap_home_release(sw, nr, !sw->home.err);
		sw->home.next += nr;
		/* Reads that waited for these. */
		vtmem_swap_queue_work(sw);
	}
	memalloc_noio_restore(noio);
	if (nr && !sw->home.err)
		vtmem_swap_queue_home(sw);
	else
		complete(&sw->home.done);
}

static void vtmem_swap_home_free(struct vtmem_swap *sw)
{
	unsigned int i;

	for (i = 0; i < VTMEM_HOME_PAGES; i++) {
		if (sw->home.page[i])
			__free_page(sw->home.page[i]);
		sw->home.page[i] = NULL;
	}
}

static int vtmem_swap_home_alloc(struct vtmem_swap *sw)
{
	unsigned int i;

	for (i = 0; i < VTMEM_HOME_PAGES; i++) {
		sw->home.page[i] = alloc_page(GFP_KERNEL);
		if (!sw->home.page[i]) {
			vtmem_swap_home_free(sw);
			return -ENOMEM;
		}
	}
	return 0;
}

static int vtmem_swap_home(struct vtmem_swap *sw)
{
	int err = vtmem_swap_home_alloc(sw);

	if (err)
		return err;
	/* Slot 0 is mkswap's header. */
	sw->home.next = 1;
	sw->home.pages = 0;
	sw->home.err = 0;
	reinit_completion(&sw->home.done);
	vtmem_swap_queue_home(sw);
	while (!wait_for_completion_timeout(&sw->home.done, VTMEM_HOME_TELL))
		dev_info(&sw->vt->vdev->dev,
			 "%llu swapped pages are back from the host\n",
			 READ_ONCE(sw->home.pages));
	vtmem_swap_home_free(sw);
	return sw->home.err;
}

/*
 * Process context. 0: nothing is at the host, and nothing will be until
 * vtmem_swap_return(). A device that is broken has nothing to bring home.
 */
int vtmem_swap_leave(struct vtmem *vt)
{
	struct vtmem_swap *sw = vt->swap;
	int err = 0;

	if (!sw)
		return 0;
	WRITE_ONCE(sw->away, true);
	vtmem_swap_wait_stores(sw);
	vtmem_swap_settle(sw);
	if (!vtmem_broken(vt) && !vtmem_left_out("suspend"))
		err = vtmem_swap_home(sw);
	/* The flushes. */
	vtmem_swap_settle(sw);
	return err;
}

/* The host knows the pool no more, if the guest slept. */
void vtmem_swap_return(struct vtmem *vt)
{
	struct vtmem_swap *sw = vt->swap;

	int err;

	if (!sw || vtmem_broken(vt))
		return;
	sw->no_pool |= vt->was_reset;
	if (sw->no_pool) {
		err = vtmem_pool_create(vt, VTMEM_POOL_PERSISTENT, &sw->pool);
		if (err) {
			dev_err(&vt->vdev->dev,
				"the host gives no pool for swapped pages any more (%d): they go to the disk\n",
				err);
			return;
		}
		sw->no_pool = false;
	}
	WRITE_ONCE(sw->away, false);
}

void vtmem_swap_home_init(struct vtmem_swap *sw)
{
	INIT_WORK(&sw->home.work, vtmem_swap_home_work);
	init_completion(&sw->home.done);
}
