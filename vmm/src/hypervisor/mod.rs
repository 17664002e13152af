//! What vtmem needs of a hypervisor, behind one trait each for the host, a VM and a vCPU.
//!
//! [`kvm`] is the only implementation; devices and the machine see nothing else.

mod cpu_features;
pub mod cpuid;
pub mod kvm;
pub mod stats;

use std::collections::BTreeMap;
use std::sync::Arc;

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

/// Why the hypervisor refused something.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// There is no `/dev/kvm`.
    #[error(
        "/dev/kvm does not exist: load kvm_amd or kvm_intel (modprobe), enable virtualization in the \
         firmware, or use --accel lab"
    )]
    Absent,
    /// `/dev/kvm` may not be opened by this user.
    #[error(
        "no permission to open /dev/kvm: join the group kvm (usermod -aG kvm USER), or be root"
    )]
    Permission,
    /// `/dev/kvm` exists and does not work.
    #[error("cannot open /dev/kvm: {0}; use --accel lab")]
    Open(std::io::Error),
    /// KVM lacks something without which no guest can run.
    #[error("KVM on this host lacks {0}; a kernel 5.14 or newer has it, or use --accel lab")]
    Lacks(&'static str),
    /// A request to KVM failed.
    #[error("KVM cannot {what}: {source}")]
    Request {
        /// What was asked, completing "cannot …".
        what: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// Where a vCPU that boots the machine starts, and in which of the two modes Linux is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// 32-bit protected mode without paging, `ebx` = PVH start info (Xen's PVH boot ABI).
    Pvh {
        /// Guest-physical address of the first instruction.
        rip: u64,
        /// Guest-physical address of `hvm_start_info`.
        start_info: u64,
    },
    /// 64-bit mode on identity-mapping page tables, `rsi` = boot_params (Linux x86 boot protocol).
    Linux64 {
        /// Guest-physical address of the first instruction.
        rip: u64,
        /// Guest-physical address of `boot_params`.
        boot_params: u64,
    },
}

/// A host that can run VMs.
pub trait Hypervisor {
    /// Creates a VM with `memory` and `cpus` vCPUs, interrupt controllers included.
    fn create_vm(&self, memory: &GuestMemoryMmap, cpus: u8)
    -> Result<Arc<dyn Vm>, HypervisorError>;
}

/// A virtual machine: memory, interrupt controllers, doorbells.
pub trait Vm: Send + Sync {
    /// An eventfd that pulses interrupt line `gsi` whenever it is written.
    fn irq_line(&self, gsi: u32) -> Result<EventFd, HypervisorError>;
    /// An eventfd that the hypervisor writes when the guest stores the 32-bit `value` at `address`:
    /// the vCPU goes on at once, no exit reaches this process.
    fn doorbell(&self, address: u64, value: u32) -> Result<EventFd, HypervisorError>;
    /// Creates vCPU number `id`. `entry` is where vCPU 0 starts; the others wait for its SIPI.
    fn create_vcpu(&self, id: u8, entry: Option<Entry>) -> Result<Box<dyn Vcpu>, HypervisorError>;
    /// Exit counters of all vCPUs, by KVM's own names (KVM_GET_STATS_FD), summed over vCPUs.
    fn exit_counts(&self) -> BTreeMap<String, u64>;
}

/// What a vCPU's exit asks of the devices.
pub trait ExitHandler {
    /// The guest reads `data.len()` bytes from I/O port `port`.
    fn io_read(&self, port: u16, data: &mut [u8]);
    /// The guest writes `data` to I/O port `port`.
    fn io_write(&self, port: u16, data: &[u8]);
    /// The guest reads `data.len()` bytes from guest-physical `address`, where there is no memory.
    fn mmio_read(&self, address: u64, data: &mut [u8]);
    /// The guest writes `data` to guest-physical `address`, where there is no memory.
    fn mmio_write(&self, address: u64, data: &[u8]);
}

/// Why [`Vcpu::run`] returned.
#[derive(Debug, PartialEq, Eq)]
pub enum VcpuStop {
    /// An exit was handled, or a signal came: look whether the machine stops, then go on.
    Again,
    /// The guest cannot go on (triple fault, or an error inside the hypervisor).
    Failed(String),
}

/// One virtual CPU, owned by its thread.
pub trait Vcpu: Send {
    /// Runs the guest up to its next exit, and has `handler` serve it.
    fn run(&mut self, handler: &dyn ExitHandler) -> VcpuStop;
}
