//! The virtio-mmio registers of a real virtio-tmem and a real virtio-blk device: any access, of any width, in any order, with
//! queues that lead anywhere and doorbells that ring at any time.
//!
//! Promised: no panic and no hang; what is fixed reads as it should; whatever went before, a reset brings the device
//! to where a proper driver can start it.

use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use tempfile::NamedTempFile;
use tmem_device::pool::{HostPool, PoolConfig};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vtmem::devices::virtio::blk::Blk;
use vtmem::devices::virtio::mmio::MmioTransport;
use vtmem::devices::virtio::tmem::{Tmem, TmemConfig};
use vtmem::devices::virtio::{Memory, VirtioDevice};
use vtmem::disk::{Cache, DiskOptions};
use vtmem::machine::bus::BusDevice;

const MEMORY: u64 = 64 << 10;
const DISK: u64 = 64 << 10;

/// Registers that do something (virtio 1.2, 4.2.2).
const REGISTERS: [u64; 28] = [
    0x000, 0x004, 0x008, 0x00c, 0x010, 0x014, 0x020, 0x024, 0x030, 0x034, 0x038, 0x044, 0x050,
    0x060, 0x064, 0x070, 0x080, 0x084, 0x090, 0x094, 0x0a0, 0x0a4, 0x0ac, 0x0b0, 0x0c0, 0x0fc,
    0x100, 0x108,
];

const MAGIC: u32 = 0x7472_6976;
const VERSION_1: u64 = 1 << 32;
/// ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK.
const RUNNING: u32 = 15;

#[derive(Debug, Arbitrary)]
pub struct Input {
    steps: Vec<(bool, Step)>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Step {
    Write {
        register: Register,
        value: Value,
    },
    WriteBytes {
        offset: u16,
        value: u64,
        width: u8,
    },
    Read {
        register: Register,
    },
    ReadBytes {
        offset: u16,
        width: u8,
    },
    /// What a proper driver does up to DRIVER_OK, but with the queues at these pages.
    Start {
        features: u64,
        size: u8,
        pages: [u8; 3],
    },
    Doorbell {
        queue: u8,
    },
    Poke {
        at: u16,
        bytes: [u8; 16],
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Register {
    Known(u8),
    Any(u16),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Value {
    Small(u8),
    Bit(u8),
    Any(u32),
}

impl Register {
    fn offset(self) -> u64 {
        match self {
            Register::Known(which) => REGISTERS[usize::from(which) % REGISTERS.len()],
            Register::Any(offset) => offset.into(),
        }
    }
}

impl Value {
    fn word(self) -> u32 {
        match self {
            Value::Small(value) => value.into(),
            Value::Bit(bit) => 1 << (bit % 32),
            Value::Any(value) => value,
        }
    }
}

/// One disk for all runs: opening it anew takes longer than all else.
static DISK_DEVICE: LazyLock<Arc<Blk>> = LazyLock::new(|| {
    let file = NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len(DISK).expect("a file of that size");
    let options = DiskOptions {
        path: file.path().to_owned(),
        cache: Cache::Writeback,
        readonly: false,
    };
    Arc::new(Blk::open("vda", &options).expect("a disk"))
});

struct Slot {
    device: Arc<dyn VirtioDevice>,
    transport: MmioTransport,
    doorbells: Vec<EventFd>,
}

impl Slot {
    fn new(device: Arc<dyn VirtioDevice>, memory: &Memory) -> Self {
        let eventfd = || EventFd::new(EFD_NONBLOCK).expect("an eventfd");
        let doorbells: Vec<_> = device.queue_max_sizes().iter().map(|_| eventfd()).collect();
        let copies = doorbells
            .iter()
            .map(|doorbell| doorbell.try_clone().expect("an eventfd"))
            .collect();
        let transport = MmioTransport::new(device.clone(), memory.clone(), eventfd(), copies);
        Slot {
            device,
            transport,
            doorbells,
        }
    }

    fn get(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.transport.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn set(&self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    fn start(&self, features: u64, size: u32, pages: [u32; 3]) {
        for status in [0, 1, 3] {
            self.set(0x70, status);
        }
        for half in 0..2 {
            self.set(0x24, half);
            self.set(0x20, (features >> (32 * half)) as u32);
        }
        self.set(0x70, 11);
        for queue in 0..self.doorbells.len() as u32 {
            self.set(0x30, queue);
            self.set(0x38, size);
            for (register, page) in [0x80, 0x90, 0xa0].into_iter().zip(pages) {
                self.set(register, (page + 3 * queue) * 0x1000);
                self.set(register + 4, 0);
            }
            self.set(0x44, 1);
        }
        self.set(0x70, RUNNING);
    }

    fn step(&self, step: Step, memory: &Memory) {
        match step {
            Step::Write { register, value } => self.set(register.offset(), value.word()),
            Step::WriteBytes {
                offset,
                value,
                width,
            } => {
                self.transport.write(
                    offset.into(),
                    &value.to_le_bytes()[..usize::from(width % 9)],
                );
            }
            Step::Read { register } => {
                self.get(register.offset());
            }
            Step::ReadBytes { offset, width } => {
                let mut bytes = [0; 16];
                self.transport
                    .read(offset.into(), &mut bytes[..usize::from(width % 17)]);
            }
            Step::Start {
                features,
                size,
                pages,
            } => {
                let features = features & self.device.device_features() | VERSION_1;
                self.start(
                    features,
                    1 << (size % 10),
                    pages.map(|page| u32::from(page % 20)),
                );
            }
            Step::Doorbell { queue } => {
                self.set(0x50, queue.into());
                // As KVM does where an ioeventfd watches.
                if let Some(doorbell) = self.doorbells.get(usize::from(queue)) {
                    let _ = doorbell.write(1);
                }
            }
            Step::Poke { at, bytes } => {
                let _ = memory.memory().write(&bytes, GuestAddress(at.into()));
            }
        }
        let fixed = (
            self.get(0x000),
            self.get(0x004),
            self.get(0x008),
            self.get(0x0b0),
        );
        assert_eq!(fixed, (MAGIC, 2, self.device.device_type(), u32::MAX));
        let status = self.get(0x070);
        assert!(
            status & 8 == 0 || status & 3 == 3,
            "FEATURES_OK before DRIVER: {status:#x}"
        );
        assert!(
            status & 4 == 0 || status & 8 != 0,
            "DRIVER_OK before FEATURES_OK: {status:#x}"
        );
    }
}

/// Does what the input says.
pub fn run(input: Input) {
    let ranges = [(GuestAddress(0), MEMORY as usize)];
    let memory = Memory::new(GuestMemoryMmap::from_ranges(&ranges).expect("guest memory"));
    let config = TmemConfig {
        size: 1 << 20,
        ..TmemConfig::default()
    };
    let tmem = Tmem::new(HostPool::new(PoolConfig::new(config.size)), &config).expect("a guest");
    let slots = [
        Slot::new(Arc::new(tmem), &memory),
        Slot::new(DISK_DEVICE.clone(), &memory),
    ];
    for (disk, step) in input.steps {
        slots[usize::from(disk)].step(step, &memory);
    }
    for slot in slots {
        slot.transport.shut_down();
        memory
            .memory()
            .write_slice(&[0; MEMORY as usize], GuestAddress(0))
            .expect("in memory");
        slot.start(slot.device.device_features(), 64, [0, 1, 2]);
        assert_eq!(
            slot.get(0x70),
            RUNNING,
            "a proper driver cannot start the device"
        );
        slot.transport.shut_down();
    }
}
