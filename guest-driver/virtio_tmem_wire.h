/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR BSD-3-Clause */
/*
 * virtio-tmem: what travels between the guest driver and the device.
 *
 * This file is the wire format's one definition in C. tmem-device/src/wire.rs is
 * its Rust twin; tmem-device/tests/wire_layout.rs compiles this header and
 * compares every size, offset and constant. All fields are little-endian, all
 * structures naturally aligned and without padding.
 *
 * Queues
 *   0  put     puts and flushes, asynchronous. Chains are executed strictly in the
 *              order in which the driver made them available.
 *   1  get     any operation, synchronous: the doorbell's exit executes it, and the
 *              used ring is ready when the vCPU resumes. Before it serves queue 1 the
 *              device executes every chain that was available on queue 0 when
 *              the doorbell rang, so a get sees every earlier put and flush.
 *   2  event   buffers that the driver offers and the device fills with events.
 *
 * A chain on queue 0 or 1
 *   device-readable:  struct vtmem_req_hdr, then nr_ops * struct vtmem_op, then
 *                     VTMEM_PAGE_SIZE bytes for each VTMEM_OP_PUT, in order of the ops.
 *   device-writable:  struct vtmem_resp_hdr, then nr_ops * struct vtmem_result, then
 *                     VTMEM_PAGE_SIZE bytes for each VTMEM_OP_GET, in order of the ops;
 *                     the page of a get that is not VTMEM_S_OK is left untouched.
 *   How these bytes are cut into descriptors is the driver's business.
 *   A chain whose header or sizes are wrong is returned with length 0 and nothing
 *   in it has been executed.
 */
#ifndef VIRTIO_TMEM_WIRE_H
#define VIRTIO_TMEM_WIRE_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
typedef uint16_t __le16;
typedef uint32_t __le32;
typedef uint64_t __le64;
typedef uint8_t __u8;
#endif

/* Experimental: virtio device ids from 63 down are for private use. */
#define VTMEM_DEVICE_ID		63

/* Version of this protocol, offered in config space. */
#define VTMEM_VERSION		1

#define VTMEM_PAGE_SIZE		4096
#define VTMEM_OBJECT_SIZE	24

#define VTMEM_QUEUE_PUT		0
#define VTMEM_QUEUE_GET		1
#define VTMEM_QUEUE_EVENT	2
#define VTMEM_NR_QUEUES		3

/* Feature bits. An operation whose feature was not negotiated is unsupported. */
#define VTMEM_F_EPHEMERAL	0	/* ephemeral pools */
#define VTMEM_F_PERSISTENT	1	/* persistent pools, credit */
#define VTMEM_F_FLUSH_RANGE	2	/* VTMEM_OP_FLUSH_RANGE */
#define VTMEM_F_EVENTS		3	/* queue 2 is served */
#define VTMEM_F_EVICTIONS	4	/* VTMEM_EV_EVICTED; needs VTMEM_F_EVENTS */
#define VTMEM_F_ADMISSION	5	/* vtmem_config.admission */
#define VTMEM_F_DRIVER_MEMORY	6	/* vtmem_config.driver_memory */

/* Which clean pages the host would have put. A wish; an unknown one means adaptive. */
#define VTMEM_ADMISSION_ALWAYS		0	/* all */
#define VTMEM_ADMISSION_SECOND_CHANCE	1	/* those that were used more than once */
#define VTMEM_ADMISSION_ADAPTIVE	2	/* others too, while they are read again */

/* Operations. The device answers any other type VTMEM_S_UNSUPPORTED. */
#define VTMEM_OP_NOP		0	/* nothing; on queue 1, a barrier for queue 0 */
#define VTMEM_OP_PUT		1
#define VTMEM_OP_GET		2
#define VTMEM_OP_FLUSH_PAGE	3
#define VTMEM_OP_FLUSH_RANGE	4	/* indexes [index, index + arg), saturating */
#define VTMEM_OP_FLUSH_OBJECT	5	/* all pages of the object */
#define VTMEM_OP_NEW_POOL	6	/* arg: VTMEM_POOL_*; result value: the pool's id */
#define VTMEM_OP_DESTROY_POOL	7

/* Kinds of pool. */
#define VTMEM_POOL_EPHEMERAL	0
#define VTMEM_POOL_PERSISTENT	1

/* Status of one operation. */
#define VTMEM_S_OK		0
#define VTMEM_S_ABSENT		1	/* get, flush: the host holds no such page */
#define VTMEM_S_REFUSED		2	/* put, new pool: no room; an older page is flushed */
#define VTMEM_S_UNSUPPORTED	3	/* operation unknown or not negotiated */
#define VTMEM_S_INVALID		4	/* no such pool, flag or argument */
#define VTMEM_S_IOERR		5	/* get: the host lost or cannot read a persistent page */

struct vtmem_config {
	__le32 version;		/* VTMEM_VERSION */
	__le32 max_ops;		/* operations that a chain may carry, at least 64 */
	__le64 credit;		/* persistent pages promised at first; see vtmem_resp_hdr */
	__le32 admission;	/* VTMEM_ADMISSION_*; with VTMEM_F_ADMISSION */
	__le32 reserved;	/* 0 */
	/* Written by the driver: bytes of memory it takes; with VTMEM_F_DRIVER_MEMORY. */
	__le64 driver_memory;
};

struct vtmem_req_hdr {
	__le32 nr_ops;		/* 1 .. max_ops */
	__le32 flags;		/* 0 */
};

struct vtmem_op {
	__le16 type;		/* VTMEM_OP_* */
	__le16 flags;		/* 0 */
	__le32 pool;
	__u8 object[VTMEM_OBJECT_SIZE];
	__le64 index;
	__le64 arg;
};

/*
 * Credit: the number of further persistent puts that the host promises to accept. The
 * driver spends one for each persistent put it sends; the device hands out more with
 * each response (credit) and by event. A put sent without credit may be refused.
 */
struct vtmem_resp_hdr {
	__le32 nr_ops;		/* results that follow */
	__le32 credit;		/* persistent puts promised in addition */
};

struct vtmem_result {
	__le32 status;		/* VTMEM_S_* */
	__le32 value;		/* VTMEM_OP_NEW_POOL: pool id; else 0 */
};

/* Events on queue 2; the driver ignores types that it does not know. */
#define VTMEM_EV_CREDIT		1	/* value: persistent puts promised in addition */
#define VTMEM_EV_EVICTED	2	/* count times struct vtmem_evicted follows */

struct vtmem_event {
	__le32 type;		/* VTMEM_EV_* */
	__le32 count;		/* VTMEM_EV_EVICTED: records that follow; else 0 */
	__le64 value;
};

/*
 * Ephemeral pages [index, index + count) of an object that the host has dropped. A hint:
 * it may come late, after a page was put again, or never. The device packs as many
 * records into a buffer as fit, and waits until it can fill one.
 */
struct vtmem_evicted {
	__le32 pool;
	__le32 count;
	__u8 object[VTMEM_OBJECT_SIZE];
	__le64 index;
};

#endif /* VIRTIO_TMEM_WIRE_H */
