// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suspend and hibernate.
 *
 * The virtio core resets a device on the way back from sleep, and with a reset the host
 * forgets all it had of the guest. So the guest leaves the host before: pools of file
 * systems are destroyed, and swapped pages go to the real device, as long as everything
 * still works, which is when PM notifiers are called. From then on nothing is put until the
 * guest is up again, the image of a hibernation among that: what is to be found by the
 * kernel that resumes must be on the disk.
 *
 *	PM_*_PREPARE	leave; or the sleep is refused
 *	freeze		the device is reset, its rings go
 *	restore		the device has been reset: new rings
 *	PM_POST_*	return
 *
 * freeze and restore come twice for a hibernation, before and after its image is made.
 */
#include <linux/suspend.h>

#include "vtmem.h"

static void vtmem_return(struct vtmem *vt)
{
	if (!vt->away)
		return;
	vt->away = false;
	vtmem_swap_return(vt);
	if (vt->cleancache)
		vtmem_mounts_resume();
	vtmem_memory_start(vt);
}

static int vtmem_leave(struct vtmem *vt)
{
	int err;

	vt->away = true;
	vt->was_reset = false;
	/* Nobody reads of the rings what they take. */
	vtmem_memory_stop(vt);
	if (vt->cleancache)
		vtmem_mounts_pause();
	err = vtmem_swap_leave(vt);
	if (err) {
		dev_err(&vt->vdev->dev,
			"no sleep: swapped pages cannot be brought home from the host (%d)\n",
			err);
		vtmem_return(vt);
	}
	return err;
}

/* Process context; everything works. */
static int vtmem_pm(struct notifier_block *nb, unsigned long action, void *unused)
{
	struct vtmem *vt = container_of(nb, struct vtmem, pm);

	switch (action) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		return notifier_from_errno(vtmem_leave(vt));
	case PM_POST_SUSPEND:
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		vtmem_return(vt);
		break;
	}
	return NOTIFY_DONE;
}

/* Tasks are frozen, and the core calls vtmem_config_changed no more. */
int vtmem_suspend_freeze(struct virtio_device *vdev)
{
	struct vtmem *vt = vdev->priv;

	/* Swapped pages would be lost. */
	if (!vt->away)
		return -EBUSY;
	cancel_work_sync(&vt->config_work);
	vtmem_queues_freeze(vt);
	return 0;
}

int vtmem_suspend_restore(struct virtio_device *vdev)
{
	return vtmem_queues_restore(vdev->priv);
}

/* At the end of probe. Without CONFIG_PM_SLEEP there is nobody who would call. */
void vtmem_suspend_init(struct vtmem *vt)
{
	vt->pm.notifier_call = vtmem_pm;
	register_pm_notifier(&vt->pm);
}

/* At the beginning of remove: returns when no sleep is being prepared. */
void vtmem_suspend_exit(struct vtmem *vt)
{
	unregister_pm_notifier(&vt->pm);
}
