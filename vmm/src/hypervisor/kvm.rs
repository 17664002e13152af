//! The hypervisor traits over `/dev/kvm`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment,
    kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::stats::Stats;
use super::{Entry, ExitHandler, Hypervisor, HypervisorError, Vcpu, VcpuStop, Vm, cpuid};
use crate::boot::layout;

/// Where KVM on Intel keeps three pages of its own, in the hole below 4 GiB.
const TSS_ADDRESS: usize = 0xfffb_d000;
/// Where KVM on Intel keeps its identity-mapping page table.
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

const MSR_IA32_MISC_ENABLE: u32 = 0x1a0;
const MISC_ENABLE_FAST_STRING: u64 = 1;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
/// MTRRs on, all memory write-back.
const MTRR_ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Local APIC registers LVT0 and LVT1, and the delivery modes that firmware leaves in them.
const APIC_LVT0: usize = 0x350;
const APIC_LVT1: usize = 0x360;
const APIC_MODE_EXTINT: u32 = 0x700;
const APIC_MODE_NMI: u32 = 0x400;

/// Names what KVM was asked, for the error.
trait Asked<T> {
    fn asked(self, what: &'static str) -> Result<T, HypervisorError>;
}

impl<T> Asked<T> for Result<T, kvm_ioctls::Error> {
    fn asked(self, what: &'static str) -> Result<T, HypervisorError> {
        self.map_err(|e| HypervisorError::Request {
            what,
            source: io::Error::from_raw_os_error(e.errno()),
        })
    }
}

/// This host's KVM.
pub struct KvmHypervisor {
    kvm: Kvm,
}

impl KvmHypervisor {
    /// Opens `/dev/kvm` and checks that it has what every guest needs.
    pub fn open() -> Result<Self, HypervisorError> {
        let kvm = Kvm::new().map_err(|e| match e.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => HypervisorError::Absent,
            libc::EACCES | libc::EPERM => HypervisorError::Permission,
            errno => HypervisorError::Open(io::Error::from_raw_os_error(errno)),
        })?;
        for (capability, name) in [
            (Cap::Irqchip, "in-kernel interrupt controllers"),
            (Cap::Ioeventfd, "ioeventfd"),
            (Cap::Irqfd, "irqfd"),
            (Cap::UserMemory, "user memory"),
            (Cap::ImmediateExit, "immediate exit"),
        ] {
            if !kvm.check_extension(capability) {
                return Err(HypervisorError::Lacks(name));
            }
        }
        Ok(KvmHypervisor { kvm })
    }
}

impl Hypervisor for KvmHypervisor {
    fn create_vm(
        &self,
        memory: &GuestMemoryMmap,
        cpus: u8,
    ) -> Result<Arc<dyn Vm>, HypervisorError> {
        let fd = self.kvm.create_vm().asked("create a VM")?;
        fd.set_tss_address(TSS_ADDRESS).asked("place the TSS")?;
        fd.set_identity_map_address(IDENTITY_MAP_ADDRESS)
            .asked("place the identity map")?;
        fd.create_irq_chip()
            .asked("create the interrupt controllers")?;
        for (slot, region) in (0..).zip(memory.iter()) {
            let userspace_addr = memory
                .get_host_address(region.start_addr())
                .expect("a region's start lies in the region")
                as u64;
            let region = kvm_userspace_memory_region {
                slot,
                guest_phys_addr: region.start_addr().raw_value(),
                memory_size: region.len(),
                userspace_addr,
                flags: 0,
            };
            // SAFETY: the mapping is the region's own, and `KvmVm` keeps guest memory alive for as
            // long as the VM exists.
            unsafe { fd.set_user_memory_region(region) }.asked("map guest memory")?;
        }
        let cpuid = self
            .kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .asked("list what the processor can do")?;
        Ok(Arc::new(KvmVm {
            fd,
            cpuid,
            cpus,
            stats: Mutex::new(vec![]),
            _memory: memory.clone(),
        }))
    }
}

/// One VM.
struct KvmVm {
    fd: VmFd,
    cpuid: CpuId,
    cpus: u8,
    stats: Mutex<Vec<Stats>>,
    /// Mapped into the VM: must outlive it.
    _memory: GuestMemoryMmap,
}

/// A new eventfd.
fn eventfd() -> Result<EventFd, HypervisorError> {
    EventFd::new(EFD_NONBLOCK).map_err(|source| HypervisorError::Request {
        what: "get an eventfd",
        source,
    })
}

impl Vm for KvmVm {
    fn irq_line(&self, gsi: u32) -> Result<EventFd, HypervisorError> {
        let line = eventfd()?;
        self.fd
            .register_irqfd(&line, gsi)
            .asked("connect an interrupt line")?;
        Ok(line)
    }

    fn doorbell(&self, address: u64, value: u32) -> Result<EventFd, HypervisorError> {
        let doorbell = eventfd()?;
        self.fd
            .register_ioevent(&doorbell, &IoEventAddress::Mmio(address), value)
            .asked("connect a doorbell")?;
        Ok(doorbell)
    }

    fn create_vcpu(&self, id: u8, entry: Option<Entry>) -> Result<Box<dyn Vcpu>, HypervisorError> {
        let fd = self.fd.create_vcpu(u64::from(id)).asked("create a vCPU")?;
        let mut cpuid = self.cpuid.clone();
        cpuid::tailor(&mut cpuid, id, self.cpus);
        fd.set_cpuid2(&cpuid).asked("set CPUID")?;
        set_up_msrs(&fd)?;
        set_up_lapic(&fd)?;
        fd.set_fpu(&kvm_fpu {
            fcw: 0x37f,
            mxcsr: 0x1f80,
            ..Default::default()
        })
        .asked("set the FPU")?;
        if let Some(entry) = entry {
            set_up_entry(&fd, entry)?;
        }
        let stats = Stats::open(&fd).map_err(|source| HypervisorError::Request {
            what: "open its statistics",
            source,
        })?;
        self.stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stats);
        Ok(Box::new(KvmVcpu { fd }))
    }

    fn exit_counts(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for vcpu in self
            .stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            let read = vcpu.for_each(|name, value| {
                if name.ends_with("exits") {
                    let name = if name == "exits" { "total" } else { name };
                    *sums.entry(name.to_owned()).or_default() += value;
                }
            });
            if let Err(error) = read {
                tracing::warn!(%error, "cannot read a vCPU's statistics");
            }
        }
        sums
    }
}

fn set_up_msrs(fd: &VcpuFd) -> Result<(), HypervisorError> {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    let msrs = Msrs::from_entries(&[
        entry(MSR_IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        entry(MSR_MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK),
    ])
    .expect("two entries fit");
    fd.set_msrs(&msrs).asked("set the MSRs")?;
    Ok(())
}

/// What firmware does: external interrupts on LINT0, NMIs on LINT1.
fn set_up_lapic(fd: &VcpuFd) -> Result<(), HypervisorError> {
    let mut lapic = fd.get_lapic().asked("read the local APIC")?;
    for (register, mode) in [(APIC_LVT0, APIC_MODE_EXTINT), (APIC_LVT1, APIC_MODE_NMI)] {
        for (byte, value) in lapic.regs[register..].iter_mut().zip(mode.to_le_bytes()) {
            *byte = value.cast_signed();
        }
    }
    fd.set_lapic(&lapic).asked("set the local APIC")
}

/// A flat segment over all of memory.
fn flat_segment(type_: u8, selector: u16, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    }
}

fn set_up_entry(fd: &VcpuFd, entry: Entry) -> Result<(), HypervisorError> {
    let long = matches!(entry, Entry::Linux64 { .. });
    let mut sregs = fd.get_sregs().asked("read the segment registers")?;
    // Execute/read/accessed and read/write/accessed; the selectors are those of the boot protocol.
    sregs.cs = flat_segment(0xb, 0x10, long);
    let data = flat_segment(0x3, 0x18, false);
    (sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (data, data, data, data, data);
    sregs.tr = kvm_segment {
        limit: 0x67,
        selector: 0x20,
        type_: 0xb,
        present: 1,
        ..sregs.tr
    };
    sregs.gdt.base = layout::GDT;
    sregs.gdt.limit = layout::GDT_BYTES - 1;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PE | CR0_ET;
    let mut regs = kvm_regs {
        rflags: 2,
        ..Default::default()
    };
    match entry {
        Entry::Pvh { rip, start_info } => {
            sregs.cr4 = 0;
            regs.rip = rip;
            regs.rbx = start_info;
        }
        Entry::Linux64 { rip, boot_params } => {
            sregs.cr0 |= CR0_PG;
            sregs.cr3 = layout::PML4;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
            regs.rip = rip;
            regs.rsi = boot_params;
            regs.rsp = layout::STACK_TOP;
        }
    }
    fd.set_sregs(&sregs).asked("set the segment registers")?;
    fd.set_regs(&regs).asked("set the registers")
}

/// One vCPU.
struct KvmVcpu {
    fd: VcpuFd,
}

impl Vcpu for KvmVcpu {
    fn run(&mut self, handler: &dyn ExitHandler) -> VcpuStop {
        match self.fd.run() {
            Ok(VcpuExit::IoIn(port, data)) => handler.io_read(port, data),
            Ok(VcpuExit::IoOut(port, data)) => handler.io_write(port, data),
            Ok(VcpuExit::MmioRead(address, data)) => handler.mmio_read(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => handler.mmio_write(address, data),
            Ok(VcpuExit::Hlt | VcpuExit::Intr | VcpuExit::IrqWindowOpen) => {}
            Ok(VcpuExit::Shutdown) => return VcpuStop::Failed("triple fault".into()),
            Ok(other) => return VcpuStop::Failed(format!("KVM returned {other:?}")),
            Err(e) if [libc::EINTR, libc::EAGAIN].contains(&e.errno()) => {}
            Err(e) => return VcpuStop::Failed(format!("KVM_RUN: {e}")),
        }
        VcpuStop::Again
    }
}
