use std::io::Write;

use vm_memory::{Bytes, GuestAddress};

use super::*;

fn memory(mib: usize) -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), mib << 20)]).expect("memory")
}

fn source(kernel: &[u8]) -> (tempfile::NamedTempFile, BootSource) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(kernel).expect("write");
    let source = BootSource {
        kernel: file.path().to_owned(),
        initrd: None,
        cmdline: "console=ttyS0".to_owned(),
    };
    (file, source)
}

/// A 64-bit ELF file with one segment at `address` that takes `size` bytes of memory.
fn elf(address: u64, size: u64) -> Vec<u8> {
    let mut file = vec![0; 64 + 56 + 16];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..18].copy_from_slice(&2_u16.to_le_bytes());
    file[18..20].copy_from_slice(&62_u16.to_le_bytes());
    file[20..24].copy_from_slice(&1_u32.to_le_bytes());
    file[24..32].copy_from_slice(&address.to_le_bytes());
    file[32..40].copy_from_slice(&64_u64.to_le_bytes());
    file[52..54].copy_from_slice(&64_u16.to_le_bytes());
    file[54..56].copy_from_slice(&56_u16.to_le_bytes());
    file[56..58].copy_from_slice(&1_u16.to_le_bytes());
    let segment = &mut file[64..120];
    segment[..4].copy_from_slice(&1_u32.to_le_bytes());
    segment[8..16].copy_from_slice(&120_u64.to_le_bytes());
    segment[16..24].copy_from_slice(&address.to_le_bytes());
    segment[24..32].copy_from_slice(&address.to_le_bytes());
    segment[32..40].copy_from_slice(&16_u64.to_le_bytes());
    segment[40..48].copy_from_slice(&size.to_le_bytes());
    file
}

#[test]
fn an_elf_kernel_without_pvh_note_is_entered_in_64_bit_mode() {
    let memory = memory(64);
    let (_file, source) = source(&elf(0x100_0000, 0x1000));
    let entry = load(&memory, &source, 1, 2, true).expect("loads");
    let want = Entry::Linux64 {
        rip: 0x100_0000,
        boot_params: layout::BOOT_PARAMS,
    };
    assert_eq!(entry, want);
}

#[test]
fn what_is_no_kernel_is_refused_by_name() {
    let memory = memory(64);
    for bytes in [
        &[][..],
        b"\x7fELF",
        &[0x5a; 4096],
        &elf(0x100_0000, 0x1000)[..100],
    ] {
        let (_file, source) = source(bytes);
        let error = load(&memory, &source, 1, 0, true).expect_err("no kernel");
        assert!(matches!(error, BootError::NotAKernel { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains(&source.kernel.display().to_string())
        );
    }
}

#[test]
fn a_kernel_that_needs_more_memory_says_how_much() {
    let (_file, source) = source(&elf(0x100_0000, 100 << 20));
    let error = load(&memory(64), &source, 1, 0, true).expect_err("too big");
    assert!(
        matches!(
            error,
            BootError::TooBig {
                needed_mib: 132,
                ..
            }
        ),
        "{error:?}"
    );
    load(&memory(132), &source, 1, 0, true).expect("fits into what the error asked for");
}

#[test]
fn a_kernel_of_absurd_size_is_refused_without_overflow() {
    for (address, size) in [(0x100_0000, u64::MAX), (u64::MAX - 8, 8)] {
        let (_file, source) = source(&elf(address, size));
        let error = load(&memory(64), &source, 1, 0, true).expect_err("too big");
        assert!(matches!(error, BootError::TooBig { .. }), "{error}");
    }
}

#[test]
fn a_kernel_that_begins_outside_of_itself_is_refused() {
    for entry in [0x100_1000, 64 << 20, 0xffff_ff80, u64::MAX] {
        let mut file = elf(0x100_0000, 0x1000);
        file[24..32].copy_from_slice(&u64::to_le_bytes(entry));
        let (_file, source) = source(&file);
        let error = load(&memory(64), &source, 1, 0, true).expect_err("no entry");
        assert!(matches!(error, BootError::NotAKernel { .. }), "{error}");
    }
}

#[test]
fn an_initrd_that_does_not_fit_is_told_from_the_kernel() {
    let (_file, mut source) = source(&elf(0x100_0000, 0x1000));
    let initrd = tempfile::NamedTempFile::new().expect("a temporary file");
    initrd.as_file().set_len(100 << 20).expect("size");
    source.initrd = Some(initrd.path().to_owned());
    let error = load(&memory(64), &source, 1, 0, true).expect_err("too big");
    assert!(
        error
            .to_string()
            .contains(&initrd.path().display().to_string()),
        "{error}"
    );
}

#[test]
fn command_lines_are_bounded() {
    let (_file, mut source) = source(&elf(0x100_0000, 0x1000));
    source.cmdline = "x".repeat(layout::CMDLINE_BYTES);
    assert!(matches!(
        load(&memory(64), &source, 1, 0, true),
        Err(BootError::CmdlineTooLong(2048))
    ));
}

#[test]
fn without_acpi_the_devices_are_on_the_command_line() {
    let memory = memory(64);
    let (_file, source) = source(&elf(0x100_0000, 0x1000));
    load(&memory, &source, 1, 2, false).expect("loads");
    let mut text = vec![0; 120];
    memory
        .read_slice(&mut text, GuestAddress(layout::CMDLINE))
        .expect("read");
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains(" virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6\0")
    );
}

/// Every table that the root pointer leads to sums to zero, and the FADT leads to the DSDT.
#[test]
fn acpi_tables_are_linked_and_sum_to_zero() {
    let memory = memory(64);
    acpi::write_tables(&memory, 8, layout::MAX_VIRTIO).expect("written");
    let table = |at: u64| {
        let size: u32 = memory.read_obj(GuestAddress(at + 4)).expect("size");
        let mut bytes = vec![0; size as usize];
        memory
            .read_slice(&mut bytes, GuestAddress(at))
            .expect("table");
        assert!(at + u64::from(size) <= layout::ACPI_END);
        assert_eq!(
            bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)),
            0,
            "at {at:#x}"
        );
        bytes
    };
    let u64_at = |bytes: &[u8], at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    };
    let mut rsdp = vec![0; 36];
    memory
        .read_slice(&mut rsdp, GuestAddress(layout::RSDP))
        .expect("read");
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    let xsdt = table(u64_at(&rsdp, 24));
    let (fadt, madt) = (table(u64_at(&xsdt, 36)), table(u64_at(&xsdt, 44)));
    assert_eq!((&fadt[..4], &madt[..4]), (&b"FACP"[..], &b"APIC"[..]));
    let dsdt = table(u64_at(&fadt, 140));
    assert_eq!(&dsdt[..4], b"DSDT");
    let devices = dsdt
        .windows(8)
        .filter(|window| window == b"LNRO0005")
        .count();
    assert_eq!(devices, layout::MAX_VIRTIO);
    // Eight local APICs of 8 bytes and an I/O APIC of 12 behind the header.
    assert_eq!(madt.len(), 44 + 8 * 8 + 12);
}

#[test]
fn the_memory_map_leaves_out_what_is_no_memory() {
    let ranges = [
        (GuestAddress(0), 64 << 20),
        (GuestAddress(layout::MMIO_HOLE_END), 4 << 20),
    ];
    let memory = GuestMemoryMmap::from_ranges(&ranges).expect("memory");
    let map = memory_map(&memory);
    let ram: u64 = map
        .iter()
        .filter(|entry| entry.kind == RAM)
        .map(|entry| entry.size)
        .sum();
    assert_eq!(ram, (68 << 20) - (layout::HIGH_MEMORY - layout::EBDA));
}
