//! What a machine counted so far, device by device.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tmem_device::device::TmemStats;

use crate::devices::virtio::blk::{Blk, DiskCounters};
use crate::devices::virtio::tmem::Tmem;
use crate::devices::virtio::{blk_metrics, tmem_metrics};
use crate::host_memory::{self, HostMemory};
use crate::hypervisor::Vm;
use crate::metrics::{
    Exposition,
    Kind::{Counter, Gauge},
};

/// Everything that is counted; a mark's line is this in JSON, and metrics are made of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counters {
    /// Exits of all vCPUs by KVM's names, their sum as `total`.
    pub exits: BTreeMap<String, u64>,
    /// The disks in their order.
    pub disks: Vec<DiskCounters>,
    /// The virtio-tmem device and the pool behind it.
    pub tmem: Option<TmemStats>,
    /// The cgroup that the VMM is in.
    pub host_memory: Option<HostMemory>,
}

/// Who counts.
#[derive(Clone)]
pub(super) struct Counting {
    pub vm: Arc<dyn Vm>,
    pub disks: Vec<Arc<Blk>>,
    pub tmem: Option<Arc<Tmem>>,
}

impl Counting {
    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        Counters {
            exits: self.vm.exit_counts(),
            disks: self.disks.iter().map(|disk| disk.counters()).collect(),
            tmem: self.tmem.as_ref().map(|tmem| tmem.stats()),
            host_memory: host_memory::read(),
        }
    }
}

impl Counters {
    /// Metrics of all that is counted, but for the pool.
    pub fn expose(&self, to: &mut Exposition) {
        let total = self.exits.get("total").copied().unwrap_or(0);
        let help = "Exits of all vCPUs, as KVM counts them.";
        to.single("vtmem_exits_total", Counter, help, total);
        let help = "Exits of all vCPUs by reason, as far as KVM counts reasons, and by its names.";
        to.family("vtmem_exits_by_reason_total", Counter, help);
        for (reason, count) in self.exits.iter().filter(|(name, _)| *name != "total") {
            to.sample(&[("reason", reason)], *count);
        }
        blk_metrics::expose(&self.disks, to);
        if let Some(tmem) = &self.tmem {
            tmem_metrics::expose(tmem, to);
        }
        if let Some(memory) = self.host_memory {
            let help = "Memory that the VMM's cgroup holds.";
            to.single("vtmem_host_memory_bytes", Gauge, help, memory.current);
            let help = "The most memory that the VMM's cgroup has held.";
            to.single("vtmem_host_memory_peak_bytes", Gauge, help, memory.peak);
        }
    }
}

#[cfg(test)]
#[path = "counters_test.rs"]
mod tests;
