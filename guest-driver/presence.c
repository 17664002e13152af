// SPDX-License-Identifier: GPL-2.0-only
/*
 * The presence index: which pages of files the host may hold. What it does not know is
 * not there, so a miss, and a flush of what was never put, need no exit.
 *
 * A bit is set when a page is put, and cleared when it is flushed, asked for (a get
 * takes the page out of the host) or reported evicted. What rests on it:
 *
 *	a set bit: what the host holds of the key, if anything, was put last;
 *	a clear bit: the key is never asked for, so what the host holds of it does no
 *	harm until the next put replaces it.
 *
 * So a bit may be cleared at any time, which makes the host's reports safe however
 * late they come, and a bit that should be clear costs one useless get. Only a put
 * sets one. A bit and the operation that it stands for change in the same order
 * wherever that matters, as the callers in cleancache.c have it.
 *
 * Blocks of 64 pages, 24 bytes each, live in buckets of a table that is allocated at
 * probe: nothing is allocated later. That is 3 bits for each page of a block that is
 * held as a whole, and 24 bytes for a page on its own; 1/256 of memory has two blocks for
 * three pages of memory, so that a tree of small files fits. Where a bucket is
 * full, the block with the fewest pages goes, and the caller flushes its pages from the
 * host.
 *
 * Locks: those of buckets, innermost of all, interrupts off.
 */
#include <linux/bitmap.h>
#include <linux/hash.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "vtmem.h"

#define VTMEM_BLOCK_PAGES	64
#define VTMEM_BUCKET_BLOCKS	8
#define VTMEM_PRESENCE_LOCKS	256
/* Entries for objects: at least so many bits of hash, at most as many entries as buckets. */
#define VTMEM_OBJECTS_BITS	12

static unsigned int vtmem_presence_kb;
module_param_named(presence_kb, vtmem_presence_kb, uint, 0444);
MODULE_PARM_DESC(presence_kb, "Size of the presence index in KiB (default: 1/256 of memory)");

static bool vtmem_presence_on = true;
module_param_named(presence, vtmem_presence_on, bool, 0444);
MODULE_PARM_DESC(presence, "Keep the index (default Y); N: every miss and flush goes to the host, to measure what the index is worth");

struct vtmem_block {
	u64 object;
	u32 number;
	u32 pool;
	u64 map;	/* 0: the entry is free */
};

struct vtmem_bucket {
	struct vtmem_block block[VTMEM_BUCKET_BLOCKS];
};

static struct {
	struct vtmem_bucket *buckets;
	unsigned int nr;
	spinlock_t lock[VTMEM_PRESENCE_LOCKS];	/* buckets, by number */
	/*
	 * By hash of object, to know at once that nothing of one is held, or where to
	 * stop looking: the number of blocks in use, and above it the highest of
	 * their numbers since there was none.
	 */
	atomic64_t *objects;
	unsigned int objects_bits;
	atomic_long_t pages;
} vtmem_presence;

static atomic64_t *vtmem_object(u32 pool, u64 object)
{
	return &vtmem_presence.objects[hash_64(object + ((u64)pool << 40),
					       vtmem_presence.objects_bits)];
}

/* Under the lock of the block's bucket, as is vtmem_object_drop(). */
static void vtmem_object_add(u32 pool, u64 object, u32 number)
{
	atomic64_t *entry = vtmem_object(pool, object);
	s64 old = atomic64_read(entry);
	u32 highest;

	do {
		highest = max(upper_32_bits(old), number);
	} while (!atomic64_try_cmpxchg(entry, &old,
				       (u64)highest << 32 |
				       (lower_32_bits(old) + 1)));
}

static void vtmem_object_drop(u32 pool, u64 object)
{
	atomic64_t *entry = vtmem_object(pool, object);
	s64 old = atomic64_read(entry);

	while (!atomic64_try_cmpxchg(entry, &old,
				     lower_32_bits(old) == 1 ? 0 : old - 1))
		;
}

static unsigned int vtmem_bucket_of(u32 pool, u64 object, u32 number)
{
	u64 key = (object + ((u64)pool << 40)) * GOLDEN_RATIO_64 + number;

	return reciprocal_scale(hash_64(key, 32), vtmem_presence.nr);
}

static spinlock_t *vtmem_bucket_lock(unsigned int bucket)
{
	return &vtmem_presence.lock[bucket % VTMEM_PRESENCE_LOCKS];
}

/* Under the bucket's lock. */
static struct vtmem_block *vtmem_block_find(unsigned int bucket, u32 pool,
					    u64 object, u32 number)
{
	struct vtmem_block *b = vtmem_presence.buckets[bucket].block;
	unsigned int i;

	for (i = 0; i < VTMEM_BUCKET_BLOCKS; i++, b++)
		if (b->map && b->number == number && b->object == object &&
		    b->pool == pool)
			return b;
	return NULL;
}

/* Under the bucket's lock. Clears the bits of mask; returns those that were set. */
static u64 vtmem_block_clear(struct vtmem_block *b, u64 mask)
{
	u64 cleared = b->map & mask;

	if (!cleared)
		return 0;
	b->map &= ~mask;
	atomic_long_sub(hweight64(cleared), &vtmem_presence.pages);
	if (!b->map)
		vtmem_object_drop(b->pool, b->object);
	return cleared;
}

/* The bits of pages first to last, both of the block's. */
static u64 vtmem_block_mask(unsigned int first, unsigned int last)
{
	return GENMASK_ULL(last, first);
}

/*
 * Can there be anything of the object? Then *last is the last block to look at. Any
 * context.
 */
static bool vtmem_object_held(u32 pool, u64 object, u32 *last)
{
	u64 entry;

	/*
	 * The caller has seen, in the page cache, that a page is gone. It has to see
	 * too that it was put.
	 */
	smp_mb();
	entry = atomic64_read(vtmem_object(pool, object));
	*last = upper_32_bits(entry);
	return lower_32_bits(entry);
}

/* Keys whose block has a number. Others are not put. */
bool vtmem_presence_fits(u64 index)
{
	return index / VTMEM_BLOCK_PAGES <= U32_MAX;
}

/*
 * The key is going to be put. Any context. If another block had to make room, true, and
 * the caller flushes the @nr pages from @victim on.
 */
bool vtmem_presence_set(const struct vtmem_key *key, struct vtmem_key *victim,
			u64 *nr)
{
	u32 number = key->index / VTMEM_BLOCK_PAGES;
	u64 bit = BIT_ULL(key->index % VTMEM_BLOCK_PAGES);
	unsigned int bucket = vtmem_bucket_of(key->pool, key->object, number);
	spinlock_t *lock = vtmem_bucket_lock(bucket);
	struct vtmem_block *b, *least;
	unsigned long flags;
	bool full = false;
	unsigned int i;

	if (!vtmem_presence_on)
		return false;
	spin_lock_irqsave(lock, flags);
	b = vtmem_block_find(bucket, key->pool, key->object, number);
	if (!b) {
		least = vtmem_presence.buckets[bucket].block;
		for (i = 0, b = least; i < VTMEM_BUCKET_BLOCKS; i++, b++)
			if (hweight64(b->map) < hweight64(least->map))
				least = b;
		b = least;
		full = b->map;
		if (full) {
			*victim = (struct vtmem_key){
				.pool = b->pool,
				.object = b->object,
				.index = (u64)b->number * VTMEM_BLOCK_PAGES,
			};
			*nr = VTMEM_BLOCK_PAGES;
			vtmem_block_clear(b, U64_MAX);
		}
		b->object = key->object;
		b->number = number;
		b->pool = key->pool;
		vtmem_object_add(key->pool, key->object, number);
	}
	if (!(b->map & bit)) {
		b->map |= bit;
		atomic_long_inc(&vtmem_presence.pages);
	}
	spin_unlock_irqrestore(lock, flags);
	return full;
}

/*
 * For @nr pages from @key on, of up to a few blocks: which are present. Any context.
 * Returns how many.
 */
unsigned int vtmem_presence_window(const struct vtmem_key *key, unsigned int nr,
				   unsigned long *present)
{
	unsigned int found = 0, i, n;
	unsigned long flags;
	u32 last;

	if (!vtmem_presence_on) {
		bitmap_fill(present, nr);
		return nr;
	}
	bitmap_zero(present, nr);
	if (!vtmem_presence_fits(key->index + nr) ||
	    !vtmem_object_held(key->pool, key->object, &last) ||
	    key->index / VTMEM_BLOCK_PAGES > last)
		return 0;
	for (i = 0; i < nr; i += n) {
		u64 index = key->index + i;
		unsigned int first = index % VTMEM_BLOCK_PAGES;
		u32 number = index / VTMEM_BLOCK_PAGES;
		unsigned int bucket, k;
		struct vtmem_block *b;
		u64 map = 0;

		n = min(nr - i, VTMEM_BLOCK_PAGES - first);
		bucket = vtmem_bucket_of(key->pool, key->object, number);
		spin_lock_irqsave(vtmem_bucket_lock(bucket), flags);
		b = vtmem_block_find(bucket, key->pool, key->object, number);
		if (b)
			map = b->map >> first;
		spin_unlock_irqrestore(vtmem_bucket_lock(bucket), flags);
		for (k = 0; map && k < n; k++, map >>= 1) {
			if (!(map & 1))
				continue;
			__set_bit(i + k, present);
			found++;
		}
	}
	return found;
}

/* Any context. Whether one of the pages of a block was present. */
static bool vtmem_presence_clear_block(u32 pool, u64 object, u32 number, u64 mask)
{
	unsigned int bucket = vtmem_bucket_of(pool, object, number);
	spinlock_t *lock = vtmem_bucket_lock(bucket);
	struct vtmem_block *b;
	unsigned long flags;
	bool any = false;

	spin_lock_irqsave(lock, flags);
	b = vtmem_block_find(bucket, pool, object, number);
	if (b)
		any = vtmem_block_clear(b, mask);
	spin_unlock_irqrestore(lock, flags);
	return any;
}

/* The bits of the block that are pages first to last of its object. */
static u64 vtmem_block_overlap(u32 number, u64 first, u64 last)
{
	u64 start = (u64)number * VTMEM_BLOCK_PAGES;
	u64 end = start + VTMEM_BLOCK_PAGES - 1;

	if (last < start || first > end)
		return 0;
	return vtmem_block_mask(max(first, start) - start,
				min(last, end) - start);
}

/* As vtmem_presence_clear(), by looking at every block there is. */
static bool vtmem_presence_sweep(u32 pool, u64 object, u64 first, u64 last)
{
	unsigned int bucket, i;
	bool any = false;

	for (bucket = 0; bucket < vtmem_presence.nr; bucket++) {
		struct vtmem_block *b = vtmem_presence.buckets[bucket].block;
		unsigned long flags;

		spin_lock_irqsave(vtmem_bucket_lock(bucket), flags);
		for (i = 0; i < VTMEM_BUCKET_BLOCKS; i++, b++)
			if (b->map && b->object == object && b->pool == pool &&
			    vtmem_block_clear(b, vtmem_block_overlap(b->number,
								     first, last)))
				any = true;
		spin_unlock_irqrestore(vtmem_bucket_lock(bucket), flags);
	}
	return any;
}

/*
 * @nr pages from @key on are no longer to be asked for. Any context; looks at the blocks
 * up to the object's highest, and at the whole table if those are even more. False:
 * none of them was present, the host need not hear of it.
 */
bool vtmem_presence_clear(const struct vtmem_key *key, u64 nr)
{
	u64 first = key->index, last = first + nr - 1;
	u64 number, end;
	bool any = false;
	u32 highest;

	if (!vtmem_presence_on)
		return nr;
	if (!nr || !vtmem_object_held(key->pool, key->object, &highest))
		return false;
	if (last < first)
		last = U64_MAX;
	number = first / VTMEM_BLOCK_PAGES;
	end = min_t(u64, last / VTMEM_BLOCK_PAGES, highest);
	if (number > end)
		return false;
	if (end - number > vtmem_presence.nr / 4)
		return vtmem_presence_sweep(key->pool, key->object, first, last);
	for (; number <= end; number++)
		any |= vtmem_presence_clear_block(key->pool, key->object, number,
				vtmem_block_overlap(number, first, last));
	return any;
}

/* A pool is going to be destroyed; nobody puts to it any more. Process context. */
void vtmem_presence_forget(u32 pool)
{
	unsigned int bucket, i;

	for (bucket = 0; bucket < vtmem_presence.nr; bucket++) {
		struct vtmem_block *b = vtmem_presence.buckets[bucket].block;

		spin_lock_irq(vtmem_bucket_lock(bucket));
		for (i = 0; i < VTMEM_BUCKET_BLOCKS; i++, b++)
			if (b->map && b->pool == pool)
				vtmem_block_clear(b, U64_MAX);
		spin_unlock_irq(vtmem_bucket_lock(bucket));
	}
}

/* For debugfs. */
u64 vtmem_presence_pages(void)
{
	return atomic_long_read(&vtmem_presence.pages);
}

u64 vtmem_presence_bytes(void)
{
	return array_size(sizeof(struct vtmem_bucket), vtmem_presence.nr) +
	       array_size(sizeof(*vtmem_presence.objects),
			  1 << vtmem_presence.objects_bits);
}

int vtmem_presence_init(void)
{
	u64 size = (u64)vtmem_presence_kb << 10;
	unsigned int i;

	if (!size)
		size = (u64)totalram_pages() * PAGE_SIZE / 256;
	size = clamp_t(u64, size, 64 << 10, 1 << 30);
	vtmem_presence.nr = size / sizeof(struct vtmem_bucket);
	for (i = 0; i < VTMEM_PRESENCE_LOCKS; i++)
		spin_lock_init(&vtmem_presence.lock[i]);
	vtmem_presence.buckets = kvcalloc(vtmem_presence.nr,
					  sizeof(struct vtmem_bucket), GFP_KERNEL);
	vtmem_presence.objects_bits = max(ilog2(vtmem_presence.nr),
					  VTMEM_OBJECTS_BITS);
	vtmem_presence.objects = kvcalloc(1 << vtmem_presence.objects_bits,
					  sizeof(*vtmem_presence.objects),
					  GFP_KERNEL);
	if (vtmem_presence.buckets && vtmem_presence.objects)
		return 0;
	vtmem_presence_exit();
	return -ENOMEM;
}

void vtmem_presence_exit(void)
{
	kvfree(vtmem_presence.buckets);
	kvfree(vtmem_presence.objects);
	vtmem_presence.buckets = NULL;
	vtmem_presence.objects = NULL;
	atomic_long_set(&vtmem_presence.pages, 0);
}
