//! Guest memory that watches the device, and changes under it.
//!
//! Every access of a device passes through [`HostileMemory`], so that a second thread that rewrites descriptors while the
//! device reads them can be had without the thread: a change is scheduled for the device's N-th access, and an
//! input that fails fails every time.

use std::sync::{Mutex, MutexGuard};

use vm_memory::bitmap::BS;
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap,
    Permissions,
};

type Result<T> = std::result::Result<T, GuestMemoryError>;

/// Bytes of the lower region, which starts at 0.
pub const LOW: u64 = 256 << 10;
/// Start of the upper region; between the two is a hole.
pub const UPPER: u64 = 1 << 20;
/// Bytes of the upper region.
pub const UPPER_SIZE: u64 = 64 << 10;

/// Accesses in one call of the device that stand for "it hangs": a ring of chains of as many descriptors as
/// there can be, in as many rounds as a call makes, takes a tenth.
const MOST_ACCESSES: u64 = 20_000_000;

/// Bytes of a descriptor (virtio 1.2, 2.7.5), and the flag of those that the device may write to.
const DESCRIPTOR: usize = 16;
const WRITE: u16 = 2;

struct Change {
    after: u64,
    address: u64,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Watch {
    /// The device's accesses in this call.
    accesses: u64,
    changes: Vec<Change>,
    /// Where it may write: used rings, and what descriptors that it has read name as writable.
    writable: Vec<(u64, u64)>,
}

/// Guest memory of two regions.
pub struct HostileMemory {
    memory: GuestMemoryMmap,
    watch: Mutex<Watch>,
}

/// Zeroed memory.
impl Default for HostileMemory {
    fn default() -> Self {
        let ranges = [
            (GuestAddress(0), LOW as usize),
            (GuestAddress(UPPER), UPPER_SIZE as usize),
        ];
        HostileMemory {
            memory: GuestMemoryMmap::from_ranges(&ranges).expect("guest memory"),
            watch: Mutex::default(),
        }
    }
}

impl HostileMemory {
    /// The memory as the driver sees it: its accesses are not watched.
    pub fn driver(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Writes as far as there is memory.
    pub fn poke(&self, address: u64, bytes: &[u8]) {
        let _ = self.memory.write(bytes, GuestAddress(address));
    }

    /// Lets the device write to this range.
    pub fn allow(&self, start: u64, length: u64) {
        self.watch().writable.push((start, length));
    }

    /// Writes `bytes` before the device's access number `after` of the next call that makes so many.
    pub fn schedule(&self, after: u64, address: u64, bytes: Vec<u8>) {
        self.watch().changes.push(Change {
            after,
            address,
            bytes,
        });
    }

    /// A new call of the device begins.
    pub fn begin_call(&self) {
        self.watch().accesses = 0;
    }

    /// Nothing is scheduled any more.
    pub fn settle(&self) {
        self.watch().changes.clear();
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch
            .lock()
            .expect("nothing panics under this lock but what ends the process")
    }

    fn note(&self, address: GuestAddress, count: usize, access: Permissions) {
        let mut watch = self.watch();
        watch.accesses += 1;
        assert!(
            watch.accesses < MOST_ACCESSES,
            "the device does not come to an end"
        );
        let now = watch.accesses;
        let memory = &self.memory;
        watch.changes.retain(|change| {
            if change.after > now {
                return true;
            }
            let _ = memory.write(&change.bytes, GuestAddress(change.address));
            false
        });
        match access {
            Permissions::Read if count == DESCRIPTOR => {
                let mut raw = [0; DESCRIPTOR];
                if memory.read_slice(&mut raw, address).is_err() {
                    return;
                }
                let word =
                    |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().expect("four bytes"));
                let start = u64::from(word(0)) | u64::from(word(4)) << 32;
                if word(12) as u16 & WRITE != 0 {
                    watch.writable.push((start, word(8).into()));
                }
            }
            Permissions::Write | Permissions::ReadWrite => {
                let (start, end) = (address.0, address.0 + count as u64);
                let allowed = |&(from, length): &(u64, u64)| from <= start && end - from <= length;
                assert!(
                    count == 0 || watch.writable.iter().any(allowed),
                    "the device writes {count} bytes to {start:#x}, which no descriptor names"
                );
            }
            _ => {}
        }
    }
}

impl GuestMemory for HostileMemory {
    type PhysicalMemory = GuestMemoryMmap;
    type Bitmap = <GuestMemoryMmap as GuestMemory>::Bitmap;

    fn check_range(&self, address: GuestAddress, count: usize, _access: Permissions) -> bool {
        GuestMemoryBackend::check_range(&self.memory, address, count)
    }

    fn get_slices<'a>(
        &'a self,
        address: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, BS<'a, Self::Bitmap>>> {
        self.note(address, count, access);
        Ok(GuestMemoryBackend::get_slices(&self.memory, address, count))
    }
}
