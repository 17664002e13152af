use super::*;

const SETUP_SECTORS: usize = 3;
/// Where the protected-mode part begins, and how far into it the payload lies.
const PROTECTED: usize = (SETUP_SECTORS + 1) * 512;
const PAYLOAD: usize = 0x123;

fn elf(length: usize) -> Vec<u8> {
    let mut elf: Vec<u8> = (0..length).map(|i| (i / 3) as u8).collect();
    elf[..4].copy_from_slice(b"\x7fELF");
    elf
}

/// An LZ4 legacy frame as the kernel's build makes it.
fn frame(content: &[u8]) -> Vec<u8> {
    let mut frame = LZ4_LEGACY.to_le_bytes().to_vec();
    for block in content.chunks(LZ4_BLOCK) {
        let packed = lz4_flex::block::compress(block);
        frame.extend((packed.len() as u32).to_le_bytes());
        frame.extend(packed);
    }
    frame.extend((content.len() as u32).to_le_bytes());
    frame
}

fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut image = vec![0; PROTECTED + PAYLOAD];
    image[SETUP_SECTS] = SETUP_SECTORS as u8;
    image[HEADER_MAGIC..HEADER_MAGIC + 4].copy_from_slice(b"HdrS");
    image[VERSION..VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&(PAYLOAD as u32).to_le_bytes());
    image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4]
        .copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.extend_from_slice(payload);
    image.extend_from_slice(&[0xcc; 100]);
    image
}

#[test]
fn an_elf_kernel_is_taken_as_it_is() {
    assert_eq!(vmlinux(&elf(1000)), Ok(elf(1000)));
}

#[test]
fn the_payload_is_unpacked() {
    for length in [64, 100_000, LZ4_BLOCK, LZ4_BLOCK + 1, 2 * LZ4_BLOCK + 77] {
        let kernel = elf(length);
        let unpacked = vmlinux(&bzimage(&frame(&kernel))).expect("well formed");
        assert!(unpacked == kernel, "{length} bytes");
    }
}

#[test]
fn other_files_are_refused() {
    for other in [&b""[..], b"#!/bin/sh\n", &[0; 4096], &[0xff; 0x203]] {
        assert_eq!(vmlinux(other), Err(BzImageError::NotAKernel));
    }
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
    assert_eq!(vmlinux(&bzimage(&gzip)), Err(BzImageError::NotLz4));
    let text = vmlinux(&bzimage(&frame(b"no kernel, but long enough")));
    assert!(matches!(text, Err(BzImageError::Damaged(_))), "{text:?}");
    let mut old = bzimage(&frame(&elf(100)));
    old[VERSION..VERSION + 2].copy_from_slice(&0x207_u16.to_le_bytes());
    assert_eq!(vmlinux(&old), Err(BzImageError::NotAKernel));
}

#[test]
fn images_cut_short_are_refused() {
    let whole = bzimage(&frame(&elf(50_000)));
    for end in (0..whole.len() - 100).step_by(97) {
        vmlinux(&whole[..end]).expect_err("cut short");
    }
}

#[test]
fn damaged_headers_and_sizes_are_refused() {
    let payload = frame(&elf(50_000));
    let damage = |offset: usize, value: u32| {
        let mut image = bzimage(&payload);
        image[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        vmlinux(&image)
    };
    let first_block = PROTECTED + PAYLOAD + 4;
    let size = PROTECTED + PAYLOAD + payload.len() - 4;
    for offset in [PAYLOAD_OFFSET, PAYLOAD_LENGTH, first_block, size] {
        for value in [0, 1, 3, 0x7fff_ffff, u32::MAX] {
            let outcome = damage(offset, value);
            assert!(outcome.is_err(), "{value:#x} at {offset:#x}");
        }
    }
}

/// Whatever is damaged: an error, or the kernel with some other bytes, but no panic and no wrong length.
#[test]
fn damaged_bytes_do_no_harm() {
    let whole = bzimage(&frame(&elf(5_000)));
    for place in 0..whole.len() {
        for value in [0, 0xff, whole[place] ^ 0x10] {
            let mut image = whole.clone();
            image[place] = value;
            if let Ok(kernel) = vmlinux(&image) {
                assert_eq!(kernel.len(), 5_000, "byte {place:#x}");
            }
        }
    }
}
