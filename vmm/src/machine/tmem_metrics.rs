//! What is measured of a pool.

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
        let frozen = u64::from(self.device().guest().is_frozen());
        to.single(
            "vtmem_pool_frozen",
            Gauge,
            "1 while all puts are refused.",
            frozen,
        );
    }
}
