// SPDX-License-Identifier: GPL-2.0-only
/*
 * Admission: is a page that leaves the page cache worth a copy?
 *
 * A page that was used more than once is: the kernel says so (PG_workingset), or it
 * was here before, which a small ghost table of earlier evictions remembers. Of the
 * others, seen once, nobody knows. admission=always keeps them, second-chance does
 * not, and adaptive asks what became of such pages lately:
 *
 *	those of streams (files that are being read on and on, in windows of full size)
 *	are not kept, until one in eight that left is read again;
 *	the others are kept, until fewer than one in eight that the host evicts has
 *	been got back; then not, until one in eight that left is read again.
 *
 * So a backup does not fill the host's memory, and a set that is read a second time is
 * there already. admission=host, the default, does what the host asks for, since the
 * memory is its; and one that asks for nothing, or what this driver does not know,
 * gets adaptive. It may ask for something else at any time.
 *
 * Called under i_pages locks with interrupts off. Takes no lock: tables and counters are
 * evidence, and a lost update costs nothing but a little of it.
 */
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>

#include "vtmem.h"

/* Besides VTMEM_ADMISSION_*: as the host asks. */
#define VTMEM_ADMISSION_HOST	3

static const char * const vtmem_admission_names[] = {
	[VTMEM_ADMISSION_ALWAYS] = "always",
	[VTMEM_ADMISSION_SECOND_CHANCE] = "second-chance",
	[VTMEM_ADMISSION_ADAPTIVE] = "adaptive",
	[VTMEM_ADMISSION_HOST] = "host",
};

static int vtmem_admission = VTMEM_ADMISSION_HOST;

static int vtmem_admission_set(const char *value, const struct kernel_param *kp)
{
	int i = sysfs_match_string(vtmem_admission_names, value);

	if (i < 0)
		return i;
	WRITE_ONCE(vtmem_admission, i);
	return 0;
}

static int vtmem_admission_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n",
			  vtmem_admission_names[READ_ONCE(vtmem_admission)]);
}

static const struct kernel_param_ops vtmem_admission_ops = {
	.set = vtmem_admission_set,
	.get = vtmem_admission_get,
};
module_param_cb(admission, &vtmem_admission_ops, NULL, 0644);
MODULE_PARM_DESC(admission, "Which reclaimed pages are put: always, second-chance, adaptive, or as the host asks: host (default)");

/*
 * Ghosts: of each page that left without being put, 16 bits of its hash, four in a
 * bucket, the oldest goes. Twice as many as the guest has pages, 1/1024 of its
 * memory: a page is recognized that comes back after others of about
 * twice the guest's memory. One that was never here is taken for one by chance 1
 * time in 16384.
 */
#define VTMEM_GHOSTS		4

/* Hashes of the inode numbers of files that are streams, four in a bucket, the oldest goes. */
#define VTMEM_STREAMS_BITS	8

/* What became of pages that were seen once. */
struct vtmem_evidence {
	bool admitted;
	unsigned int left;	/* without being put */
	unsigned int returned;	/* of those, read again */
	unsigned int evicted;	/* by the host */
	unsigned int hits;
};

/* Evidence is weighed when there is so much of it, and then counts for half. */
#define VTMEM_EVIDENCE		1024

static struct {
	int host;		/* VTMEM_ADMISSION_*, as the host asks */
	u64 *ghosts;
	unsigned int nr_ghosts;		/* buckets */
	u64 streams[1 << VTMEM_STREAMS_BITS];
	struct vtmem_evidence stream;
	struct vtmem_evidence other;
} vtmem_adm;

/*
 * Both tables: 64 bits hold four hashes of 16 bits, 0 standing for none. The upper bits
 * of a hash pick the bucket.
 */
static u16 vtmem_short(u64 hash)
{
	return (u16)(hash >> 16) ?: 1;
}

static bool vtmem_bucket_has(const u64 *bucket, u64 hash)
{
	u64 four;

	for (four = READ_ONCE(*bucket); four; four >>= 16)
		if ((u16)four == vtmem_short(hash))
			return true;
	return false;
}

static void vtmem_bucket_add(u64 *bucket, u64 hash)
{
	WRITE_ONCE(*bucket, READ_ONCE(*bucket) << 16 | vtmem_short(hash));
}

static void vtmem_bucket_remove(u64 *bucket, u64 hash)
{
	u64 four = READ_ONCE(*bucket);
	unsigned int shift;

	for (shift = 0; shift < 64; shift += 16)
		if ((u16)(four >> shift) == vtmem_short(hash))
			four &= ~(0xffffULL << shift);
	WRITE_ONCE(*bucket, four);
}

static u64 vtmem_file_hash(const struct vtmem_key *key)
{
	return (key->object + ((u64)key->pool << 40)) * GOLDEN_RATIO_64;
}

static u64 vtmem_page_hash(const struct vtmem_key *key)
{
	return (vtmem_file_hash(key) ^ key->index) * GOLDEN_RATIO_64;
}

static u64 *vtmem_ghost_bucket(u64 hash)
{
	return &vtmem_adm.ghosts[reciprocal_scale(hash >> 32,
						  vtmem_adm.nr_ghosts)];
}

static bool vtmem_ghost_known(const struct vtmem_key *key)
{
	u64 hash = vtmem_page_hash(key);

	return vtmem_bucket_has(vtmem_ghost_bucket(hash), hash);
}

static void vtmem_ghost_add(const struct vtmem_key *key)
{
	u64 hash = vtmem_page_hash(key);

	vtmem_bucket_add(vtmem_ghost_bucket(hash), hash);
}

static u64 *vtmem_stream_bucket(u64 hash)
{
	return &vtmem_adm.streams[hash >> (64 - VTMEM_STREAMS_BITS)];
}

static bool vtmem_streams(const struct vtmem_key *key)
{
	u64 hash = key->object * GOLDEN_RATIO_64;

	return vtmem_bucket_has(vtmem_stream_bucket(hash), hash);
}

/*
 * Pages of a file from @index on are going to be read, @goes_on after windows of full size
 * that ended there. Process context. The pool is not looked at, since the first files of
 * a file system are read before it has one.
 */
void vtmem_admission_stream(u64 object, u64 index, bool goes_on)
{
	u64 hash = object * GOLDEN_RATIO_64;
	u64 *bucket = vtmem_stream_bucket(hash);

	if (vtmem_bucket_has(bucket, hash) == goes_on)
		return;
	if (goes_on)
		vtmem_bucket_add(bucket, hash);
	else if (index)
		vtmem_bucket_remove(bucket, hash);
}

static struct vtmem_evidence *vtmem_evidence_of(const struct vtmem_key *key)
{
	return vtmem_streams(key) ? &vtmem_adm.stream : &vtmem_adm.other;
}

/* Pages that left and were read again: one in eight, and they are worth keeping. */
static void vtmem_evidence_weigh_left(struct vtmem_evidence *e)
{
	if (e->left < VTMEM_EVIDENCE)
		return;
	if (e->returned >= e->left / 8) {
		WRITE_ONCE(e->admitted, true);
		e->evicted = 0;
		e->hits = 0;
	}
	e->left /= 2;
	e->returned /= 2;
}

/* Pages that the host kept in vain: seven in eight, and they are not. */
static void vtmem_evidence_weigh_kept(struct vtmem_evidence *e)
{
	if (e->evicted < VTMEM_EVIDENCE)
		return;
	if (e->hits < e->evicted / 8) {
		WRITE_ONCE(e->admitted, false);
		e->left = 0;
		e->returned = 0;
	}
	e->evicted /= 2;
	e->hits /= 2;
}

/*
 * @nr pages from @key on are being read, @held of them from the host. Process context;
 * folios are locked.
 */
void vtmem_admission_read(const struct vtmem_key *key, unsigned int nr,
			  const unsigned long *held)
{
	struct vtmem_key page = *key;
	struct vtmem_evidence *e;
	unsigned int i;

	e = vtmem_evidence_of(key);
	for (i = 0; i < nr; i++) {
		page.index = key->index + i;
		if (vtmem_ghost_known(&page)) {
			e->returned += !test_bit(i, held);
		} else if (test_bit(i, held)) {
			/* Worth its place once more. */
			vtmem_ghost_add(&page);
		}
		e->hits += test_bit(i, held);
	}
}

/* What is done now; never VTMEM_ADMISSION_HOST. Any context. */
static int vtmem_admission_mode(void)
{
	int mode = READ_ONCE(vtmem_admission);

	return mode == VTMEM_ADMISSION_HOST ? READ_ONCE(vtmem_adm.host) : mode;
}

/*
 * Shall the page be put? @workingset: it has been on the active list. Under the i_pages
 * lock, interrupts off.
 */
bool vtmem_admission_put(const struct vtmem_key *key, bool workingset)
{
	struct vtmem_evidence *e;
	int mode = vtmem_admission_mode();

	if (mode == VTMEM_ADMISSION_ALWAYS || workingset || vtmem_ghost_known(key))
		return true;
	e = vtmem_evidence_of(key);
	if (mode == VTMEM_ADMISSION_ADAPTIVE && READ_ONCE(e->admitted))
		return true;
	vtmem_ghost_add(key);
	e->left++;
	vtmem_evidence_weigh_left(e);
	return false;
}

/* The host has evicted @nr pages from @key on. Interrupt context. */
void vtmem_admission_evicted(const struct vtmem_key *key, u64 nr)
{
	struct vtmem_evidence *e = vtmem_evidence_of(key);

	e->evicted += min_t(u64, nr, VTMEM_EVIDENCE);
	vtmem_evidence_weigh_kept(e);
}

static int vtmem_admission_of_host(struct virtio_device *vdev)
{
	u32 wish = VTMEM_ADMISSION_ADAPTIVE;

	if (virtio_has_feature(vdev, VTMEM_F_ADMISSION))
		virtio_cread_le(vdev, struct vtmem_config, admission, &wish);
	return wish < VTMEM_ADMISSION_HOST ? wish : VTMEM_ADMISSION_ADAPTIVE;
}

/* What the host asks for may have changed. Process context. */
void vtmem_admission_ask(struct virtio_device *vdev)
{
	WRITE_ONCE(vtmem_adm.host, vtmem_admission_of_host(vdev));
}

/* What is done now, by name. */
const char *vtmem_admission_name(void)
{
	return vtmem_admission_names[vtmem_admission_mode()];
}

u64 vtmem_admission_bytes(void)
{
	return array_size(sizeof(*vtmem_adm.ghosts), vtmem_adm.nr_ghosts);
}

int vtmem_admission_init(struct virtio_device *vdev)
{
	u64 ghosts = max_t(u64, 2 * totalram_pages(), 1 << 12);

	vtmem_admission_ask(vdev);
	vtmem_adm.nr_ghosts = min_t(u64, ghosts / VTMEM_GHOSTS, U32_MAX);
	vtmem_adm.ghosts = kvcalloc(vtmem_adm.nr_ghosts,
				    sizeof(*vtmem_adm.ghosts), GFP_KERNEL);
	if (!vtmem_adm.ghosts)
		return -ENOMEM;
	memset(vtmem_adm.streams, 0, sizeof(vtmem_adm.streams));
	vtmem_adm.stream = (struct vtmem_evidence){};
	vtmem_adm.other = (struct vtmem_evidence){ .admitted = true };
	return 0;
}

void vtmem_admission_exit(void)
{
	kvfree(vtmem_adm.ghosts);
	vtmem_adm.ghosts = NULL;
}
