// SPDX-License-Identifier: GPL-2.0-only
/*
 * Get-ahead: who reads on page by page gets the next pages with the one that needs an
 * exit.
 *
 * The kernel reads files and swap in windows where it sees a stream. It does not see one
 * where it was told that there is none (MADV_RANDOM, POSIX_FADV_RANDOM, page-cluster of
 * 0), or cannot tell. Then each page is an exit of its own, unless something remembers
 * where the last one was: this table does. A read that goes on where the one before it
 * ended, or after pages that the guest still had, fetches the next four pages too, then
 * four times as many, up to get_ahead. A page that was fetched and is gone again says
 * that memory is short: it brings half as many, so that a run of them is not an exit each.
 *
 * Process context. Takes no lock: what a race makes of the table costs an exit or a few
 * pages fetched in vain.
 */
#include <linux/hash.h>
#include <linux/module.h>

#include "vtmem.h"

static unsigned int vtmem_get_ahead = VTMEM_AHEAD;
module_param_named(get_ahead, vtmem_get_ahead, uint, 0644);
MODULE_PARM_DESC(get_ahead, "Pages fetched ahead at most with one that is read alone, in order (default 31; 0: none)");

#define VTMEM_AHEAD_LEAST	4
#define VTMEM_AHEAD_GROWTH	4
#define VTMEM_AHEAD_BITS	6

struct vtmem_reader {
	u64 file;		/* its hash */
	u64 next;		/* the page after the last one that was fetched */
	unsigned int pages;	/* that were to be fetched ahead of it */
};

static struct vtmem_reader vtmem_readers[1 << VTMEM_AHEAD_BITS];

static u64 vtmem_reader_hash(const struct vtmem_key *key)
{
	return (key->object + ((u64)key->pool << 40)) * GOLDEN_RATIO_64;
}

static struct vtmem_reader *vtmem_reader(u64 hash)
{
	return &vtmem_readers[hash >> (64 - VTMEM_AHEAD_BITS)];
}

/*
 * The page of @key is read alone: how many after it are worth fetching with it? @behind:
 * the guest has the page before it.
 */
unsigned int vtmem_ahead_wanted(const struct vtmem_key *key, bool behind)
{
	unsigned int most = min_t(unsigned int, READ_ONCE(vtmem_get_ahead),
				  VTMEM_AHEAD);
	u64 hash = vtmem_reader_hash(key);
	struct vtmem_reader *r = vtmem_reader(hash);
	unsigned int pages = READ_ONCE(r->pages);
	u64 next = READ_ONCE(r->next);

	if (READ_ONCE(r->file) != hash) {
		WRITE_ONCE(r->file, hash);
		pages = 0;
	} else if (key->index < next && next - key->index <= pages) {
		/* Fetched ahead, and gone again, or it never came. */
		pages = max_t(unsigned int, pages / 2, VTMEM_AHEAD_LEAST);
	} else if (key->index == next ||
		   (behind && pages && key->index > next &&
		    key->index - next <= VTMEM_AHEAD)) {
		pages = clamp(VTMEM_AHEAD_GROWTH * pages, VTMEM_AHEAD_LEAST,
			      VTMEM_AHEAD);
	} else {
		pages = 0;
	}
	WRITE_ONCE(r->pages, pages);
	WRITE_ONCE(r->next, key->index + 1);
	return min(pages, most);
}

/* @nr pages after @key come with it. */
void vtmem_ahead_fetched(const struct vtmem_key *key, unsigned int nr)
{
	u64 hash = vtmem_reader_hash(key);
	struct vtmem_reader *r = vtmem_reader(hash);

	if (READ_ONCE(r->file) == hash)
		WRITE_ONCE(r->next, key->index + 1 + nr);
}
