//! What is measured of a pool.

use tmem_device::pool::PoolStats;
use tmem_device::tier::TierStats;

use super::tmem::TmemService;
use crate::metrics::{
    Exposition,
    Kind::{Counter, Gauge},
};

impl TmemService {
    /// Metrics of the pool.
    pub fn expose(&self, to: &mut Exposition) {
        let stats = self.pool().stats();
        let size = self.pool().size();
        to.single(
            "vtmem_pool_size_bytes",
            Gauge,
            "Bytes that the pool may take.",
            size,
        );
        let help = "Bytes that the pool takes, metadata included.";
        to.single("vtmem_pool_used_bytes", Gauge, help, stats.used_bytes);
        let help = "Bytes that the host can have back at once.";
        to.single(
            "vtmem_pool_freeable_bytes",
            Gauge,
            help,
            stats.ephemeral_bytes,
        );
        let help = "Of the bytes used, those of pages that have gone.";
        to.single("vtmem_pool_dead_bytes", Gauge, help, stats.dead_bytes);
        to.family("vtmem_pool_pages", Gauge, "Pages stored, by kind.");
        let ephemeral = stats.stored_pages.saturating_sub(stats.persistent_pages);
        to.sample(&[("kind", "ephemeral")], ephemeral);
        to.sample(&[("kind", "persistent")], stats.persistent_pages);
        let help = "Bytes of the pages' data as stored, by tier.";
        to.family("vtmem_pool_data_bytes", Gauge, help);
        to.sample(&[("tier", "ram")], stats.stored_bytes);
        let disks = self.pool().tier_stats();
        if let Some(disk) = disks.first() {
            to.sample(&[("tier", "disk")], disk.live_bytes);
        }
        let help = "Pages that nobody has tried to compress.";
        to.single("vtmem_pool_raw_pages", Gauge, help, stats.raw_pages);
        let help = "Persistent puts promised and not sent yet.";
        to.single(
            "vtmem_pool_promised_pages",
            Gauge,
            help,
            stats.promised_pages,
        );
        let help = "Ephemeral pages dropped to make room.";
        to.single("vtmem_pool_evictions_total", Counter, help, stats.evictions);
        let help = "Ephemeral pages that the host's kernel took.";
        to.single(
            "vtmem_pool_taken_pages_total",
            Counter,
            help,
            stats.taken_pages,
        );
        let help = "Bytes that indexes, records and ghosts take.";
        to.single(
            "vtmem_pool_metadata_bytes",
            Gauge,
            help,
            stats.metadata_bytes,
        );
        if let Some(disk) = disks.first() {
            expose_spill(to, &stats, disk);
        }
        let frozen = u64::from(self.device().guest().is_frozen());
        to.single(
            "vtmem_pool_frozen",
            Gauge,
            "1 while all puts are refused.",
            frozen,
        );
    }
}

/// Metrics of what goes down to a disk, and comes back.
fn expose_spill(to: &mut Exposition, pool: &PoolStats, disk: &TierStats) {
    for (name, kind, help, value) in [
        (
            "vtmem_pool_dirty_bytes",
            Gauge,
            "Bytes charged for persistent pages that memory alone has.",
            pool.dirty_bytes,
        ),
        (
            "vtmem_pool_below_pages",
            Gauge,
            "Pages that the disk alone has.",
            pool.below_pages,
        ),
        (
            "vtmem_pool_spilled_pages_total",
            Counter,
            "Pages written to the disk.",
            pool.written_pages,
        ),
        (
            "vtmem_pool_reloaded_pages_total",
            Counter,
            "Pages got back from the disk.",
            pool.reloaded_pages,
        ),
        (
            "vtmem_pool_unreadable_pages_total",
            Counter,
            "Gets of pages that the disk could not return.",
            pool.unreadable_pages,
        ),
        (
            "vtmem_spill_size_bytes",
            Gauge,
            "Bytes of the disk that may be used.",
            disk.capacity_bytes,
        ),
        (
            "vtmem_spill_used_bytes",
            Gauge,
            "Bytes of the disk that are used.",
            disk.used_bytes,
        ),
        (
            "vtmem_spill_pages",
            Gauge,
            "Pages that the disk has.",
            disk.records,
        ),
        (
            "vtmem_spill_refused_pages_total",
            Counter,
            "Pages that the disk did not take, being full, slow or failing.",
            disk.refused,
        ),
        (
            "vtmem_spill_load_errors_total",
            Counter,
            "Pages that the disk did not return.",
            disk.load_errors,
        ),
        (
            "vtmem_spill_written_bytes_total",
            Counter,
            "Bytes written to the disk.",
            disk.written_bytes,
        ),
        (
            "vtmem_spill_read_bytes_total",
            Counter,
            "Bytes read from the disk.",
            disk.read_bytes,
        ),
    ] {
        to.single(name, kind, help, value);
    }
}
