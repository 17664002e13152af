//! Requests of virtio-blk: proper ones against a model of the disk; garbage, with rings and memory that a second thread rewrites
//! while the device reads them; resets while requests are in flight.
//!
//! Promised: no panic and no hang: each chain comes back, or the device says that its ring is broken; a proper
//! request reads and writes what it should, whatever went before; bytes go only to what a descriptor named as
//! writable; after a reset the device touches memory no more.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use tempfile::NamedTempFile;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vtmem::devices::virtio::blk::Blk;
use vtmem::devices::virtio::{Activation, Interrupt, Memory, VirtioDevice};
use vtmem::disk::{Cache, DiskOptions};

const MEMORY: u64 = 256 << 10;
const DISK: u64 = 64 << 10;
const SIZE: u16 = 32;

/// Where the queue is: a page each; headers, then what proper requests use, then the rest.
const TABLE: u64 = 0;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;
const HEADERS: u64 = 0x3000;
const PROPER: u64 = 0x4000;
const DATA: u64 = 0x1_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const IN: u32 = 0;
const OUT: u32 = 1;

const OK: u8 = 0;
const IOERR: u8 = 1;
/// What stands where a status is due.
const NONE: u8 = 0xee;

/// Nothing that is asked here takes a disk so long.
const HANGS: Duration = Duration::from_secs(15);

#[derive(Debug, Arbitrary)]
pub struct Input {
    disk: u8,
    features: u8,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    /// A proper read or write.
    Proper {
        write: bool,
        sector: u8,
        pieces: [u8; 3],
        unaligned: u8,
        seed: u8,
    },
    /// A chain in proper form, of any kind, with data anywhere.
    Chain {
        header: Header,
        readable: Vec<(Place, Length)>,
        writable: Vec<(Place, Length)>,
    },
    /// Chains of anything, which are all waited for.
    Garbage {
        headers: [Header; 4],
        descriptors: Vec<Descriptor>,
        heads: Vec<u8>,
    },
    /// The same, while a second thread changes the descriptors to others and back.
    Race {
        headers: [Header; 4],
        descriptors: Vec<Descriptor>,
        others: Vec<Descriptor>,
        heads: Vec<u8>,
    },
    /// The same, with a reset at once.
    Reset {
        headers: [Header; 4],
        descriptors: Vec<Descriptor>,
        heads: Vec<u8>,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Header {
    kind: u8,
    far: Option<u64>,
    sector: u8,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Descriptor {
    place: Place,
    length: Length,
    flags: u8,
    next: u8,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Place {
    Header(u8),
    Data(u16),
    Sector(u8),
    End(u8),
    Any(u64),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Length {
    Header,
    Status,
    Sectors(u8),
    Medium(u16),
    Any(u32),
}

impl Descriptor {
    /// Address, length, flags and next; nothing writable that lies in the rings, unless `anywhere`.
    fn parts(self, anywhere: bool) -> (u64, u32, u16, u16) {
        let address = match self.place {
            Place::Header(which) => HEADERS + 16 * u64::from(which % 4),
            Place::Data(at) => DATA + u64::from(at),
            Place::Sector(sector) => DATA + 512 * u64::from(sector),
            Place::End(before) => MEMORY - u64::from(before),
            Place::Any(address) => address,
        };
        let length = match self.length {
            Length::Header => 16,
            Length::Status => 1,
            Length::Sectors(count) => 512 * u32::from(count % 33),
            Length::Medium(length) => length.into(),
            Length::Any(length) => length,
        };
        let mut flags = u16::from(if self.flags < 240 {
            self.flags & 3
        } else {
            self.flags & 7
        });
        if address < PROPER && !anywhere {
            flags &= !WRITE;
        }
        (address, length, flags, u16::from(self.next) % (SIZE + 1))
    }

    fn raw(self, anywhere: bool) -> [u8; 16] {
        let (address, length, flags, next) = self.parts(anywhere);
        raw(address, length, flags, next)
    }
}

fn raw(address: u64, length: u32, flags: u16, next: u16) -> [u8; 16] {
    let low = u64::from(length) | u64::from(flags) << 32 | u64::from(next) << 48;
    let mut raw = [0; 16];
    raw[..8].copy_from_slice(&address.to_le_bytes());
    raw[8..].copy_from_slice(&low.to_le_bytes());
    raw
}

#[derive(Default)]
struct Line {
    needs_reset: AtomicBool,
}

impl Interrupt for Line {
    fn used_buffer(&self) {}
    fn config_changed(&self) {}
    fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::SeqCst);
    }
}

/// A disk that serves all runs.
struct Disk {
    blk: Blk,
    file: File,
    readonly: bool,
    /// Bytes that a request has to be a multiple of.
    unit: u64,
}

/// One run at a time has the disks.
static DISKS: LazyLock<Mutex<Vec<Disk>>> = LazyLock::new(|| {
    let modes = [
        (Cache::Writeback, false),
        (Cache::Writethrough, false),
        (Cache::None, false),
        (Cache::Writeback, true),
    ];
    let open = |(cache, readonly)| {
        let image = NamedTempFile::new().expect("a temporary file");
        let file = image.reopen().expect("opens again");
        let content: Vec<u8> = (0..DISK)
            .map(|at| (at / 512 * 7 + at % 251) as u8)
            .collect();
        file.write_all_at(&content, 0).expect("room on the disk");
        let options = DiskOptions {
            path: image.path().to_owned(),
            cache,
            readonly,
        };
        let blk = match Blk::open("vda", &options) {
            Ok(blk) => blk,
            // Not every file system has direct I/O.
            Err(_) if cache == Cache::None => return None,
            Err(error) => panic!("{error}"),
        };
        let mut config = [0; 24];
        blk.read_config(0, &mut config);
        let unit = u32::from_le_bytes(config[20..24].try_into().expect("four bytes"));
        Some(Disk {
            blk,
            file,
            readonly,
            unit: u64::from(unit).max(512),
        })
    };
    Mutex::new(modes.into_iter().filter_map(open).collect())
});

struct Driver<'a> {
    disk: &'a Disk,
    memory: Memory,
    doorbell: EventFd,
    line: Arc<Line>,
    features: u64,
    offered: u16,
}

impl<'a> Driver<'a> {
    fn new(disk: &'a Disk, features: u8) -> Self {
        let ranges = [(GuestAddress(0), MEMORY as usize)];
        // Event index, and flushes.
        let without = u64::from(features & 1) << 29 | u64::from(features >> 1 & 1) << 9;
        let mut driver = Driver {
            disk,
            memory: Memory::new(GuestMemoryMmap::from_ranges(&ranges).expect("guest memory")),
            doorbell: EventFd::new(EFD_NONBLOCK).expect("an eventfd"),
            line: Arc::default(),
            features: disk.blk.device_features() & !without,
            offered: 0,
        };
        driver.start();
        driver
    }

    fn start(&mut self) {
        self.write(0, &[0; HEADERS as usize]);
        let mut queue = Queue::new(256).expect("a power of two");
        queue.set_size(SIZE);
        queue.set_desc_table_address(Some(TABLE as u32), Some(0));
        queue.set_avail_ring_address(Some(AVAIL as u32), Some(0));
        queue.set_used_ring_address(Some(USED as u32), Some(0));
        queue.set_ready(true);
        self.line = Arc::default();
        self.offered = 0;
        let _ = self.doorbell.read();
        self.disk
            .blk
            .activate(Activation {
                memory: self.memory.clone(),
                queues: vec![queue],
                doorbells: vec![self.doorbell.try_clone().expect("an eventfd")],
                interrupt: self.line.clone(),
                features: self.features,
            })
            .expect("a proper queue");
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        self.memory
            .memory()
            .write_slice(bytes, GuestAddress(address))
            .expect("in memory");
    }

    fn read(&self, address: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        self.memory
            .memory()
            .read_slice(&mut bytes, GuestAddress(address))
            .expect("in memory");
        bytes
    }

    fn offer(&mut self, head: u16) {
        self.write(
            AVAIL + 4 + 2 * u64::from(self.offered % SIZE),
            &head.to_le_bytes(),
        );
        self.offered = self.offered.wrapping_add(1);
        self.write(AVAIL + 2, &self.offered.to_le_bytes());
    }

    fn used(&self) -> u16 {
        let memory = self.memory.memory();
        memory
            .load(GuestAddress(USED + 2), Ordering::Acquire)
            .expect("in memory")
    }

    /// Rings, and waits until all chains are back; false when the device gave up on its queue.
    fn serve(&self) -> bool {
        self.doorbell.write(1).expect("rings");
        let start = Instant::now();
        while self.used() != self.offered {
            if self.line.needs_reset.load(Ordering::SeqCst) {
                return false;
            }
            assert!(
                start.elapsed() < HANGS,
                "{} of {} chains are back",
                self.used(),
                self.offered
            );
            thread::yield_now();
        }
        true
    }

    fn proper(&mut self, write: bool, sector: u8, pieces: [u8; 3], unaligned: u8, seed: u8) {
        let unit = self.disk.unit;
        let lengths = pieces.map(|piece| unit * u64::from(piece % 4));
        let total: u64 = lengths.iter().sum();
        let offset = unit * (u64::from(sector) % (DISK / unit + 4));
        let data = PROPER + 0x1000 + u64::from(unaligned);
        let mut before = vec![0; DISK as usize];
        self.disk
            .file
            .read_exact_at(&mut before, 0)
            .expect("readable");
        let content: Vec<u8> = (0..total)
            .map(|at| seed.wrapping_add((at / 512) as u8 ^ at as u8))
            .collect();
        if total > 0 {
            self.write(data, &content);
        }
        let mut header = [0; 16];
        header[..4].copy_from_slice(&if write { OUT } else { IN }.to_le_bytes());
        header[8..].copy_from_slice(&(offset / 512).to_le_bytes());
        self.write(PROPER, &header);
        self.write(PROPER + 16, &[NONE]);
        let mut parts = vec![(PROPER, 16, 0)];
        let mut at = data;
        for length in lengths {
            parts.push((at, length as u32, if write { 0 } else { WRITE }));
            at += length;
        }
        parts.push((PROPER + 16, 1, WRITE));
        for (index, &(address, length, flags)) in (0_u16..).zip(&parts) {
            let next = if usize::from(index) + 1 < parts.len() {
                NEXT
            } else {
                0
            };
            self.write(
                TABLE + 16 * u64::from(index),
                &raw(address, length, flags | next, index + 1),
            );
        }
        self.offer(0);
        assert!(self.serve(), "a proper request breaks no queue");

        let mut after = vec![0; DISK as usize];
        self.disk
            .file
            .read_exact_at(&mut after, 0)
            .expect("readable");
        let status = self.read(PROPER + 16, 1)[0];
        if offset + total > DISK || write && self.disk.readonly {
            assert_eq!(
                status, IOERR,
                "beyond the disk, or a disk that may not be written"
            );
            assert!(before == after, "a refused request wrote");
            return;
        }
        assert_eq!(status, OK);
        let range = offset as usize..(offset + total) as usize;
        if write {
            assert!(after[range.clone()] == content, "other bytes were written");
            before[range].copy_from_slice(&content);
        } else {
            assert!(
                self.read(data, total) == before[range],
                "other bytes were read"
            );
        }
        assert!(before == after, "bytes were written that should not be");
    }

    fn set_up(&mut self, headers: &[Header; 4], descriptors: &[Descriptor], anywhere: bool) {
        for (at, header) in (0_u64..).zip(headers) {
            let mut bytes = [0; 16];
            bytes[0] = header.kind % 12;
            bytes[8..].copy_from_slice(&header.far.unwrap_or(header.sector.into()).to_le_bytes());
            self.write(HEADERS + 16 * at, &bytes);
        }
        self.write(TABLE, &[0; 16 * SIZE as usize]);
        for (at, descriptor) in (0_u64..u64::from(SIZE)).zip(descriptors) {
            self.write(TABLE + 16 * at, &descriptor.raw(anywhere));
        }
    }

    fn offer_all(&mut self, heads: &[u8]) {
        for head in heads.iter().take(usize::from(SIZE)) {
            self.offer(u16::from(*head) % (SIZE + 1));
        }
    }

    /// Memory, without what the device may have written: used ring, and what these descriptors name.
    fn untouchable(&self, descriptors: &[Descriptor]) -> Vec<u8> {
        let mut bytes = self.read(0, MEMORY);
        let mut forget = |start: u64, length: u64| {
            let (start, end) = (start.min(MEMORY), start.saturating_add(length).min(MEMORY));
            bytes[start as usize..end as usize].fill(0);
        };
        forget(USED, 6 + 8 * u64::from(SIZE));
        for descriptor in descriptors {
            let (address, length, flags, _) = descriptor.parts(false);
            if flags & WRITE != 0 {
                forget(address, length.into());
            }
        }
        bytes
    }

    fn restart(&mut self) {
        self.disk.blk.reset();
        self.start();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Proper {
                write,
                sector,
                pieces,
                unaligned,
                seed,
            } => {
                self.proper(write, sector, pieces, unaligned, seed);
            }
            Step::Chain {
                header,
                readable,
                writable,
            } => self.step(Step::Garbage {
                headers: [header; 4],
                descriptors: chain(readable, writable),
                heads: vec![0],
            }),
            Step::Garbage {
                headers,
                descriptors,
                heads,
            } => {
                self.set_up(&headers, &descriptors, false);
                self.offer_all(&heads);
                // An indirect table names ranges of its own.
                let indirect = descriptors
                    .iter()
                    .any(|descriptor| descriptor.parts(false).2 & 4 != 0);
                let before = self.untouchable(&descriptors);
                let sound = self.serve();
                if !sound {
                    self.disk.blk.reset();
                }
                assert!(
                    indirect || before == self.untouchable(&descriptors),
                    "a byte was written that no descriptor names"
                );
                if !sound {
                    self.start();
                }
            }
            Step::Race {
                headers,
                descriptors,
                others,
                heads,
            } => {
                self.set_up(&headers, &descriptors, true);
                self.offer_all(&heads);
                self.doorbell.write(1).expect("rings");
                thread::scope(|scope| {
                    scope.spawn(|| {
                        for _ in 0..8 {
                            for table in [&others, &descriptors] {
                                for (at, descriptor) in (0_u64..u64::from(SIZE)).zip(table) {
                                    self.write(TABLE + 16 * at, &descriptor.raw(true));
                                }
                            }
                        }
                    });
                });
                self.restart();
            }
            Step::Reset {
                headers,
                descriptors,
                heads,
            } => {
                self.set_up(&headers, &descriptors, false);
                self.offer_all(&heads);
                self.doorbell.write(1).expect("rings");
                self.disk.blk.reset();
                let before = self.read(0, MEMORY);
                thread::yield_now();
                assert!(
                    before == self.read(0, MEMORY),
                    "memory changes after a reset"
                );
                self.start();
            }
        }
    }
}

/// A header, data, and a status, one after the other.
fn chain(readable: Vec<(Place, Length)>, writable: Vec<(Place, Length)>) -> Vec<Descriptor> {
    let header = (Place::Header(0), Length::Header);
    let status = (Place::End(1), Length::Status);
    let readable = [header].into_iter().chain(readable).map(|part| (part, 0));
    let writable = writable.into_iter().take(8).chain([status]);
    let parts: Vec<_> = readable
        .take(8)
        .chain(writable.map(|part| (part, WRITE)))
        .collect();
    let last = parts.len() - 1;
    let descriptor = |(at, ((place, length), flags)): (usize, ((Place, Length), u16))| Descriptor {
        place,
        length,
        flags: (flags | if at < last { NEXT } else { 0 }) as u8,
        next: at as u8 + 1,
    };
    parts.into_iter().enumerate().map(descriptor).collect()
}

/// Does what the input says.
pub fn run(input: Input) {
    let disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
    let disk = &disks[usize::from(input.disk) % disks.len()];
    let mut driver = Driver::new(disk, input.features);
    for step in input.steps {
        driver.step(step);
    }
    driver.proper(false, 0, [1, 0, 2], 0, 0);
    disk.blk.reset();
}
