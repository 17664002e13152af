//! A descriptor chain as two streams of bytes: what the driver wrote, and what it will read.
//!
//! The descriptors are read once, into host memory. Every range they name is checked against the
//! guest's memory before the first byte moves, and bytes move only by copy: no Rust reference to
//! guest memory exists.

use virtio_queue::DescriptorChain;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, Permissions};

/// Descriptors that a chain may have. A queue has at most 256; an indirect table, which is not
/// offered, could have more.
const MAX_DESCRIPTORS: usize = 1024;

/// A chain that cannot be used; why does not matter to a driver that is as broken as this.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Debug, Default)]
struct Stream {
    ranges: Vec<(GuestAddress, u32)>,
    total: u64,
    /// Where the stream is: the range, and the bytes of it that were passed.
    current: usize,
    passed: u32,
}

/// The two streams of a chain. Made once and filled again for each chain, so that serving a chain
/// allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Streams {
    readable: Stream,
    writable: Stream,
}

impl Streams {
    /// Reads the descriptors of a chain.
    pub fn fill<M>(&mut self, chain: &mut DescriptorChain<M>) -> Result<(), Malformed>
    where
        M: std::ops::Deref,
        M::Target: GuestMemory,
    {
        self.readable.clear();
        self.writable.clear();
        let mut complete = false;
        for _ in 0..MAX_DESCRIPTORS {
            let Some(descriptor) = chain.next() else {
                break;
            };
            let (stream, access) = if descriptor.is_write_only() {
                (&mut self.writable, Permissions::Write)
            } else if self.writable.ranges.is_empty() {
                (&mut self.readable, Permissions::Read)
            } else {
                // Writable descriptors come last (virtio 1.2, 2.7.4.2).
                return Err(Malformed);
            };
            let (address, length) = (descriptor.addr(), descriptor.len());
            if !chain.memory().check_range(address, length as usize, access) {
                return Err(Malformed);
            }
            stream.ranges.push((address, length));
            stream.total += u64::from(length);
            complete = !descriptor.has_next();
            if complete {
                break;
            }
        }
        // A chain that loops, or names a descriptor that does not exist, ends without a last one.
        if complete { Ok(()) } else { Err(Malformed) }
    }

    /// All bytes that the driver wrote.
    pub fn readable_bytes(&self) -> u64 {
        self.readable.total
    }

    /// All bytes that the device may write.
    pub fn writable_bytes(&self) -> u64 {
        self.writable.total
    }

    /// Copies the next bytes that the driver wrote.
    pub fn read(&mut self, memory: &impl GuestMemory, data: &mut [u8]) -> Result<(), Malformed> {
        let mut rest = data;
        self.readable.advance(rest.len(), |address, length| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(length);
            rest = later;
            memory.read_slice(now, address).map_err(|_| Malformed)
        })
    }

    /// Copies `data` to what the device may write, from its byte `offset` on.
    pub fn write_at(
        &mut self,
        memory: &impl GuestMemory,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Malformed> {
        let mut rest = data;
        self.writable.seek(offset)?;
        self.writable.advance(rest.len(), |address, length| {
            let (now, later) = rest.split_at(length);
            rest = later;
            memory.write_slice(now, address).map_err(|_| Malformed)
        })
    }
}

impl Stream {
    fn clear(&mut self) {
        self.ranges.clear();
        self.total = 0;
        self.current = 0;
        self.passed = 0;
    }

    /// Goes to the byte `offset` of the stream.
    fn seek(&mut self, offset: u64) -> Result<(), Malformed> {
        let mut rest = offset;
        for (current, (_, length)) in self.ranges.iter().enumerate() {
            if rest < u64::from(*length) {
                self.current = current;
                self.passed = rest as u32;
                return Ok(());
            }
            rest -= u64::from(*length);
        }
        Err(Malformed)
    }

    /// Passes `count` bytes, and hands each piece that lies together to `piece`.
    fn advance(
        &mut self,
        count: usize,
        mut piece: impl FnMut(GuestAddress, usize) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut rest = count;
        while rest > 0 {
            let (address, length) = *self.ranges.get(self.current).ok_or(Malformed)?;
            let here = ((length - self.passed) as usize).min(rest);
            if here > 0 {
                let address = address
                    .checked_add(u64::from(self.passed))
                    .ok_or(Malformed)?;
                piece(address, here)?;
            }
            rest -= here;
            self.passed += here as u32;
            if self.passed == length {
                self.current += 1;
                self.passed = 0;
            }
        }
        Ok(())
    }
}
