// SPDX-License-Identifier: GPL-2.0-only
/*
 * Swapped pages fetched ahead: a small buffer of what /dev/vtmemswap0 will be asked for
 * next.
 *
 * The swap cache is not ours to fill, so pages that come with others wait here. The host
 * keeps its copy, so one may be dropped at any time: nothing rests on them.
 *
 * The page of slot s has place s % VTMEM_AHEAD. It is allocated when it is first used, and
 * given back when none was for a while. A slot that is
 * stored or freed drops it. Fetching, in order: claim the place for the slot; look
 * that the host has the slot; submit what is staged for it; fetch; and the page is valid
 * if the place is still claimed. A store changes the slot's entry, then looks at
 * the place: it sees the claim, or the claimant sees its entry and fetches after it.
 *
 * One task fetches ahead at a time; others do without. ahead.lock is innermost.
 */
#include <linux/highmem.h>

#include "swap.h"

#define VTMEM_AHEAD_IDLE	(10 * HZ)

static unsigned int vtmem_place(sector_t slot)
{
	return slot % VTMEM_AHEAD;
}

/* Any context, under the slot's lock: its entry has changed. */
void vtmem_swap_ahead_drop(struct vtmem_swap *sw, sector_t slot)
{
	unsigned int place = vtmem_place(slot);
	unsigned long flags;

	smp_mb();	/* pairs with the one in vtmem_swap_ahead_claim() */
	if (READ_ONCE(sw->ahead.slot[place]) != slot)
		return;
	spin_lock_irqsave(&sw->ahead.lock, flags);
	if (sw->ahead.slot[place] == slot) {
		WRITE_ONCE(sw->ahead.slot[place], 0);
		__clear_bit(place, sw->ahead.valid);
	}
	spin_unlock_irqrestore(&sw->ahead.lock, flags);
}

/* A read of one page. True: it was here, and the bio has ended. */
bool vtmem_swap_ahead_load(struct vtmem_swap *sw, struct bio *bio)
{
	sector_t slot = vtmem_slot(bio);
	unsigned int place = vtmem_place(slot);
	struct bvec_iter iter;
	struct bio_vec bv;
	unsigned long flags;
	bool valid;
	void *from;

	if (READ_ONCE(sw->ahead.slot[place]) != slot ||
	    bio->bi_iter.bi_size != PAGE_SIZE)
		return false;
	spin_lock_irqsave(&sw->ahead.lock, flags);
	valid = sw->ahead.slot[place] == slot && test_bit(place, sw->ahead.valid);
	if (valid) {
		from = page_address(sw->ahead.page[place]);
		bio_for_each_segment(bv, bio, iter) {
			memcpy_to_bvec(&bv, from);
			from += bv.bv_len;
		}
	}
	spin_unlock_irqrestore(&sw->ahead.lock, flags);
	if (!valid)
		return false;
	vtmem_count(VTMEM_SWAP_LOADS, 1);
	vtmem_count(VTMEM_SWAP_LOADS_AHEAD, 1);
	bio_endio(bio);
	return true;
}

/*
 * A page for the place. Reads of swap come when memory is short, and its reserves are not
 * for this; without a page the slot is read when it is asked for.
 */
static bool vtmem_swap_ahead_page(struct vtmem_swap *sw, unsigned int place)
{
	struct page *page = sw->ahead.page[place];

	if (page)
		return true;
	page = alloc_page(GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN |
			  __GFP_NOMEMALLOC);
	if (!page)
		return false;
	sw->ahead.page[place] = page;
	sw->ahead.nr_pages++;
	return true;
}

/* Who has the busy bit. The device does not reach the pages. */
static void vtmem_swap_ahead_free(struct vtmem_swap *sw)
{
	unsigned int place;

	spin_lock_irq(&sw->ahead.lock);
	memset(sw->ahead.slot, 0, sizeof(sw->ahead.slot));
	bitmap_zero(sw->ahead.valid, VTMEM_AHEAD);
	spin_unlock_irq(&sw->ahead.lock);
	for (place = 0; place < VTMEM_AHEAD; place++) {
		if (sw->ahead.page[place])
			__free_page(sw->ahead.page[place]);
		sw->ahead.page[place] = NULL;
	}
	sw->ahead.nr_pages = 0;
}

static void vtmem_swap_ahead_idle(struct work_struct *work)
{
	struct vtmem_swap *sw = container_of(to_delayed_work(work),
					     struct vtmem_swap, ahead.idle);
	bool freed = false;

	/* A chain without an answer is the device's until then. */
	if (vtmem_broken(sw->vt))
		vtmem_wait_reset(sw->vt);
	if (!READ_ONCE(sw->ahead.used) &&
	    !test_and_set_bit_lock(0, &sw->ahead.busy)) {
		vtmem_swap_ahead_free(sw);
		clear_bit_unlock(0, &sw->ahead.busy);
		freed = true;
	}
	WRITE_ONCE(sw->ahead.used, false);
	vtmem_memory_tell(sw->vt);
	if (!freed)
		schedule_delayed_work(&sw->ahead.idle, VTMEM_AHEAD_IDLE);
}

/* The place is to be filled for the slot: can the host have it? */
static bool vtmem_swap_ahead_claim(struct vtmem_swap *sw, sector_t slot)
{
	unsigned int place = vtmem_place(slot);

	/* Slot 0 is the header's, and means no slot here. */
	if (!slot || slot >= sw->nr_slots || !vtmem_swap_ahead_page(sw, place))
		return false;
	spin_lock_irq(&sw->ahead.lock);
	__clear_bit(place, sw->ahead.valid);
	WRITE_ONCE(sw->ahead.slot[place], slot);
	spin_unlock_irq(&sw->ahead.lock);
	smp_mb();	/* pairs with the one in vtmem_swap_ahead_drop() */
	return (READ_ONCE(sw->slots[slot]) & VTMEM_SLOT_STATE) == VTMEM_SLOT_HOST;
}

/*
 * The slots @first to @last are going to be read with one exit: claims those after them
 * that are worth fetching too, and returns how many. If not 0, the caller goes on with
 * vtmem_swap_ahead_add() and vtmem_swap_ahead_done(). Process context.
 */
unsigned int vtmem_swap_ahead_begin(struct vtmem_swap *sw, sector_t first,
				    sector_t last)
{
	struct vtmem_key key = { .pool = sw->pool, .index = first };
	unsigned int wanted, nr;

	wanted = vtmem_ahead_wanted(&key, false);
	key.index = last;
	/* Unless what is fetched ahead says otherwise. */
	vtmem_ahead_fetched(&key, 0);
	if (!wanted || test_and_set_bit_lock(0, &sw->ahead.busy))
		return 0;
	for (nr = 0; nr < wanted; nr++)
		if (!vtmem_swap_ahead_claim(sw, last + 1 + nr))
			break;
	if (!nr) {
		clear_bit_unlock(0, &sw->ahead.busy);
		return 0;
	}
	/* They are of one object, or of two. */
	vtmem_order(sw->vt, sw->pool, (last + 1) >> VTMEM_SLOT_OBJECT_SHIFT);
	vtmem_order(sw->vt, sw->pool, (last + nr) >> VTMEM_SLOT_OBJECT_SHIFT);
	sw->ahead.first = last + 1;
	WRITE_ONCE(sw->ahead.used, true);
	schedule_delayed_work(&sw->ahead.idle, VTMEM_AHEAD_IDLE);
	return nr;
}

/* Within vtmem_sync_begin() and _run(): their gets, as many of nr as there is room for. */
unsigned int vtmem_swap_ahead_add(struct vtmem_swap *sw, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr && vtmem_sync_has_room(sw->vt, 1); i++) {
		sector_t slot = sw->ahead.first + i;
		struct vtmem_key key = vtmem_slot_key(sw, slot);

		vtmem_sync_op(sw->vt, VTMEM_OP_GET, &key, 0);
		vtmem_sync_page(sw->vt, sw->ahead.page[vtmem_place(slot)], 0,
				PAGE_SIZE);
	}
	return i;
}

/*
 * Before vtmem_sync_end(). @nr gets were added, the first of them operation @op of the
 * chain, and have been executed if @executed.
 */
void vtmem_swap_ahead_done(struct vtmem_swap *sw, unsigned int op,
			   unsigned int nr, bool executed)
{
	struct vtmem_key key = { .pool = sw->pool, .index = sw->ahead.first - 1 };
	unsigned int i, hits = 0;

	vtmem_ahead_fetched(&key, nr);
	spin_lock(&sw->ahead.lock);
	for (i = 0; i < nr && executed; i++) {
		sector_t slot = sw->ahead.first + i;
		unsigned int place = vtmem_place(slot);

		if (vtmem_sync_status(sw->vt, op + i) != VTMEM_S_OK)
			continue;
		hits++;
		if (sw->ahead.slot[place] == slot)
			__set_bit(place, sw->ahead.valid);
	}
	spin_unlock(&sw->ahead.lock);
	clear_bit_unlock(0, &sw->ahead.busy);
	if (!executed)
		return;
	vtmem_count(VTMEM_GETS, nr);
	vtmem_count(VTMEM_GETS_AHEAD, nr);
	vtmem_count(VTMEM_HITS, hits);
	vtmem_count(VTMEM_MISSES, nr - hits);
}

u64 vtmem_swap_ahead_bytes(struct vtmem_swap *sw)
{
	return (u64)READ_ONCE(sw->ahead.nr_pages) << PAGE_SHIFT;
}

void vtmem_swap_ahead_init(struct vtmem_swap *sw)
{
	spin_lock_init(&sw->ahead.lock);
	INIT_DELAYED_WORK(&sw->ahead.idle, vtmem_swap_ahead_idle);
}

/*
 * No load is under way, and none comes. The pages stay until the last close; by then the
 * device no longer reaches them.
 */
void vtmem_swap_ahead_stop(struct vtmem_swap *sw)
{
	cancel_delayed_work_sync(&sw->ahead.idle);
	if (vtmem_broken(sw->vt))
		vtmem_wait_reset(sw->vt);
}

void vtmem_swap_ahead_exit(struct vtmem_swap *sw)
{
	vtmem_swap_ahead_free(sw);
}
