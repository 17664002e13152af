//! KVM's own statistics, read through the file that KVM_GET_STATS_FD opens.
//!
//! The format (Linux, Documentation/virt/kvm/api.rst, 4.133): a header, an id string, an array of
//! descriptors, and the counters that these describe. Layout and names never change while the file is
//! open, so both are read once.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;
/// Bits of `kvm_stats_desc.flags` that tell a counter's type.
const TYPE_MASK: u32 = 0xf;
/// Counters that only grow.
const TYPE_CUMULATIVE: u32 = 0;
/// More than any kernel has; a bound on what is read.
const MAX_DESCRIPTORS: u32 = 4096;
/// Longest name of a counter, in bytes.
const MAX_NAME: u32 = 256;

/// The cumulative one-value counters of one vCPU (or VM).
#[derive(Debug)]
pub struct Stats {
    file: File,
    counters: Vec<Counter>,
}

#[derive(Debug)]
struct Counter {
    name: String,
    offset: u64,
}

impl Stats {
    /// Opens the statistics of the vCPU or VM whose file is `owner`.
    pub fn open(owner: &impl AsRawFd) -> io::Result<Self> {
        // SAFETY: the descriptor is open, and the request takes no argument.
        let fd = unsafe { libc::ioctl(owner.as_raw_fd(), KVM_GET_STATS_FD) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just returned this descriptor, and nothing else owns it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let counters = describe(|buffer, offset| file.read_exact_at(buffer, offset))?;
        Ok(Stats { file, counters })
    }

    /// Calls `each` with the name and value of every counter.
    pub fn for_each(&self, mut each: impl FnMut(&str, u64)) -> io::Result<()> {
        for counter in &self.counters {
            let mut value = [0; 8];
            self.file.read_exact_at(&mut value, counter.offset)?;
            each(&counter.name, u64::from_ne_bytes(value));
        }
        Ok(())
    }
}

/// Reads header and descriptors through `read` (buffer, offset in the file).
fn describe(read: impl Fn(&mut [u8], u64) -> io::Result<()>) -> io::Result<Vec<Counter>> {
    let mut header = [0; 24];
    read(&mut header, 0)?;
    let word = |n: usize| {
        u32::from_ne_bytes(
            header[4 * n..4 * n + 4]
                .try_into()
                .expect("four bytes of a header"),
        )
    };
    let (name_size, descriptors, descriptors_at, data_at) = (word(1), word(2), word(4), word(5));
    if name_size > MAX_NAME || descriptors > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "oversized KVM statistics",
        ));
    }
    let size = 16 + u64::from(name_size);
    let mut counters = vec![];
    let mut raw = vec![0; size as usize];
    for n in 0..u64::from(descriptors) {
        read(&mut raw, u64::from(descriptors_at) + n * size)?;
        let (flags, values) = (u32_at(&raw, 0), u16::from_ne_bytes([raw[6], raw[7]]));
        if flags & TYPE_MASK != TYPE_CUMULATIVE || values != 1 {
            continue;
        }
        let name = raw[16..]
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        counters.push(Counter {
            name: String::from_utf8_lossy(name).into_owned(),
            offset: u64::from(data_at) + u64::from(u32_at(&raw, 8)),
        });
    }
    Ok(counters)
}

/// The native-endian word at `offset`.
fn u32_at(raw: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes(
        raw[offset..offset + 4]
            .try_into()
            .expect("four bytes of a descriptor"),
    )
}

#[cfg(test)]
#[path = "stats_test.rs"]
mod tests;
