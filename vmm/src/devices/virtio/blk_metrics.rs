//! What is measured of disks.

use super::blk::DiskCounters;
use crate::metrics::{Exposition, Kind::Counter};

/// Metrics of all disks of a machine.
pub fn expose(disks: &[DiskCounters], to: &mut Exposition) {
    type Figure = (&'static str, &'static str, fn(&DiskCounters) -> Option<u64>);
    let figures: [Figure; 7] = [
        ("vtmem_disk_reads_total", "Reads that completed.", |disk| {
            Some(disk.read_ops)
        }),
        (
            "vtmem_disk_writes_total",
            "Writes that completed.",
            |disk| Some(disk.write_ops),
        ),
        (
            "vtmem_disk_flushes_total",
            "Flushes that completed.",
            |disk| Some(disk.flush_ops),
        ),
        (
            "vtmem_disk_read_bytes_total",
            "Bytes that completed reads asked for.",
            |disk| Some(disk.read_bytes),
        ),
        (
            "vtmem_disk_written_bytes_total",
            "Bytes that completed writes asked for.",
            |disk| Some(disk.write_bytes),
        ),
        (
            "vtmem_disk_host_read_bytes_total",
            "Bytes that the host's block layer read for the disk; of a file, for the whole VMM.",
            |disk| disk.host.map(|host| host.read_bytes),
        ),
        (
            "vtmem_disk_host_written_bytes_total",
            "Bytes that the host's block layer wrote for the disk; of a file, for the whole VMM.",
            |disk| disk.host.map(|host| host.write_bytes),
        ),
    ];
    for (name, help, figure) in figures {
        to.family(name, Counter, help);
        for disk in disks {
            if let Some(value) = figure(disk) {
                to.sample(&[("disk", &disk.id)], value);
            }
        }
    }
}
