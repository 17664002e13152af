//! Takes the ELF kernel out of a bzImage that is compressed with LZ4, as Debian's are.

/// First bytes of the LZ4 "legacy" frame.
const LZ4_LEGACY: u32 = 0x184c_2102;
/// Every block but the last unpacks to exactly this much.
const LZ4_BLOCK: usize = 8 << 20;
/// Offsets in the setup header (the kernel's Documentation/x86/boot.rst).
const SETUP_SECTS: usize = 0x1f1;
const HEADER_MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The payload's place is known since this version of the boot protocol.
const PAYLOAD_VERSION: u16 = 0x208;

/// Why there is no ELF kernel to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BzImageError {
    /// No boot protocol header.
    #[error("not a Linux kernel (neither ELF nor bzImage)")]
    NotAKernel,
    /// The header points outside the file, or the compressed data are damaged.
    #[error("the bzImage is damaged or cut short: {0}")]
    Damaged(&'static str),
    /// Another compression than LZ4.
    #[error("the bzImage is not compressed with LZ4; give the uncompressed vmlinux instead")]
    NotLz4,
}

/// The uncompressed ELF kernel: `kernel` itself when it is one already, else what the bzImage holds.
///
/// # Errors
/// See [`BzImageError`].
pub fn vmlinux(kernel: &[u8]) -> Result<Vec<u8>, BzImageError> {
    if is_elf(kernel) {
        return Ok(kernel.to_vec());
    }
    let payload = payload(kernel)?;
    let elf = lz4_legacy(payload)?;
    if is_elf(&elf) {
        Ok(elf)
    } else {
        Err(BzImageError::Damaged("the payload is no ELF file"))
    }
}

fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn payload(kernel: &[u8]) -> Result<&[u8], BzImageError> {
    if kernel.get(HEADER_MAGIC..HEADER_MAGIC + 4) != Some(b"HdrS") {
        return Err(BzImageError::NotAKernel);
    }
    let header = |offset| word(kernel, offset).ok_or(BzImageError::Damaged("no setup header"));
    if (header(VERSION)? & 0xffff) < u32::from(PAYLOAD_VERSION) {
        return Err(BzImageError::NotAKernel);
    }
    let setup_sectors = match kernel[SETUP_SECTS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + header(PAYLOAD_OFFSET)? as usize;
    let end = start + header(PAYLOAD_LENGTH)? as usize;
    kernel
        .get(start..end)
        .ok_or(BzImageError::Damaged("the payload lies outside the file"))
}

/// Unpacks a legacy frame. The kernel's build appends the unpacked size, which tells where the blocks end.
fn lz4_legacy(payload: &[u8]) -> Result<Vec<u8>, BzImageError> {
    if word(payload, 0) != Some(LZ4_LEGACY) {
        return Err(BzImageError::NotLz4);
    }
    let trailer = payload.len().saturating_sub(4);
    let size = word(payload, trailer).ok_or(BzImageError::Damaged("no size"))? as usize;
    // No input expands more than this: a damaged size must not make us allocate gigabytes.
    if size / 256 > payload.len() {
        return Err(BzImageError::Damaged("its size makes no sense"));
    }
    let mut out = vec![0; size];
    let (mut filled, mut offset) = (0, 4);
    while offset < trailer {
        let length =
            word(payload, offset).ok_or(BzImageError::Damaged("a block is cut off"))? as usize;
        offset += 4;
        let block = payload[..trailer]
            .get(offset..offset.saturating_add(length))
            .ok_or(BzImageError::Damaged("a block is cut off"))?;
        let room = (size - filled).min(LZ4_BLOCK);
        filled += lz4_flex::block::decompress_into(block, &mut out[filled..filled + room])
            .map_err(|_| BzImageError::Damaged("a block does not unpack"))?;
        offset += length;
    }
    if filled == size {
        Ok(out)
    } else {
        Err(BzImageError::Damaged("its size is wrong"))
    }
}

#[cfg(test)]
#[path = "bzimage_test.rs"]
mod tests;
