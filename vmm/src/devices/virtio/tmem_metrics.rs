//! What is measured of a virtio-tmem device.

use tmem_device::device::TmemStats;

use crate::metrics::{
    Exposition,
    Kind::{Counter, Gauge},
};

/// Metrics of the device; those of the pool behind it are the pool's.
pub fn expose(stats: &TmemStats, to: &mut Exposition) {
    let figures = [
        (
            "vtmem_tmem_puts_total",
            "Put operations executed.",
            stats.puts,
        ),
        (
            "vtmem_tmem_puts_refused_total",
            "Puts that were refused.",
            stats.puts_refused,
        ),
        (
            "vtmem_tmem_gets_total",
            "Get operations executed.",
            stats.gets,
        ),
        (
            "vtmem_tmem_hits_total",
            "Gets that found their page.",
            stats.hits,
        ),
        (
            "vtmem_tmem_flushes_total",
            "Flush operations executed.",
            stats.flushes,
        ),
        (
            "vtmem_tmem_chains_total",
            "Descriptor chains that carried operations.",
            stats.chains,
        ),
        (
            "vtmem_tmem_malformed_chains_total",
            "Chains that were returned with nothing done.",
            stats.malformed_chains,
        ),
        (
            "vtmem_tmem_polls_total",
            "Times that the worker looked for puts by itself.",
            stats.polls,
        ),
        (
            "vtmem_tmem_polls_in_vain_total",
            "Of these, times that it found none.",
            stats.polls_in_vain,
        ),
        (
            "vtmem_tmem_events_total",
            "Events sent to the driver.",
            stats.events,
        ),
        (
            "vtmem_tmem_forgotten_evictions_total",
            "Evicted pages that the driver was not told of in time.",
            stats.evictions_forgotten,
        ),
    ];
    for (name, help, value) in figures {
        to.single(name, Counter, help, value);
    }
    let help = "Bytes of the guest's memory that its driver says it takes.";
    to.single(
        "vtmem_tmem_driver_memory_bytes",
        Gauge,
        help,
        stats.driver_memory_bytes,
    );
    let help = "Doorbells; each of the get queue is an exit.";
    to.family("vtmem_tmem_doorbells_total", Counter, help);
    to.sample(&[("queue", "put")], stats.put_doorbells);
    to.sample(&[("queue", "get")], stats.get_doorbells);
}
