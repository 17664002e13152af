// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the driver takes of the guest's memory: tables that are allocated at probe, and
 * what comes and goes with its use. Told to the host as well, for what tmem costs a
 * guest belongs beside what it brings.
 */
#include <linux/mutex.h>
#include <linux/virtio_config.h>

#include "vtmem.h"

/* Tellers, and vt->tells. The transport writes a field of 64 bits in two steps. */
static DEFINE_MUTEX(vtmem_memory_mutex);

u64 vtmem_memory_bytes(struct vtmem *vt)
{
	return vtmem_presence_bytes() + vtmem_admission_bytes() +
	       vtmem_staging_bytes(vt) + vtmem_queues_bytes(vt) +
	       vtmem_swap_bytes(vt);
}

/* Process context; may sleep. It has changed: workers of what takes memory say so. */
void vtmem_memory_tell(struct vtmem *vt)
{
	u64 bytes;

	mutex_lock(&vtmem_memory_mutex);
	if (vt->tells && !vtmem_broken(vt)) {
		bytes = vtmem_memory_bytes(vt);
		virtio_cwrite_le(vt->vdev, struct vtmem_config, driver_memory,
				 &bytes);
	}
	mutex_unlock(&vtmem_memory_mutex);
}

/* At the end of probe. */
void vtmem_memory_start(struct vtmem *vt)
{
	mutex_lock(&vtmem_memory_mutex);
	vt->tells = virtio_has_feature(vt->vdev, VTMEM_F_DRIVER_MEMORY);
	mutex_unlock(&vtmem_memory_mutex);
	vtmem_memory_tell(vt);
}

/* At the beginning of remove: what is added up is about to go. */
void vtmem_memory_stop(struct vtmem *vt)
{
	mutex_lock(&vtmem_memory_mutex);
	vt->tells = false;
	mutex_unlock(&vtmem_memory_mutex);
}
