//! Xen's PVH boot ABI: a 32-bit entry, and one structure that says where everything is.
//!
//! Layout: Xen, docs/misc/pvh.pandoc.

use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{BootError, Initrd, MapEntry, layout};
use crate::hypervisor::Entry;

/// `hvm_start_info.magic`.
const MAGIC: u32 = 0x336e_c578;

/// Writes the start info for a kernel entered at `entry`.
pub fn set_up(
    memory: &GuestMemoryMmap,
    entry: u64,
    initrd: Option<Initrd>,
    rsdp: u64,
    map: &[MapEntry],
) -> Result<Entry, BootError> {
    let info = hvm_start_info {
        magic: MAGIC,
        version: 1,
        cmdline_paddr: layout::CMDLINE,
        nr_modules: u32::from(initrd.is_some()),
        modlist_paddr: if initrd.is_some() { layout::MODULES } else { 0 },
        rsdp_paddr: rsdp,
        memmap_paddr: layout::MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    memory.write_obj(info, GuestAddress(layout::START_INFO))?;
    if let Some(Initrd { address, size }) = initrd {
        let module = hvm_modlist_entry {
            paddr: address,
            size,
            ..Default::default()
        };
        memory.write_obj(module, GuestAddress(layout::MODULES))?;
    }
    for (n, range) in map.iter().enumerate() {
        let range = hvm_memmap_table_entry {
            addr: range.address,
            size: range.size,
            type_: range.kind,
            reserved: 0,
        };
        let at = layout::MEMORY_MAP + (n * size_of::<hvm_memmap_table_entry>()) as u64;
        memory.write_obj(range, GuestAddress(at))?;
    }
    super::linux64::write_gdt(memory)?;
    Ok(Entry::Pvh {
        rip: entry,
        start_info: layout::START_INFO,
    })
}
