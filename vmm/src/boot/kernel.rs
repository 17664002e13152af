//! Kernel and initrd: from files into guest memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use linux_loader::bootparam::setup_header;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::{BootError, Initrd, layout};

/// How a kernel is entered.
pub enum Protocol {
    /// Xen's PVH boot ABI.
    Pvh {
        /// 32-bit entry point.
        entry: u64,
    },
    /// Linux's 64-bit boot protocol.
    Linux64 {
        /// 64-bit entry point.
        entry: u64,
        /// Of a bzImage; an ELF kernel has none.
        header: Option<Box<setup_header>>,
    },
}

/// A kernel in guest memory.
pub struct LoadedKernel {
    /// How to enter it.
    pub protocol: Protocol,
    /// First address behind everything that it needs before it reads the memory map.
    pub end: u64,
}

/// A bzImage's 64-bit entry lies this far behind its start (boot protocol 2.12).
const ENTRY_64: u64 = 0x200;
/// `xloadflags` bit: there is a 64-bit entry.
const XLF_KERNEL_64: u16 = 1;
/// Magic of the bzImage's setup header at offset 0x202 of the file.
const HEADER_MAGIC: [u8; 4] = *b"HdrS";
const MIB: u64 = 1 << 20;

/// Size of guest memory below the hole: where kernels and initrds go.
fn low_memory(memory: &GuestMemoryMmap) -> u64 {
    memory.iter().next().map_or(0, GuestMemoryRegion::len)
}

/// Loads the kernel at `path`: bzImage or ELF, told apart by content.
pub fn load_kernel(memory: &GuestMemoryMmap, path: &Path) -> Result<LoadedKernel, BootError> {
    let read = |source| BootError::Read {
        what: "the kernel",
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(read)?;
    if !file.metadata().map_err(read)?.is_file() {
        return Err(not_a_kernel(path, "not a regular file"));
    }
    let mut head = vec![];
    file.by_ref()
        .take(0x400)
        .read_to_end(&mut head)
        .map_err(read)?;
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    if head.starts_with(b"\x7fELF") {
        load_elf(memory, path, &mut file)
    } else if head.get(0x202..0x206) == Some(&HEADER_MAGIC) {
        load_bzimage(memory, path, &mut file)
    } else {
        Err(not_a_kernel(path, "neither an ELF file nor a bzImage"))
    }
}

fn not_a_kernel(path: &Path, reason: impl std::fmt::Display) -> BootError {
    BootError::NotAKernel {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn too_big(memory: &GuestMemoryMmap, path: &Path, needed: u64) -> BootError {
    BootError::TooBig {
        path: path.to_owned(),
        mem_mib: memory.iter().map(GuestMemoryRegion::len).sum::<u64>() / MIB,
        needed_mib: needed.div_ceil(MIB),
    }
}

fn load_elf(
    memory: &GuestMemoryMmap,
    path: &Path,
    file: &mut File,
) -> Result<LoadedKernel, BootError> {
    let end = elf_end(path, file)?;
    if end > low_memory(memory) {
        return Err(too_big(memory, path, end.saturating_add(16 * MIB)));
    }
    let highmem = Some(GuestAddress(layout::HIGH_MEMORY));
    let loaded =
        Elf::load(memory, None, file, highmem).map_err(|error| not_a_kernel(path, error))?;
    let protocol = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(entry) => Protocol::Pvh { entry: entry.0 },
        _ => Protocol::Linux64 {
            entry: loaded.kernel_load.0,
            header: None,
        },
    };
    let (Protocol::Pvh { entry } | Protocol::Linux64 { entry, .. }) = protocol;
    if entry >= end {
        return Err(not_a_kernel(
            path,
            "an ELF file that begins outside of what it loads",
        ));
    }
    Ok(LoadedKernel { protocol, end })
}

/// End in memory of the last loadable segment, `.bss` included, of a 64-bit x86 ELF file.
fn elf_end(path: &Path, file: &mut File) -> Result<u64, BootError> {
    const EM_X86_64: u16 = 62;
    const CLASS_64: u8 = 2;
    const PT_LOAD: u32 = 1;
    let short = |_| not_a_kernel(path, "a truncated ELF file");
    let mut header = [0; 64];
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_exact(&mut header))
        .map_err(short)?;
    if header[4] != CLASS_64 || u16::from_le_bytes([header[18], header[19]]) != EM_X86_64 {
        return Err(not_a_kernel(path, "an ELF file, but not for x86-64"));
    }
    let offset = u64_at(&header, 32);
    let (size, count) = (u16_at(&header, 54), u16_at(&header, 56));
    if size != 56 {
        return Err(not_a_kernel(path, "an ELF file with odd program headers"));
    }
    let mut end = 0;
    for n in 0..u64::from(count) {
        let mut segment = [0; 56];
        let at = offset
            .checked_add(n * 56)
            .ok_or_else(|| not_a_kernel(path, "damaged"))?;
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(&mut segment))
            .map_err(short)?;
        if u32::from_le_bytes([segment[0], segment[1], segment[2], segment[3]]) == PT_LOAD {
            end = end.max(u64_at(&segment, 24).saturating_add(u64_at(&segment, 40)));
        }
    }
    file.seek(SeekFrom::Start(0)).map_err(short)?;
    if end == 0 {
        return Err(not_a_kernel(path, "an ELF file without anything to load"));
    }
    Ok(end)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn load_bzimage(
    memory: &GuestMemoryMmap,
    path: &Path,
    file: &mut File,
) -> Result<LoadedKernel, BootError> {
    let read = |source| BootError::Read {
        what: "the kernel",
        path: path.to_owned(),
        source,
    };
    let size = file.metadata().map_err(read)?.len();
    if layout::HIGH_MEMORY + size > low_memory(memory) {
        return Err(too_big(memory, path, size.saturating_mul(4)));
    }
    let highmem = Some(GuestAddress(layout::HIGH_MEMORY));
    let loaded =
        BzImage::load(memory, None, file, highmem).map_err(|error| not_a_kernel(path, error))?;
    let header = loaded
        .setup_header
        .ok_or_else(|| not_a_kernel(path, "no setup header"))?;
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(not_a_kernel(path, "a bzImage without a 64-bit entry"));
    }
    // It unpacks itself to its preferred address and needs `init_size` bytes there.
    let end = header
        .pref_address
        .saturating_add(u64::from(header.init_size))
        .max(loaded.kernel_end);
    if end > low_memory(memory) {
        return Err(too_big(memory, path, end.saturating_add(16 * MIB)));
    }
    let entry = loaded.kernel_load.0 + ENTRY_64;
    if entry >= loaded.kernel_end {
        return Err(not_a_kernel(path, "a bzImage that ends before its entry"));
    }
    Ok(LoadedKernel {
        protocol: Protocol::Linux64 {
            entry,
            header: Some(Box::new(header)),
        },
        end,
    })
}

/// Loads the initrd at `path` as high below the hole as it fits, above `kernel_end`.
pub fn load_initrd(
    memory: &GuestMemoryMmap,
    path: &Path,
    kernel_end: u64,
) -> Result<Initrd, BootError> {
    let read = |source| BootError::Read {
        what: "the initrd",
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(read)?;
    let size = file.metadata().map_err(read)?.len();
    let low = low_memory(memory);
    let address = low.checked_sub(size).map(|address| address & !0xfff);
    let Some(address) = address.filter(|&address| address >= kernel_end) else {
        let needed = kernel_end.saturating_add(size).saturating_add(16 * MIB);
        return Err(too_big(memory, path, needed));
    };
    let length = usize::try_from(size).expect("fits into guest memory");
    memory
        .read_exact_volatile_from(GuestAddress(address), &mut file, length)
        .map_err(|error| read(std::io::Error::other(error)))?;
    Ok(Initrd { address, size })
}
