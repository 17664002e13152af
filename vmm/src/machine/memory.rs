//! Guest memory: one mapping below the device hole, one above.

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::boot::layout;

/// Least memory with which anything boots, in bytes.
pub const MIN: u64 = 16 << 20;

/// Why there is no guest memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Too small, or not whole pages.
    #[error("--mem {0} bytes is not possible; give at least 16M, in whole MiB")]
    Size(u64),
    /// The host refused the mapping.
    #[error("the host refuses {size_mib} MiB of guest memory ({source}); lower --mem")]
    Refused {
        /// MiB asked for.
        size_mib: u64,
        /// What the host said.
        source: vm_memory::mmap::FromRangesError,
    },
}

/// Maps `size` bytes of guest memory, which no core dump contains. The host gives pages as the guest touches them.
pub fn map(size: u64) -> Result<GuestMemoryMmap, MemoryError> {
    if size < MIN || !size.is_multiple_of(1 << 20) {
        return Err(MemoryError::Size(size));
    }
    let low = size.min(layout::MMIO_HOLE);
    let usable = |bytes: u64| usize::try_from(bytes).map_err(|_| MemoryError::Size(size));
    let mut ranges = vec![(GuestAddress(0), usable(low)?)];
    if size > low {
        ranges.push((GuestAddress(layout::MMIO_HOLE_END), usable(size - low)?));
    }
    let memory = GuestMemoryMmap::from_ranges(&ranges).map_err(|source| MemoryError::Refused {
        size_mib: size >> 20,
        source,
    })?;
    for region in memory.iter() {
        let length = usable(region.len())?;
        // SAFETY: the region's own mapping, whose contents this does not change. It fails only on kernels without core dumps.
        unsafe { libc::madvise(region.as_ptr().cast(), length, libc::MADV_DONTDUMP) };
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_around_the_hole() {
        let memory = map(4 << 30).expect("lazily mapped");
        let ranges: Vec<_> = memory.iter().map(|r| (r.start_addr().0, r.len())).collect();
        assert_eq!(ranges, [(0, 3 << 30), (4 << 30, 1 << 30)]);
    }

    /// Linux, Documentation/filesystems/proc.rst: "dd" among the flags of a mapping is "do not include area into core dump".
    #[test]
    fn guest_memory_is_in_no_core_dump() {
        let memory = map(MIN).expect("lazily mapped");
        let start = memory.iter().next().expect("a region").as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("readable");
        let mapping = maps.split_once(&format!("{start:x}-")).expect("mapped").1;
        let flags = mapping
            .lines()
            .find_map(|line| line.strip_prefix("VmFlags:"));
        let flags = flags.expect("a kernel with flags");
        assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
    }

    #[test]
    fn odd_sizes_are_refused() {
        for size in [0, 4096, (16 << 20) + 4096, (15 << 20)] {
            assert!(matches!(map(size), Err(MemoryError::Size(_))), "{size}");
        }
    }
}
