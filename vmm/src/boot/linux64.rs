//! Linux's 64-bit boot protocol (Documentation/x86/boot.rst): `boot_params` and page tables.

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{BootError, Initrd, MapEntry, layout};
use crate::hypervisor::Entry;

/// `type_of_loader`: a boot loader without a number of its own.
const LOADER_OTHER: u8 = 0xff;
/// Present and writable.
const PAGE: u64 = 3;
/// Present, writable, 2 MiB.
const LARGE_PAGE: u64 = 0x83;

/// Writes `boot_params` and page tables for a kernel entered at `entry`.
///
/// `header` is a bzImage's own; `cmdline_bytes` counts the final zero.
pub fn set_up(
    memory: &GuestMemoryMmap,
    entry: u64,
    header: Option<setup_header>,
    initrd: Option<Initrd>,
    cmdline_bytes: usize,
    rsdp: u64,
    map: &[MapEntry],
) -> Result<Entry, BootError> {
    let made_up = || setup_header {
        boot_flag: 0xaa55,
        header: u32::from_le_bytes(*b"HdrS"),
        kernel_alignment: 0x100_0000,
        ..Default::default()
    };
    let mut params = boot_params {
        hdr: header.unwrap_or_else(made_up),
        ..Default::default()
    };
    params.hdr.type_of_loader = LOADER_OTHER;
    params.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    params.hdr.cmdline_size = cmdline_bytes as u32;
    if let Some(Initrd { address, size }) = initrd {
        params.hdr.ramdisk_image = address as u32;
        params.hdr.ramdisk_size = size as u32;
    }
    params.acpi_rsdp_addr = rsdp;
    params.e820_entries = map.len() as u8;
    for (slot, range) in params.e820_table.iter_mut().zip(map) {
        *slot = boot_e820_entry {
            addr: range.address,
            size: range.size,
            r#type: range.kind,
        };
    }
    memory.write_obj(params, GuestAddress(layout::BOOT_PARAMS))?;
    write_gdt(memory)?;
    write_page_tables(memory)?;
    Ok(Entry::Linux64 {
        rip: entry,
        boot_params: layout::BOOT_PARAMS,
    })
}

/// Flat code and data segments at the selectors that both protocols name: 0x10, 0x18, and a TSS.
pub fn write_gdt(memory: &GuestMemoryMmap) -> Result<(), BootError> {
    let descriptors: [u64; 5] = [
        0,
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x008f_8b00_0000_ffff,
    ];
    for (n, descriptor) in descriptors.into_iter().enumerate() {
        memory.write_obj(descriptor, GuestAddress(layout::GDT + 8 * n as u64))?;
    }
    Ok(())
}

/// Maps the first GiB onto itself by 2 MiB pages.
fn write_page_tables(memory: &GuestMemoryMmap) -> Result<(), BootError> {
    let (pdpt, directory) = (layout::PML4 + 0x1000, layout::PML4 + 0x2000);
    memory.write_obj(pdpt | PAGE, GuestAddress(layout::PML4))?;
    memory.write_obj(directory | PAGE, GuestAddress(pdpt))?;
    for n in 0..512_u64 {
        memory.write_obj((n << 21) | LARGE_PAGE, GuestAddress(directory + 8 * n))?;
    }
    Ok(())
}
