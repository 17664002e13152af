// SPDX-License-Identifier: GPL-2.0-only
/*
 * The three virtqueues as a whole: set up, stopped, given up with a device that does not
 * keep its side of virtio_tmem_wire.h, and set up again after a sleep. And what comes on
 * queue 2.
 */
#include <linux/slab.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include <asm/unaligned.h>

#include "vtmem.h"

/*
 * Give the device up. Any context, any lock held. The rest is done by a worker,
 * since a reset may sleep on some transports.
 */
void vtmem_break(struct vtmem *vt, const char *why)
{
	if (cmpxchg(&vt->broken, false, true))
		return;
	dev_err(&vt->vdev->dev,
		"%s: transcendent memory is off until the driver is loaded again\n",
		why);
	queue_work(vt->wq, &vt->break_work);
}

/* vt->broken has been set. Whoever looked at it before may finish. */
static void vtmem_queues_reset(struct vtmem *vt)
{
	spin_lock_irq(&vt->put_lock);
	spin_unlock_irq(&vt->put_lock);
	spin_lock_irq(&vt->get_lock);
	spin_unlock_irq(&vt->get_lock);
	spin_lock_irq(&vt->event_lock);
	spin_unlock_irq(&vt->event_lock);

	virtio_break_device(vt->vdev);
	virtio_reset_device(vt->vdev);
}

static void vtmem_break_work(struct work_struct *work)
{
	struct vtmem *vt = container_of(work, struct vtmem, break_work);

	vtmem_queues_reset(vt);
	vtmem_staging_fail(vt);
	complete_all(&vt->reset);
}

/*
 * After -EINPROGRESS from vtmem_sync_run(): the device still had the caller's
 * pages. Returns when it no longer has. May sleep.
 */
void vtmem_wait_reset(struct vtmem *vt)
{
	wait_for_completion(&vt->reset);
}

/*
 * Queue 2. Buffers of a page, so that one interrupt brings many evictions.
 */
static void vtmem_event_offer(struct vtmem *vt, void *buffer)
{
	struct scatterlist sg;

	sg_init_one(&sg, buffer, PAGE_SIZE);
	virtqueue_add_inbuf(vt->vq[VTMEM_QUEUE_EVENT], &sg, 1, buffer, GFP_ATOMIC);
}

/* Interrupt context. Hints, to be believed only as far as that is harmless. */
static void vtmem_event_evicted(const struct vtmem_event *ev, unsigned int len)
{
	const struct vtmem_evicted *evicted = (const void *)(ev + 1);
	unsigned int nr = (len - sizeof(*ev)) / sizeof(*evicted);
	u64 pages = 0;

	nr = min(nr, le32_to_cpu(ev->count));
	for (; nr; nr--, evicted++) {
		const struct vtmem_key key = {
			.pool = le32_to_cpu(evicted->pool),
			.object = get_unaligned_le64(evicted->object),
			.index = le64_to_cpu(evicted->index),
		};
		u32 count = le32_to_cpu(evicted->count);

		vtmem_presence_clear(&key, count);
		vtmem_admission_evicted(&key, count);
		pages += count;
	}
	vtmem_count(VTMEM_EVICTIONS, pages);
}

/* Interrupt context. */
static void vtmem_event_callback(struct virtqueue *vq)
{
	struct vtmem *vt = vq->vdev->priv;
	struct vtmem_event *ev;
	unsigned long flags;
	unsigned int len;

	spin_lock_irqsave(&vt->event_lock, flags);
	while (!vtmem_broken(vt) && (ev = virtqueue_get_buf(vq, &len))) {
		len = min_t(unsigned int, len, PAGE_SIZE);
		if (len >= sizeof(*ev) &&
		    le32_to_cpu(ev->type) == VTMEM_EV_CREDIT)
			vtmem_credit_add(vt, le64_to_cpu(ev->value));
		else if (len >= sizeof(*ev) &&
			 le32_to_cpu(ev->type) == VTMEM_EV_EVICTED)
			vtmem_event_evicted(ev, len);
		vtmem_event_offer(vt, ev);
	}
	if (!vtmem_broken(vt))
		virtqueue_kick(vq);
	spin_unlock_irqrestore(&vt->event_lock, flags);
}

/* A device that was just found, or reset. */
static int vtmem_queues_find(struct vtmem *vt)
{
	static vq_callback_t *callbacks[] = {
		[VTMEM_QUEUE_PUT] = vtmem_put_callback,
		[VTMEM_QUEUE_GET] = NULL,
		[VTMEM_QUEUE_EVENT] = vtmem_event_callback,
	};
	static const char * const names[] = {
		[VTMEM_QUEUE_PUT] = "put",
		[VTMEM_QUEUE_GET] = "get",
		[VTMEM_QUEUE_EVENT] = "event",
	};
	unsigned int i;
	int err;

	err = virtio_find_vqs(vt->vdev, VTMEM_NR_QUEUES, vt->vq, callbacks,
			      names, NULL);
	if (err) {
		dev_err(&vt->vdev->dev, "cannot set up the queues: %d\n", err);
		return err;
	}
	if (virtqueue_get_vring_size(vt->vq[VTMEM_QUEUE_GET]) <
	    2 + VTMEM_GET_SEGS) {
		dev_err(&vt->vdev->dev,
			"queue 1 has %u entries, and %u are needed\n",
			virtqueue_get_vring_size(vt->vq[VTMEM_QUEUE_GET]),
			2 + VTMEM_GET_SEGS);
		vt->vdev->config->del_vqs(vt->vdev);
		return -EINVAL;
	}
	virtqueue_disable_cb(vt->vq[VTMEM_QUEUE_PUT]);
	virtqueue_disable_cb(vt->vq[VTMEM_QUEUE_GET]);

	if (virtio_has_feature(vt->vdev, VTMEM_F_EVENTS)) {
		unsigned int nr =
			virtqueue_get_vring_size(vt->vq[VTMEM_QUEUE_EVENT]);

		for (i = 0; i < min_t(unsigned int, nr, VTMEM_NR_EVENTS); i++)
			vtmem_event_offer(vt, vt->events + i * PAGE_SIZE);
	}
	return 0;
}

/* The device was reset, and nobody uses it. */
static void vtmem_queues_delete(struct vtmem *vt)
{
	unsigned int i;

	/* What the device had when it was reset is still mapped for it. */
	for (i = 0; i < VTMEM_NR_QUEUES; i++)
		while (virtqueue_detach_unused_buf(vt->vq[i]))
			;
	vt->vdev->config->del_vqs(vt->vdev);
}

/* What the host promises of itself. */
static void vtmem_queues_credit(struct vtmem *vt)
{
	u64 credit;

	virtio_cread_le(vt->vdev, struct vtmem_config, credit, &credit);
	atomic64_set(&vt->credit, 0);
	vtmem_credit_add(vt, credit);
}

/* The host may begin. */
void vtmem_queues_start(struct vtmem *vt)
{
	virtio_device_ready(vt->vdev);
	if (virtio_has_feature(vt->vdev, VTMEM_F_EVENTS))
		virtqueue_kick(vt->vq[VTMEM_QUEUE_EVENT]);
}

int vtmem_queues_init(struct vtmem *vt)
{
	int err = -ENOMEM;

	BUILD_BUG_ON(sizeof(struct vtmem_ctl) > PAGE_SIZE);

	spin_lock_init(&vt->put_lock);
	spin_lock_init(&vt->get_lock);
	spin_lock_init(&vt->event_lock);
	init_completion(&vt->reset);
	INIT_WORK(&vt->break_work, vtmem_break_work);
	sg_init_table(vt->get_in, ARRAY_SIZE(vt->get_in));

	vt->get_ctl = kzalloc(sizeof(*vt->get_ctl), GFP_KERNEL);
	vt->events = kcalloc(VTMEM_NR_EVENTS, PAGE_SIZE, GFP_KERNEL);
	if (vt->get_ctl && vt->events)
		err = vtmem_queues_find(vt);
	if (err) {
		kfree(vt->events);
		kfree(vt->get_ctl);
		return err;
	}
	vtmem_queues_credit(vt);
	return 0;
}

/* Nobody starts anything any more. Afterwards the device reaches no memory. */
void vtmem_queues_stop(struct vtmem *vt)
{
	bool broken = cmpxchg(&vt->broken, false, true);

	if (broken) {
		vtmem_wait_reset(vt);
		flush_work(&vt->break_work);
		/* It may have been started again since. */
		virtio_reset_device(vt->vdev);
	} else {
		vtmem_queues_reset(vt);
	}
	virtio_synchronize_cbs(vt->vdev);
}

/* The rings and what is allocated with them. */
u64 vtmem_queues_bytes(struct vtmem *vt)
{
	u64 bytes = sizeof(*vt->get_ctl) + VTMEM_NR_EVENTS * PAGE_SIZE;
	unsigned int i;

	for (i = 0; i < VTMEM_NR_QUEUES && !vt->no_queues; i++)
		bytes += vring_size(virtqueue_get_vring_size(vt->vq[i]),
				    PAGE_SIZE);
	return bytes;
}

/*
 * Before a suspend: the device is reset, and its rings go. There is nothing on them and
 * nothing at the host, so that nobody will miss them. Who tries to use the device
 * meanwhile finds it broken.
 */
void vtmem_queues_freeze(struct vtmem *vt)
{
	vt->was_broken = vtmem_broken(vt);
	vtmem_queues_stop(vt);
	/* Who waits for a reset has it. */
	complete_all(&vt->reset);
	vtmem_queues_delete(vt);
	vt->no_queues = true;
	vt->was_reset = true;
}

/* After it, with a device that was reset. On failure it stays broken. */
int vtmem_queues_restore(struct vtmem *vt)
{
	int err = vtmem_queues_find(vt);

	if (err)
		return err;
	vt->no_queues = false;
	vtmem_queues_credit(vt);
	if (!vt->was_broken) {
		reinit_completion(&vt->reset);
		/* Pairs with the locks of who finds that it is not. */
		smp_store_release(&vt->broken, false);
	}
	vtmem_queues_start(vt);
	return 0;
}

void vtmem_queues_exit(struct vtmem *vt)
{
	if (!vt->no_queues)
		vtmem_queues_delete(vt);
	kfree(vt->events);
	kfree(vt->get_ctl);
}
