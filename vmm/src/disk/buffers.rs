//! The memory of a transfer, kept alive for as long as the kernel may touch it.

use std::sync::Arc;

use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

use super::Alignment;

/// Most pieces of memory in one system call (UIO_MAXIOV).
const MAX_IOVECS: usize = 1024;

/// Bytes of a [`BounceBuffer`]: bounds what a guest with unaligned buffers costs the host, and is
/// a multiple of every alignment.
pub(crate) const BOUNCE_SIZE: usize = 128 << 10;

/// Alignment of a [`BounceBuffer`]'s address.
const BOUNCE_ALIGNMENT: usize = 4096;

/// A piece of guest memory, as a descriptor named it: not yet checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where it starts.
    pub address: GuestAddress,
    /// Its length in bytes.
    pub length: u32,
}

/// Page-aligned host memory, for what direct I/O cannot do in place.
#[derive(Debug)]
pub(crate) struct BounceBuffer {
    memory: Vec<u8>,
    start: usize,
}

impl BounceBuffer {
    pub fn new() -> Self {
        let memory = vec![0; BOUNCE_SIZE + BOUNCE_ALIGNMENT];
        let start = memory.as_ptr().addr().wrapping_neg() % BOUNCE_ALIGNMENT;
        BounceBuffer { memory, start }
    }

    /// The first `length` bytes, at most [`BOUNCE_SIZE`].
    pub fn bytes(&mut self, length: usize) -> &mut [u8] {
        &mut self.memory[self.start..self.start + length]
    }
}

/// Who keeps the memory behind the iovecs.
#[derive(Debug)]
enum Owner {
    Guest { _memory: Arc<GuestMemoryMmap> },
    Bounce(BounceBuffer),
}

/// Memory to read into or to write from, with what was done already taken off its front.
#[derive(Debug)]
pub(crate) struct Buffers {
    iovecs: Vec<libc::iovec>,
    first: usize,
    remaining: u64,
    owner: Owner,
}

// SAFETY: the iovecs point to memory that `owner` keeps mapped and that no thread is bound to.
unsafe impl Send for Buffers {}

impl Buffers {
    /// Guest memory in place; `None` when part of it is not the guest's or there are too many
    /// pieces.
    pub fn guest(
        memory: &Arc<GuestMemoryMmap>,
        segments: &[Segment],
        access: Permissions,
    ) -> Option<Self> {
        let mut iovecs = Vec::with_capacity(segments.len());
        let mut remaining = 0;
        for segment in segments {
            let slices = GuestMemory::get_slices(
                memory.as_ref(),
                segment.address,
                segment.length as usize,
                access,
            );
            for slice in slices.ok()? {
                let slice = slice.ok()?;
                if slice.is_empty() {
                    continue;
                }
                if iovecs.len() == MAX_IOVECS {
                    return None;
                }
                remaining += slice.len() as u64;
                iovecs.push(libc::iovec {
                    iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                    iov_len: slice.len(),
                });
            }
        }
        Some(Buffers {
            iovecs,
            first: 0,
            remaining,
            owner: Owner::Guest {
                _memory: Arc::clone(memory),
            },
        })
    }

    /// The first `length` bytes of `buffer`.
    pub fn bounce(mut buffer: BounceBuffer, length: usize) -> Self {
        let bytes = buffer.bytes(length);
        let iovec = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        Buffers {
            iovecs: vec![iovec],
            first: 0,
            remaining: length as u64,
            owner: Owner::Bounce(buffer),
        }
    }

    /// The bounce buffer, when it was one.
    pub fn into_bounce(self) -> Option<BounceBuffer> {
        match self.owner {
            Owner::Bounce(buffer) => Some(buffer),
            Owner::Guest { .. } => None,
        }
    }

    /// Whether direct I/O can use the memory in place.
    pub fn is_aligned(&self, alignment: Alignment) -> bool {
        let multiple = |value: usize, of: u32| value.is_multiple_of(of.max(1) as usize);
        self.iovecs.iter().all(|iovec| {
            multiple(iovec.iov_base.addr(), alignment.memory)
                && multiple(iovec.iov_len, alignment.length)
        })
    }

    /// Bytes that are still to be moved.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The iovecs that are still to be moved.
    pub fn iovecs(&self) -> &[libc::iovec] {
        &self.iovecs[self.first..]
    }

    /// Takes the first `moved` bytes off.
    pub fn advance(&mut self, moved: u64) {
        let mut moved = moved.min(self.remaining);
        self.remaining -= moved;
        while let Some(iovec) = self.iovecs.get_mut(self.first) {
            let length = iovec.iov_len as u64;
            if moved < length {
                iovec.iov_base = iovec.iov_base.wrapping_byte_add(moved as usize);
                iovec.iov_len -= moved as usize;
                return;
            }
            moved -= length;
            self.first += 1;
        }
    }
}
