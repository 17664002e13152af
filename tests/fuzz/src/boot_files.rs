//! Kernels and initrds: whatever is in the files, a guest's memory is set up for it or they are refused.
//!
//! Promised: no panic; nothing is written outside of guest memory (which Rust and the checks of `vm-memory` see to); a kernel that
//! is accepted begins in guest memory.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;

use arbitrary::Arbitrary;
use vm_memory::{GuestAddress, GuestMemoryBackend};
use vtmem::boot::{BootSource, load};
use vtmem::hypervisor::Entry;
use vtmem::machine::memory;

#[derive(Debug, Arbitrary)]
pub struct Input {
    cpus: u8,
    devices: u8,
    acpi: bool,
    initrd: Option<u16>,
    cmdline: String,
    /// Zeros that follow the kernel: a large file costs an input nothing.
    padding: u16,
    kernel: Kernel,
}

#[derive(Debug, Arbitrary)]
enum Kernel {
    Raw(Vec<u8>),
    /// A bzImage's header, in which these bytes are set.
    BzImage {
        sectors: u8,
        fields: Vec<(u16, u32)>,
    },
    /// An ELF header and program headers, in which these bytes are set.
    Elf {
        segments: u8,
        fields: Vec<(u16, u32)>,
    },
}

impl Kernel {
    fn bytes(&self) -> Vec<u8> {
        let (mut bytes, fields) = match self {
            Kernel::Raw(bytes) => return bytes.clone(),
            Kernel::BzImage { sectors, fields } => (bz_image(*sectors), fields),
            Kernel::Elf { segments, fields } => (elf(segments % 5), fields),
        };
        for (at, value) in fields {
            let at = usize::from(*at) % bytes.len();
            let value = value.to_le_bytes();
            let length = (bytes.len() - at).min(value.len());
            bytes[at..at + length].copy_from_slice(&value[..length]);
        }
        bytes
    }
}

/// Linux, Documentation/arch/x86/boot.rst: what a 64-bit kernel has in its header.
fn bz_image(sectors: u8) -> Vec<u8> {
    let mut bytes = vec![0; 0x400 + 512 * usize::from(sectors)];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0x1f1, &[1]);
    put(0x1fe, &[0x55, 0xaa]);
    put(0x202, b"HdrS");
    put(0x206, &0x20f_u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x214, &0x10_0000_u32.to_le_bytes());
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x230, &0x20_0000_u32.to_le_bytes());
    put(0x234, &[1]);
    put(0x236, &3_u16.to_le_bytes());
    put(0x238, &2047_u32.to_le_bytes());
    put(0x258, &0x10_0000_u64.to_le_bytes());
    put(0x260, &0x10_0000_u32.to_le_bytes());
    bytes
}

/// An ELF executable for x86-64 of some loadable segments, and a note that names a PVH entry.
fn elf(segments: u8) -> Vec<u8> {
    let count = usize::from(segments) + 1;
    let note = 64 + 56 * count;
    let mut bytes = vec![0; note + 20 + 0x1000];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1]);
    put(24, &0x10_0000_u64.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, count as u8, 0]);
    for segment in 0..count {
        let at = 64 + 56 * segment;
        let (kind, offset, size) = if segment == 0 {
            (4, note, 20)
        } else {
            (1, note + 20, 0x800)
        };
        let address = 0x10_0000 * segment.max(1) as u64;
        put(at, &[kind, 0, 0, 0, 7]);
        for (field, value) in [
            (8, offset as u64),
            (16, address),
            (24, address),
            (32, size),
            (40, size),
            (48, 4),
        ] {
            put(at + field, &value.to_le_bytes());
        }
    }
    put(note, &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0]);
    put(note + 12, b"Xen\0");
    put(note + 16, &0x10_0000_u32.to_le_bytes());
    bytes
}

/// A file in memory, and a path by which it can be opened.
fn file(bytes: &[u8], padding: u64) -> (File, PathBuf) {
    // SAFETY: the name is a string that ends, and the descriptor that is returned is nobody else's.
    let mut file = unsafe {
        let fd = libc::memfd_create(c"kernel".as_ptr(), 0);
        assert!(fd >= 0, "no memfd");
        File::from_raw_fd(fd)
    };
    file.write_all(bytes).expect("room in memory");
    file.set_len(bytes.len() as u64 + padding)
        .expect("room in memory");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    (file, path)
}

/// Does what the input says.
pub fn run(input: Input) {
    let memory = memory::map(memory::MIN).expect("guest memory");
    let (_kernel, kernel) = file(&input.kernel.bytes(), input.padding.into());
    let initrd = input
        .initrd
        .map(|size| file(b"initrd", u64::from(size) << 9));
    let source = BootSource {
        kernel,
        initrd: initrd.as_ref().map(|(_, path)| path.clone()),
        cmdline: input.cmdline,
    };
    let loaded = load(
        &memory,
        &source,
        input.cpus % 8 + 1,
        usize::from(input.devices % 9),
        input.acpi,
    );
    match loaded {
        Ok(
            Entry::Pvh {
                rip,
                start_info: table,
            }
            | Entry::Linux64 {
                rip,
                boot_params: table,
            },
        ) => {
            assert!(
                memory.address_in_range(GuestAddress(rip)),
                "entry at {rip:#x}"
            );
            assert!(
                memory.address_in_range(GuestAddress(table)),
                "tables at {table:#x}"
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
