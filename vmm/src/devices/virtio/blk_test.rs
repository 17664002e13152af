//! The device against a mock driver and temporary files, on both engines.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::{AvailRing, DescriptorTable, UsedRing};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryLoadGuard, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::devices::virtio::{Interrupt, Memory};
use crate::disk::Cache;
use crate::disk::plain::PlainEngine;
use crate::disk::uring::UringEngine;
use crate::not_run::not_run;

#[path = "blk_hostile_test.rs"]
mod hostile;

const MEMORY_SIZE: u64 = 8 << 20;
const DISK_SIZE: u64 = 1 << 20;

/// Where the driver keeps headers and status bytes, and where data may go.
const HEADERS: u64 = 0x10_0000;
const STATUSES: u64 = 0x11_0000;
const DATA: u64 = 0x20_0000;

/// Where the driver keeps its queue: a page each. (The mock's own layout lets the rings overlap.)
const TABLE: u64 = 0;
const AVAIL: u64 = 0x1000;
const USED: u64 = 0x2000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
/// What the driver puts where a status is due: no status at all.
const NONE: u8 = 0xee;

const CACHES: [Cache; 3] = [Cache::None, Cache::Writethrough, Cache::Writeback];

#[derive(Default)]
struct Line {
    used: AtomicU64,
    needs_reset: AtomicU64,
}

impl Interrupt for Line {
    fn used_buffer(&self) {
        self.used.fetch_add(1, Ordering::SeqCst);
    }
    fn config_changed(&self) {}
    fn needs_reset(&self) {
        self.needs_reset.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum EngineKind {
    Plain,
    Uring,
}

fn engines() -> Vec<EngineKind> {
    match io_uring::IoUring::new(1) {
        Ok(_) => vec![EngineKind::Plain, EngineKind::Uring],
        Err(error) => {
            not_run(format!("io_uring: {error}"));
            vec![EngineKind::Plain]
        }
    }
}

fn image() -> NamedTempFile {
    let image = NamedTempFile::new().expect("a temporary file");
    let content: Vec<u8> = (0..DISK_SIZE).map(original).collect();
    image.as_file().write_all_at(&content, 0).expect("write");
    image
}

/// The byte that a fresh image holds there.
fn original(offset: u64) -> u8 {
    (offset / 512 * 31 + offset % 251) as u8
}

fn open(path: &Path, cache: Cache, readonly: bool, engine: EngineKind) -> Blk {
    let options = DiskOptions {
        path: path.to_owned(),
        cache,
        readonly,
    };
    let disk = Arc::new(Disk::open(&options).expect("opens"));
    let engine: Box<dyn Engine> = match engine {
        EngineKind::Plain => Box::new(PlainEngine::new(Arc::clone(&disk))),
        EngineKind::Uring => Box::new(UringEngine::new(Arc::clone(&disk)).expect("a ring")),
    };
    Blk::with_engine("vda", disk, engine).expect("a thread")
}

fn guest() -> Memory {
    let ranges = [(GuestAddress(0), MEMORY_SIZE as usize)];
    Memory::new(GuestMemoryMmap::from_ranges(&ranges).expect("guest memory"))
}

/// The driver's side of the queue.
struct Driver<'a> {
    memory: &'a GuestMemoryMmap,
    table: DescriptorTable<'a, GuestMemoryMmap>,
    avail: AvailRing<'a, GuestMemoryMmap>,
    used_ring: UsedRing<'a, GuestMemoryMmap>,
    doorbell: EventFd,
    line: Arc<Line>,
    made_available: u16,
    used: u16,
    /// Chains so far: names the next one's header, status and descriptors.
    chains: u64,
}

impl<'a> Driver<'a> {
    fn start(blk: &Blk, space: &Memory, guard: &'a GuestMemoryLoadGuard<GuestMemoryMmap>) -> Self {
        Self::start_with(blk, space, guard, blk.device_features())
    }

    fn start_with(
        blk: &Blk,
        space: &Memory,
        memory: &'a GuestMemoryLoadGuard<GuestMemoryMmap>,
        features: u64,
    ) -> Self {
        memory
            .write_slice(&[0; 0x4000], GuestAddress(0))
            .expect("a fresh ring");
        let mut queue = Queue::new(QUEUE_SIZE).expect("a queue");
        queue.set_desc_table_address(Some(TABLE as u32), None);
        queue.set_avail_ring_address(Some(AVAIL as u32), None);
        queue.set_used_ring_address(Some(USED as u32), None);
        queue.set_ready(true);
        let doorbell = EventFd::new(EFD_NONBLOCK).expect("an eventfd");
        let line = Arc::new(Line::default());
        blk.activate(Activation {
            memory: space.clone(),
            queues: vec![queue],
            doorbells: vec![doorbell.try_clone().expect("an eventfd")],
            interrupt: Arc::clone(&line) as Arc<dyn Interrupt>,
            features,
        })
        .expect("activates");
        Driver {
            memory,
            table: DescriptorTable::new(memory, GuestAddress(TABLE), QUEUE_SIZE),
            avail: AvailRing::new(memory, GuestAddress(AVAIL), QUEUE_SIZE),
            used_ring: UsedRing::new(memory, GuestAddress(USED), QUEUE_SIZE),
            doorbell,
            line,
            made_available: 0,
            used: 0,
            chains: 0,
        }
    }

    fn describe(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let descriptor = RawDescriptor::from(Descriptor::new(address, length, flags, next));
        self.table.store(index, descriptor).expect("in the table");
    }

    fn make_available(&mut self, head: u16) {
        let slot = usize::from(self.made_available % QUEUE_SIZE);
        self.avail
            .ring()
            .ref_at(slot)
            .expect("in the ring")
            .store(head);
        self.made_available = self.made_available.wrapping_add(1);
        self.avail.idx().store(self.made_available);
    }

    fn ring_doorbell(&self) {
        self.doorbell.write(1).expect("rings");
    }

    /// Makes a chain of these (address, length, flags) available; NEXT is added.
    fn offer(&mut self, parts: &[(u64, u32, u16)]) {
        // Eight descriptors a chain at least, so that 32 of them do not meet.
        let step = parts.len().next_multiple_of(8) as u64;
        let base = (self.chains * step % u64::from(QUEUE_SIZE)) as u16;
        for (i, &(address, length, flags)) in (0u16..).zip(parts) {
            let next = if usize::from(i) + 1 < parts.len() {
                NEXT
            } else {
                0
            };
            self.describe(
                (base + i) % QUEUE_SIZE,
                address,
                length,
                flags | next,
                (base + i + 1) % QUEUE_SIZE,
            );
        }
        self.chains += 1;
        self.make_available(base);
    }

    /// Writes a header; returns its address and its status byte's.
    fn header(&self, kind: u32, sector: u64) -> (u64, u64) {
        let slot = self.chains % 0x1000;
        let (header, status) = (HEADERS + slot * 16, STATUSES + slot);
        let mut bytes = [0; 16];
        bytes[0..4].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&sector.to_le_bytes());
        self.memory
            .write_slice(&bytes, GuestAddress(header))
            .expect("in memory");
        self.memory
            .write_obj(NONE, GuestAddress(status))
            .expect("in memory");
        (header, status)
    }

    /// Offers a well-formed request; returns where its status will be.
    fn request(&mut self, kind: u32, sector: u64, data: &[(u64, u32)]) -> u64 {
        let (header, status) = self.header(kind, sector);
        let flags = if kind == OUT { 0 } else { WRITE };
        let mut parts = vec![(header, 16, 0)];
        parts.extend(
            data.iter()
                .map(|&(address, length)| (address, length, flags)),
        );
        parts.push((status, 1, WRITE));
        self.offer(&parts);
        status
    }

    /// Waits for that many used chains; their used lengths.
    fn collect(&mut self, count: usize) -> Vec<u32> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut lengths = Vec::new();
        while lengths.len() < count {
            if self.used_ring.idx().load() == self.used {
                assert!(
                    Instant::now() < deadline,
                    "only {} of {count} answered",
                    lengths.len()
                );
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            let slot = usize::from(self.used % QUEUE_SIZE);
            lengths.push(
                self.used_ring
                    .ring()
                    .ref_at(slot)
                    .expect("in the ring")
                    .load()
                    .len(),
            );
            self.used = self.used.wrapping_add(1);
        }
        lengths
    }

    /// Runs one well-formed request to its end; its status.
    fn run(&mut self, kind: u32, sector: u64, data: &[(u64, u32)]) -> u8 {
        let status = self.request(kind, sector, data);
        self.ring_doorbell();
        self.collect(1);
        self.byte(status)
    }

    /// Runs one chain of any form to its end; the status byte at `status`.
    fn run_parts(&mut self, parts: &[(u64, u32, u16)], status: u64) -> u8 {
        self.offer(parts);
        self.ring_doorbell();
        self.collect(1);
        self.byte(status)
    }

    fn byte(&self, address: u64) -> u8 {
        self.memory
            .read_obj(GuestAddress(address))
            .expect("in memory")
    }

    fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .expect("in memory");
        bytes
    }

    fn fill(&self, address: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(address))
            .expect("in memory");
    }
}

fn disk_bytes(file: &File, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).expect("read");
    bytes
}

#[test]
fn features_and_configuration_are_those_of_the_disk() {
    let image = image();
    for cache in CACHES {
        for readonly in [false, true] {
            let blk = open(image.path(), cache, readonly, EngineKind::Plain);
            let has = |bit: u32| blk.device_features() & (1 << bit) != 0;
            assert_eq!(has(VIRTIO_BLK_F_FLUSH), cache != Cache::Writethrough);
            assert_eq!(has(VIRTIO_BLK_F_RO), readonly);
            assert!(has(VIRTIO_F_VERSION_1) && has(VIRTIO_RING_F_EVENT_IDX));
            let mut config = [0xff; 64];
            blk.read_config(0, &mut config);
            assert_eq!(config[0..8], (DISK_SIZE / 512).to_le_bytes());
            assert_eq!(config[12..16], 254u32.to_le_bytes());
            assert_eq!(config[20..24], blk.disk.block_size().to_le_bytes());
            assert!(config[24..].iter().all(|&byte| byte == 0));
            let mut tail = [0xff; 4];
            blk.read_config(22, &mut tail);
            assert_eq!(tail[2..], [0, 0]);
            blk.read_config(u64::MAX, &mut tail);
            assert_eq!(tail, [0; 4]);
        }
    }
}

#[test]
fn writes_reads_and_flushes() {
    for engine in engines() {
        for cache in CACHES {
            let image = image();
            let blk = open(image.path(), cache, false, engine);
            let (space, what) = (guest(), format!("{engine:?} {cache}"));
            let guard = space.memory();
            let mut driver = Driver::start(&blk, &space, &guard);
            let data: Vec<u8> = (0..8192u32).map(|i| (i % 253) as u8).collect();
            driver.fill(DATA, &data);
            let pieces = [(DATA + 4096, 4096), (DATA, 4096)];
            assert_eq!(driver.run(OUT, 16, &pieces), OK, "{what}");
            assert_eq!(driver.run(FLUSH, 0, &[]), OK, "{what}");
            assert!(
                disk_bytes(image.as_file(), 8192, 4096) == data[4096..],
                "{what}"
            );
            assert!(
                disk_bytes(image.as_file(), 12288, 4096) == data[..4096],
                "{what}"
            );
            assert_eq!(driver.run(IN, 8, &[(DATA + 0x10000, 12288)]), OK, "{what}");
            let got = driver.bytes(DATA + 0x10000, 12288);
            let before: Vec<u8> = (4096..8192).map(original).collect();
            assert!(
                got[..4096] == before && got[4096..8192] == data[4096..],
                "{what}"
            );
            let last = DISK_SIZE / 512 - 8;
            assert_eq!(
                driver.run(IN, last, &[(DATA, 4096)]),
                OK,
                "{what}: the last block"
            );
            assert_eq!(driver.run(IN, 0, &[]), OK, "{what}: nothing to read");

            let counters = blk.counters();
            assert_eq!(
                (counters.read_ops, counters.read_bytes),
                (3, 12288 + 4096),
                "{what}"
            );
            assert_eq!(
                (counters.write_ops, counters.write_bytes),
                (1, 8192),
                "{what}"
            );
            assert_eq!(
                (counters.flush_ops, counters.id.as_str()),
                (1, "vda"),
                "{what}"
            );
            assert!(driver.line.used.load(Ordering::SeqCst) > 0, "{what}");
            assert_eq!(driver.line.needs_reset.load(Ordering::SeqCst), 0, "{what}");
        }
    }
}

#[test]
fn counters_are_json_with_the_names_of_the_marks() {
    let image = image();
    let blk = open(image.path(), Cache::Writeback, false, EngineKind::Plain);
    let json = serde_json::to_value(blk.counters()).expect("serializes");
    for name in [
        "read_bytes",
        "write_bytes",
        "read_ops",
        "write_ops",
        "flush_ops",
    ] {
        assert_eq!(json[name], 0, "{name}");
    }
    assert_eq!(json["id"], "vda");
    assert!(json["host"]["read_bytes"].is_u64());
    assert!(
        json["host"]["read_ops"].is_null(),
        "the kernel counts none for a file"
    );
}

#[test]
fn many_requests_in_flight_are_all_answered() {
    for engine in engines() {
        for cache in CACHES {
            let image = image();
            let blk = open(image.path(), cache, false, engine);
            let space = guest();
            let guard = space.memory();
            let mut driver = Driver::start(&blk, &space, &guard);
            for round in 0..20u64 {
                let statuses: Vec<u64> = (0..32u64)
                    .map(|i| {
                        let (address, sector) = (DATA + i * 8192, i * 16);
                        if round % 2 == 0 {
                            driver.fill(address, &[(round + i) as u8; 8192]);
                            driver.request(OUT, sector, &[(address, 8192)])
                        } else {
                            driver.fill(address, &[0; 8192]);
                            driver.request(IN, sector, &[(address, 8192)])
                        }
                    })
                    .collect();
                driver.ring_doorbell();
                driver.collect(32);
                for (i, status) in (0..).zip(statuses) {
                    let what = format!("{engine:?} {cache} round {round} request {i}");
                    assert_eq!(driver.byte(status), OK, "{what}");
                    let written = (round - round % 2 + i) as u8;
                    assert!(driver.bytes(DATA + i * 8192, 8192) == [written; 8192]);
                }
            }
        }
    }
}

#[test]
fn unaligned_buffers_go_through_a_bounce_buffer() {
    for engine in engines() {
        let image = image();
        let blk = open(image.path(), Cache::None, false, engine);
        let space = guest();
        let guard = space.memory();
        let mut driver = Driver::start(&blk, &space, &guard);
        // More than two bounce buffers, in pieces of odd lengths at odd addresses.
        let length = 300 << 10;
        let data: Vec<u8> = (0..length).map(|i: u32| (i / 3 % 256) as u8).collect();
        driver.fill(DATA + 1, &data);
        let from = [
            (DATA + 1, 777),
            (DATA + 778, 200_000),
            (DATA + 200_778, length - 200_777),
        ];
        assert_eq!(driver.run(OUT, 8, &from), OK, "{engine:?}");
        assert!(
            disk_bytes(image.as_file(), 4096, data.len()) == data,
            "{engine:?}"
        );
        let at = DATA + (1 << 20) + 3;
        let to = [(at, 100_001), (at + 100_001, length - 100_001)];
        assert_eq!(driver.run(IN, 8, &to), OK, "{engine:?}");
        assert!(driver.bytes(at, data.len()) == data, "{engine:?}");
        assert_eq!(blk.counters().read_bytes, u64::from(length));
        assert_eq!(blk.counters().write_bytes, u64::from(length));
        assert_eq!((blk.counters().read_ops, blk.counters().write_ops), (1, 1));
    }
}

#[test]
fn the_id_is_cut_to_what_the_driver_has_room_for() {
    let image = image();
    let blk = open(image.path(), Cache::Writeback, false, EngineKind::Plain);
    let space = guest();
    let guard = space.memory();
    let mut driver = Driver::start(&blk, &space, &guard);
    driver.fill(DATA, &[0xff; 64]);
    assert_eq!(driver.run(GET_ID, 0, &[(DATA, 32)]), OK);
    assert_eq!(
        driver.bytes(DATA, 21),
        b"vda\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff"
    );
    assert_eq!(driver.run(GET_ID, 0, &[(DATA + 32, 2)]), OK);
    assert_eq!(driver.bytes(DATA + 32, 3), b"vd\xff");
}

#[test]
fn a_readonly_disk_is_not_written() {
    for engine in engines() {
        let image = image();
        let blk = open(image.path(), Cache::Writeback, true, engine);
        let space = guest();
        let guard = space.memory();
        let mut driver = Driver::start(&blk, &space, &guard);
        assert_eq!(driver.run(OUT, 0, &[(DATA, 512)]), IOERR);
        assert_eq!(driver.run(FLUSH, 0, &[]), OK);
        assert_eq!(driver.run(IN, 0, &[(DATA, 512)]), OK);
        assert_eq!(blk.counters().write_ops, 0);
        assert!(disk_bytes(image.as_file(), 0, 512) == (0..512).map(original).collect::<Vec<_>>());
    }
}

#[test]
fn a_driver_without_flush_gets_durable_writes() {
    for engine in engines() {
        for cache in [Cache::None, Cache::Writeback] {
            let image = image();
            let blk = open(image.path(), cache, false, engine);
            let space = guest();
            let guard = space.memory();
            let features = blk.device_features() & !(1 << VIRTIO_BLK_F_FLUSH);
            let mut driver = Driver::start_with(&blk, &space, &guard, features);
            driver.fill(DATA, &[9; 4096]);
            assert_eq!(driver.run(OUT, 0, &[(DATA, 4096)]), OK);
            assert!(disk_bytes(image.as_file(), 0, 4096) == [9; 4096]);
        }
    }
}
