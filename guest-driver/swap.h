/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What swapdev.c, swapload.c, swapahead.c and swaphome.c share.
 */
#ifndef VTMEM_SWAP_H
#define VTMEM_SWAP_H

#include <linux/bio.h>
#include <linux/blkdev.h>

#include "vtmem.h"

#define VTMEM_SLOT_LOCKS	64
/* Pages that come back from the host at once. */
#define VTMEM_HOME_PAGES	32
/* Slots of one object: as many as share a bucket of vtmem.owner. */
#define VTMEM_SLOT_OBJECT_SHIFT	10

/*
 * Where the page of a slot is. The upper bits of an entry count its stores, so that a
 * late answer to an older one is recognized: there are fewer pages in staging than
 * the count has values.
 */
#define VTMEM_SLOT_LOWER	0	/* the real device has it, if anything does */
#define VTMEM_SLOT_HOST		1	/* the host has it, or a batch on its way */
#define VTMEM_SLOT_RESCUE	2	/* refused after all: going to the real device */
#define VTMEM_SLOT_LOST		3	/* ... which failed too */
#define VTMEM_SLOT_STATE	3

struct vtmem_swap {
	struct vtmem *vt;
	struct gendisk *disk;
	struct block_device *lower;
	u32 pool;
	sector_t nr_slots;
	bool dead;		/* vt is going: see vtmem_swap_exit() */
	bool away;		/* nothing is put: swaphome.c */
	bool no_pool;		/* the host has forgotten it */
	u16 *slots;		/* under slot_lock[] */
	spinlock_t slot_lock[VTMEM_SLOT_LOCKS];

	/*
	 * One worker does what may sleep: first it writes the pages of failed batches to
	 * the real device, then it tries deferred bios again.
	 */
	struct work_struct work;
	spinlock_t lock;	/* failed, deferred */
	struct list_head failed;
	struct bio_list deferred;
	struct bio rescue_bio;
	struct bio_vec rescue_vec;

	/* Pages fetched ahead: swapahead.c. */
	struct {
		spinlock_t lock;		/* slot, valid */
		sector_t slot[VTMEM_AHEAD];	/* whose page has the place; 0: none's */
		DECLARE_BITMAP(valid, VTMEM_AHEAD);
		struct page *page[VTMEM_AHEAD];	/* of each place, once it was used */
		unsigned int nr_pages;
		unsigned long busy;		/* bit 0: somebody fetches, or frees pages */
		bool used;			/* since idle looked last */
		struct delayed_work idle;
		sector_t first;			/* the first slot that is fetched */
	} ahead;

	/* What the host has comes back: swaphome.c. */
	struct {
		struct work_struct work;
		struct completion done;
		sector_t next;		/* slot */
		u64 pages;		/* so far */
		int err;
		struct page *page[VTMEM_HOME_PAGES];
	} home;
};

static inline sector_t vtmem_slot(struct bio *bio)
{
	return bio->bi_iter.bi_sector >> PAGE_SECTORS_SHIFT;
}

static inline spinlock_t *vtmem_slot_lock(struct vtmem_swap *sw, sector_t slot)
{
	return &sw->slot_lock[slot % VTMEM_SLOT_LOCKS];
}

static inline u16 vtmem_slot_next(u16 entry, u16 state)
{
	return ((entry & ~VTMEM_SLOT_STATE) + VTMEM_SLOT_STATE + 1) | state;
}

static inline struct vtmem_key vtmem_slot_key(struct vtmem_swap *sw,
					      sector_t slot)
{
	return (struct vtmem_key){
		.pool = sw->pool,
		.object = slot >> VTMEM_SLOT_OBJECT_SHIFT,
		.index = slot,
	};
}

/* swapdev.c */
void vtmem_swap_store(struct vtmem_swap *sw, struct bio *bio);
void vtmem_swap_pass(struct vtmem_swap *sw, struct bio *bio);
void vtmem_swap_queue_work(struct vtmem_swap *sw);
void vtmem_swap_queue_home(struct vtmem_swap *sw);
void vtmem_swap_wait_stores(struct vtmem_swap *sw);
void vtmem_swap_settle(struct vtmem_swap *sw);

/* swapload.c */
void vtmem_swap_load(struct vtmem_swap *sw, struct bio *bio);
void vtmem_swap_defer(struct vtmem_swap *sw, struct bio *bio);
void vtmem_swap_work(struct work_struct *work);
void vtmem_swap_wait_loads(void);

/* swapahead.c */
void vtmem_swap_ahead_init(struct vtmem_swap *sw);
void vtmem_swap_ahead_stop(struct vtmem_swap *sw);
u64 vtmem_swap_ahead_bytes(struct vtmem_swap *sw);
void vtmem_swap_ahead_exit(struct vtmem_swap *sw);
void vtmem_swap_ahead_drop(struct vtmem_swap *sw, sector_t slot);
bool vtmem_swap_ahead_load(struct vtmem_swap *sw, struct bio *bio);
unsigned int vtmem_swap_ahead_begin(struct vtmem_swap *sw, sector_t first,
				    sector_t last);
unsigned int vtmem_swap_ahead_add(struct vtmem_swap *sw, unsigned int nr);
void vtmem_swap_ahead_done(struct vtmem_swap *sw, unsigned int op,
			   unsigned int nr, bool executed);

/* swaphome.c */
void vtmem_swap_home_init(struct vtmem_swap *sw);

#endif /* VTMEM_SWAP_H */
