//! From files to a guest that can start: kernel, initrd, command line, tables.

pub mod acpi;
pub mod kernel;
pub mod layout;
pub mod linux64;
pub mod pvh;
pub mod reset_vector;

use std::path::PathBuf;

use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::hypervisor::Entry;
use kernel::Protocol;

/// What to boot.
#[derive(Clone, Debug)]
pub struct BootSource {
    /// bzImage or ELF kernel.
    pub kernel: PathBuf,
    /// Initial root file system.
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    pub cmdline: String,
}

/// Why a guest cannot be booted. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file could not be opened or read.
    #[error("cannot read {what} {}: {source}", path.display())]
    Read {
        /// "the kernel" or "the initrd".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Neither bzImage nor a 64-bit ELF kernel.
    #[error("{} is not a kernel ({reason}); give a bzImage or a 64-bit ELF vmlinux for x86-64", path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Memory is too small.
    #[error("{} does not fit into {mem_mib} MiB of memory; raise --mem to {needed_mib}M or more", path.display())]
    TooBig {
        /// The file.
        path: PathBuf,
        /// Guest memory, in MiB.
        mem_mib: u64,
        /// What it would take at least, in MiB.
        needed_mib: u64,
    },
    /// The command line is too long for Linux.
    #[error("the kernel command line has {0} bytes; Linux takes {max} at most", max = layout::CMDLINE_BYTES - 1)]
    CmdlineTooLong(usize),
    /// The command line contains a zero byte.
    #[error("the kernel command line contains a zero byte; remove it")]
    CmdlineZero,
    /// Tables could not be written; the layout guarantees that they can.
    #[error("cannot write boot tables to guest memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
}

/// Loads `source` into `memory` and writes every table it needs.
///
/// `virtio_devices` is the number of virtio-mmio slots to describe, `acpi` whether to describe them by
/// ACPI tables; without, they go on the command line.
pub fn load(
    memory: &GuestMemoryMmap,
    source: &BootSource,
    cpus: u8,
    virtio_devices: usize,
    acpi: bool,
) -> Result<Entry, BootError> {
    let mut cmdline = source.cmdline.clone();
    if !acpi {
        cmdline.push_str(&command_line_devices(virtio_devices));
    }
    if cmdline.len() >= layout::CMDLINE_BYTES {
        return Err(BootError::CmdlineTooLong(cmdline.len()));
    }
    if cmdline.contains('\0') {
        return Err(BootError::CmdlineZero);
    }
    let loaded = kernel::load_kernel(memory, &source.kernel)?;
    let initrd = source
        .initrd
        .as_deref()
        .map(|path| kernel::load_initrd(memory, path, loaded.end))
        .transpose()?;
    let mut text = cmdline.into_bytes();
    text.push(0);
    vm_memory::Bytes::write_slice(memory, &text, vm_memory::GuestAddress(layout::CMDLINE))?;
    if acpi {
        acpi::write_tables(memory, cpus, virtio_devices)?;
    }
    reset_vector::write(memory)?;
    let rsdp = if acpi { layout::RSDP } else { 0 };
    let map = memory_map(memory);
    match loaded.protocol {
        Protocol::Pvh { entry } => pvh::set_up(memory, entry, initrd, rsdp, &map),
        Protocol::Linux64 { entry, header } => {
            let header = header.map(|header| *header);
            linux64::set_up(memory, entry, header, initrd, text.len(), rsdp, &map)
        }
    }
}

/// What tells a kernel without ACPI where the virtio-mmio devices are
/// (Linux, drivers/virtio/virtio_mmio.c: `virtio_mmio.device=<size>@<base>:<irq>`).
fn command_line_devices(count: usize) -> String {
    (0..count)
        .map(|slot| {
            format!(
                " virtio_mmio.device=4K@{:#x}:{}",
                layout::VIRTIO_MMIO + slot as u64 * layout::VIRTIO_MMIO_STRIDE,
                layout::VIRTIO_GSI + slot as u32
            )
        })
        .collect()
}

/// The initrd's place in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct Initrd {
    /// Guest-physical address.
    pub address: u64,
    /// Size in bytes.
    pub size: u64,
}

/// A range of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// Guest-physical address.
    pub address: u64,
    /// Size in bytes.
    pub size: u64,
    /// 1 RAM, 2 reserved (the numbers of e820 and PVH).
    pub kind: u32,
}

/// e820 RAM.
pub const RAM: u32 = 1;
/// e820 reserved.
pub const RESERVED: u32 = 2;

/// The memory map: conventional memory, the reserved range below 1 MiB, the rest.
fn memory_map(memory: &GuestMemoryMmap) -> Vec<MapEntry> {
    let entry = |address, end, kind| MapEntry {
        address,
        size: end - address,
        kind,
    };
    let mut map = vec![
        entry(0, layout::EBDA, RAM),
        entry(layout::EBDA, layout::HIGH_MEMORY, RESERVED),
    ];
    for region in memory.iter() {
        let start = region.start_addr().0;
        let end = start + region.len();
        map.push(entry(start.max(layout::HIGH_MEMORY), end, RAM));
    }
    map
}

#[cfg(test)]
#[path = "boot_test.rs"]
mod tests;
