// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio-tmem: cleancache and frontswap in the host's memory, for kernels that have
 * neither. See README.md for what it does and vtmem.h for where.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include "vtmem.h"

unsigned int vtmem_flush_ms = 20;
module_param_named(flush_ms, vtmem_flush_ms, uint, 0644);
MODULE_PARM_DESC(flush_ms, "Longest time in ms that a put or flush waits for its batch");

static bool vtmem_cleancache = true;
module_param_named(cleancache, vtmem_cleancache, bool, 0444);
MODULE_PARM_DESC(cleancache, "Keep clean page cache pages that are reclaimed (default Y)");

static char *vtmem_fs = "ext4,xfs";
module_param_named(fs, vtmem_fs, charp, 0444);
MODULE_PARM_DESC(fs, "Types of file systems, separated by commas, that take part (default ext4,xfs)");

static bool vtmem_all_mounts = true;
module_param_named(all_mounts, vtmem_all_mounts, bool, 0444);
MODULE_PARM_DESC(all_mounts, "Every mount of those types takes part (default Y), or only those written to debugfs virtio_tmem/mounts");

static char *vtmem_swap_lower;
module_param_named(swap_lower, vtmem_swap_lower, charp, 0444);
MODULE_PARM_DESC(swap_lower, "Block device under /dev/vtmemswap0; without it there is none");

/* The hooks are the kernel's, so there is one device. */
static struct vtmem *vtmem_the_device;

static const struct virtio_device_id vtmem_ids[] = {
	{ VTMEM_DEVICE_ID, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, vtmem_ids);

static const unsigned int vtmem_features[] = {
	VTMEM_F_EPHEMERAL,
	VTMEM_F_PERSISTENT,
	VTMEM_F_FLUSH_RANGE,
	VTMEM_F_EVENTS,
	VTMEM_F_EVICTIONS,
	VTMEM_F_ADMISSION,
	VTMEM_F_DRIVER_MEMORY,
};

static int vtmem_validate(struct virtio_device *vdev)
{
	/*
	 * Indirect descriptors are allocated for each chain; chains are made where
	 * nothing can be allocated.
	 */
	__virtio_clear_bit(vdev, VIRTIO_RING_F_INDIRECT_DESC);
	return 0;
}

static int vtmem_check_config(struct virtio_device *vdev)
{
	u32 version, max_ops;

	virtio_cread_le(vdev, struct vtmem_config, version, &version);
	virtio_cread_le(vdev, struct vtmem_config, max_ops, &max_ops);
	if (version != VTMEM_VERSION) {
		dev_err(&vdev->dev,
			"the host speaks version %u, this driver %u: update the older one\n",
			version, VTMEM_VERSION);
		return -ENODEV;
	}
	if (max_ops < VTMEM_BATCH_OPS) {
		dev_err(&vdev->dev, "the host takes %u operations a chain, not %u\n",
			max_ops, VTMEM_BATCH_OPS);
		return -ENODEV;
	}
	return 0;
}

/* The configuration may sleep to be read, and its interrupt may not. */
static void vtmem_config_work(struct work_struct *work)
{
	struct vtmem *vt = container_of(work, struct vtmem, config_work);

	vtmem_admission_ask(vt->vdev);
}

/* Either half may fail; the other works without it. */
static int vtmem_start_halves(struct vtmem *vt)
{
	bool any = false;
	int err = 0;

	if (vtmem_swap_lower &&
	    virtio_has_feature(vt->vdev, VTMEM_F_PERSISTENT)) {
		err = vtmem_swap_init(vt, vtmem_swap_lower);
		if (err)
			dev_err(&vt->vdev->dev, "no /dev/vtmemswap0 (%d)\n", err);
		else
			any = true;
	}
	if (vtmem_cleancache && virtio_has_feature(vt->vdev, VTMEM_F_EPHEMERAL)) {
		err = vtmem_cleancache_init(vt);
		if (err)
			dev_err(&vt->vdev->dev,
				"page cache not hooked, nothing attached (%d)\n",
				err);
		else
			any = true;
		vt->cleancache = !err;
	}
	return any ? 0 : err;
}

static int vtmem_probe(struct virtio_device *vdev)
{
	unsigned int ring_size;
	struct vtmem *vt;
	int err;

	if (vtmem_the_device) {
		dev_err(&vdev->dev, "there is another virtio-tmem device\n");
		return -EBUSY;
	}
	err = vtmem_check_config(vdev);
	if (err)
		return err;

	vt = kzalloc(sizeof(*vt), GFP_KERNEL);
	if (!vt)
		return -ENOMEM;
	vt->vdev = vdev;
	INIT_WORK(&vt->config_work, vtmem_config_work);
	vdev->priv = vt;

	err = vtmem_presence_init();
	if (err)
		goto free;
	err = vtmem_admission_init(vdev);
	if (err)
		goto exit_presence;
	/* Frees memory when it makes progress, hence the rescuer. */
	vt->wq = alloc_workqueue("virtio_tmem", WQ_MEM_RECLAIM, 0);
	if (!vt->wq) {
		err = -ENOMEM;
		goto exit_admission;
	}
	err = vtmem_queues_init(vt);
	if (err)
		goto destroy_wq;
	ring_size = virtqueue_get_vring_size(vt->vq[VTMEM_QUEUE_PUT]);
	err = vtmem_staging_init(vt, ring_size);
	if (err)
		goto exit_queues;

	vtmem_queues_start(vt);

	vtmem_mounts_init(vt, vtmem_fs, vtmem_all_mounts);
	err = vtmem_start_halves(vt);
	if (err)
		goto exit_staging;
	vtmem_stats_init(vt);
	vtmem_memory_start(vt);
	vtmem_suspend_init(vt);
	vtmem_the_device = vt;
	dev_info(&vdev->dev, "cleancache %s, swap device %s\n",
		 vt->cleancache ? "on" : "off", vt->swap ? "on" : "off");
	return 0;

exit_staging:
	vtmem_queues_stop(vt);
	vtmem_staging_exit(vt);
exit_queues:
	vtmem_queues_exit(vt);
destroy_wq:
	destroy_workqueue(vt->wq);
exit_admission:
	vtmem_admission_exit();
exit_presence:
	vtmem_presence_exit();
free:
	kfree(vt);
	return err;
}

/*
 * First nobody may start anything, then nothing may be held, then nothing is under
 * way, and last the device lets go of the memory.
 */
static void vtmem_remove(struct virtio_device *vdev)
{
	struct vtmem *vt = vdev->priv;

	vtmem_suspend_exit(vt);
	/* The core calls vtmem_config_changed no more. */
	cancel_work_sync(&vt->config_work);
	vtmem_memory_stop(vt);
	vtmem_stats_exit();
	if (vt->cleancache)
		vtmem_cleancache_exit();
	vtmem_mounts_exit();
	vtmem_swap_exit(vt);
	vtmem_submit_all(vt);
	vtmem_drain(vt);

	vtmem_queues_stop(vt);
	vtmem_staging_exit(vt);
	vtmem_queues_exit(vt);
	destroy_workqueue(vt->wq);
	vtmem_admission_exit();
	vtmem_presence_exit();
	vtmem_the_device = NULL;
	kfree(vt);
}

/* Interrupt context; between the end of probe and the beginning of remove. */
static void vtmem_config_changed(struct virtio_device *vdev)
{
	struct vtmem *vt = vdev->priv;

	if (!vt)
		return;
	if (vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_NEEDS_RESET)
		vtmem_break(vt, "the device needs a reset");
	else
		schedule_work(&vt->config_work);
}

static struct virtio_driver vtmem_driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.driver.suppress_bind_attrs = true,
	.id_table = vtmem_ids,
	.feature_table = vtmem_features,
	.feature_table_size = ARRAY_SIZE(vtmem_features),
	.validate = vtmem_validate,
	.probe = vtmem_probe,
	.remove = vtmem_remove,
	.config_changed = vtmem_config_changed,
#ifdef CONFIG_PM_SLEEP
	.freeze = vtmem_suspend_freeze,
	.restore = vtmem_suspend_restore,
#endif
};
module_virtio_driver(vtmem_driver);

MODULE_DESCRIPTION("Transcendent memory for KVM guests");
MODULE_LICENSE("GPL");
