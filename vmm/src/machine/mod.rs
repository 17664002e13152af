//! A machine: memory, devices and vCPUs, from a configuration to its exit.

pub mod bus;
pub mod counters;
pub mod exit;
pub mod gate;
mod keeper;
pub mod memory;
pub mod running;
pub mod signals;
pub mod tmem;
mod tmem_metrics;
pub mod vcpu;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tmem_device::tier::disk::OpenError;
use vm_memory::GuestMemoryMmap;

use crate::boot::{self, BootError, BootSource, layout};
use crate::confine::{self, ConfineError, Confinement, Thread};
use crate::devices::mark::Mark;
use crate::devices::pci_host::{self, PciHost};
use crate::devices::power::{self, AcpiPower, I8042};
use crate::devices::serial::{self, Serial};
use crate::devices::terminal::RawMode;
use crate::devices::virtio::blk::Blk;
use crate::devices::virtio::mmio::{MmioTransport, QUEUE_NOTIFY};
use crate::devices::virtio::tmem::{NewTmemError, TmemConfig};
use crate::devices::virtio::{Memory, VirtioDevice};
use crate::disk::{DiskError, DiskOptions};
use crate::host_memory;
use crate::hypervisor::{Hypervisor, HypervisorError, Vm};
use bus::{Bus, BusDevice};
use counters::Counting;
use exit::{Exit, ExitSlot};
use memory::MemoryError;
use running::Machine;
use signals::SignalWatch;
use tmem::TmemService;
use vcpu::{Buses, VcpuThreads};

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// What to boot.
    pub boot: BootSource,
    /// Guest memory in bytes.
    pub memory: u64,
    /// Number of vCPUs, 1 to 8.
    pub cpus: u8,
    /// Disks in order: `/dev/vda`, `/dev/vdb`, …
    pub disks: Vec<DiskOptions>,
    /// Pool and virtio-tmem device; without, the guest has none.
    pub tmem: Option<TmemConfig>,
    /// Describe the machine by ACPI tables; without, on the kernel's command line.
    pub acpi: bool,
    /// Where the mark device writes.
    pub marks: Option<PathBuf>,
    /// What is left to the process once the guest runs.
    pub confinement: Confinement,
    /// Whether somebody may change tmem while the guest runs. What that needs is there from the start.
    pub controlled: bool,
}

impl MachineConfig {
    /// Virtio devices, and thus slots, that it needs.
    fn slots(&self) -> usize {
        self.disks.len() + usize::from(self.tmem.is_some())
    }
}

/// Why a machine could not be started. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Kernel, initrd, command line.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The hypervisor.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// The tmem device.
    #[error(transparent)]
    Tmem(#[from] NewTmemError),
    /// Filters and the like.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// What the pool spills to.
    #[error(transparent)]
    Spill(#[from] OpenError),
    /// Too many devices.
    #[error("{0} virtio devices are too many; {max} fit, a --tmem among them", max = layout::MAX_VIRTIO)]
    TooManyDevices(usize),
    /// The marks file.
    #[error("cannot create the marks file {}: {source}", path.display())]
    Marks {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The host refused a thread, an eventfd, the terminal.
    #[error("the host refuses {what}: {source}")]
    Host {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Names what was asked of the host, for the error.
fn host<T>(what: &'static str, result: io::Result<T>) -> Result<T, MachineError> {
    result.map_err(|source| MachineError::Host { what, source })
}

/// Virtio devices of one machine, in order of their slots.
struct Devices {
    disks: Vec<Arc<Blk>>,
    tmem: Option<TmemService>,
}

impl Devices {
    fn open(config: &MachineConfig) -> Result<Self, MachineError> {
        let count = config.slots();
        if count > layout::MAX_VIRTIO {
            return Err(MachineError::TooManyDevices(count));
        }
        let mut disks = vec![];
        for (letter, options) in ('a'..).zip(&config.disks) {
            disks.push(Arc::new(Blk::open(&format!("vd{letter}"), options)?));
        }
        let open = |tmem| TmemService::open(tmem, config.controlled);
        let tmem = config.tmem.as_ref().map(open).transpose()?;
        Ok(Devices { disks, tmem })
    }

    fn all(&self) -> Vec<Arc<dyn VirtioDevice>> {
        let disks = self
            .disks
            .iter()
            .map(|disk| disk.clone() as Arc<dyn VirtioDevice>);
        disks
            .chain(self.tmem.iter().map(|tmem| tmem.device().clone() as _))
            .collect()
    }
}

/// Connects each virtio device to its slot: registers, interrupt line, doorbells.
fn plug(
    vm: &dyn Vm,
    memory: &GuestMemoryMmap,
    devices: Vec<Arc<dyn VirtioDevice>>,
    mmio: &mut Bus,
) -> Result<Vec<Arc<MmioTransport>>, MachineError> {
    let memory = Memory::new(memory.clone());
    let mut transports = vec![];
    for (slot, device) in (0_u32..).zip(devices) {
        let base = layout::VIRTIO_MMIO + u64::from(slot) * layout::VIRTIO_MMIO_STRIDE;
        let mut doorbells = vec![];
        for queue in 0..device.queue_max_sizes().len() as u16 {
            doorbells.push(if device.exit_queues().contains(&queue) {
                host(
                    "an eventfd",
                    vmm_sys_util::eventfd::EventFd::new(libc::EFD_NONBLOCK),
                )?
            } else {
                vm.doorbell(base + QUEUE_NOTIFY, u32::from(queue))?
            });
        }
        let irq = vm.irq_line(layout::VIRTIO_GSI + slot)?;
        let transport = Arc::new(MmioTransport::new(device, memory.clone(), irq, doorbells));
        mmio.add(base..base + layout::VIRTIO_MMIO_STRIDE, transport.clone());
        transports.push(transport);
    }
    Ok(transports)
}

/// Whether the pool has a disk below it.
fn spills(config: &MachineConfig) -> bool {
    let tmem = config.tmem.as_ref();
    tmem.is_some_and(|tmem| tmem.spill.is_some())
}

/// Whether a machine of this configuration could boot, as far as one can tell without a hypervisor and
/// without opening its disks.
pub fn check(config: &MachineConfig) -> Result<(), MachineError> {
    let memory = memory::map(config.memory)?;
    let slots = config.slots();
    if slots > layout::MAX_VIRTIO {
        return Err(MachineError::TooManyDevices(slots));
    }
    boot::load(&memory, &config.boot, config.cpus, slots, config.acpi)?;
    Ok(())
}

/// Runs a machine on a hypervisor from start to end; returns why it ended. `started` is told of the machine as soon as
/// its guest runs, and forgets it when the machine has ended.
///
/// Whatever could be refused (files, disks, memory) is looked at before the guest executes its first
/// instruction. The process is confined for good, and fit for nothing else afterwards.
pub fn run(
    config: &MachineConfig,
    open_hypervisor: impl FnOnce() -> Result<Box<dyn Hypervisor>, HypervisorError>,
    started: impl FnOnce(&Arc<Machine>),
) -> Result<Exit, MachineError> {
    confine::begin(config.confinement)?;
    let memory = memory::map(config.memory)?;
    let devices = Devices::open(config)?;
    let entry = boot::load(
        &memory,
        &config.boot,
        config.cpus,
        config.slots(),
        config.acpi,
    )?;
    let hypervisor = open_hypervisor()?;
    let vm = hypervisor.create_vm(&memory, config.cpus)?;
    let exit = Arc::new(host("an eventfd", ExitSlot::new())?);

    let serial = Arc::new(Serial::new(vm.irq_line(layout::SERIAL_GSI)?));
    let mut buses = Buses {
        io: Bus::default(),
        mmio: Bus::default(),
    };
    let port = |start: u16, count: u16| u64::from(start)..u64::from(start + count);
    buses.io.add(port(layout::SERIAL_PORT, 8), serial.clone());
    let acpi: Arc<dyn BusDevice> = Arc::new(AcpiPower::new(exit.clone()));
    buses
        .io
        .add(port(layout::POWER_PORT, power::REGISTERS), acpi);
    buses.io.add(
        port(layout::I8042_PORT, 1),
        Arc::new(I8042::new(exit.clone())),
    );
    buses.io.add(
        port(layout::PCI_PORT, pci_host::PORTS),
        Arc::new(PciHost::default()),
    );
    // While that may be opened.
    host_memory::open();
    let count = Counting {
        vm: vm.clone(),
        disks: devices.disks.clone(),
        tmem: devices.tmem.as_ref().map(|tmem| tmem.device().clone()),
    };
    if let Some(path) = &config.marks {
        let count = count.clone();
        let take = move || count.counters();
        let mark = Mark::create(path, Box::new(take)).map_err(|source| MachineError::Marks {
            path: path.clone(),
            source,
        })?;
        buses.io.add(port(layout::MARK_PORT, 1), Arc::new(mark));
    }
    let transports = plug(vm.as_ref(), &memory, devices.all(), &mut buses.mmio)?;

    let mut vcpus = vec![];
    for id in 0..config.cpus {
        vcpus.push(vm.create_vcpu(id, (id == 0).then_some(entry))?);
    }
    let signalled = exit.clone();
    let hear = move |signal| signalled.set(Exit::Signal(signal));
    let _signals = host("a signal handler", SignalWatch::start(hear))?;
    let _raw_mode = host("raw mode for the terminal", RawMode::enter())?;
    let input = host("a thread", serial::spawn_input(serial, exit.clone()))?;
    let kind = Thread::Vcpu {
        spills: spills(config),
        marks: config.marks.is_some(),
    };
    let threads = host(
        "a thread",
        VcpuThreads::start(vcpus, &Arc::new(buses), &exit, kind),
    )?;
    confine::enter(Thread::Main);

    let machine = Arc::new(Machine::new(count, devices.tmem, transports, threads, exit));
    started(&machine);
    let reason = machine.wait();
    if input.join().is_err() {
        tracing::error!("the serial input thread panicked");
    }
    Ok(reason)
}
