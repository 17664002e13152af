//! Where everything lies in guest-physical memory.

/// Global descriptor table: four flat descriptors.
pub const GDT: u64 = 0x500;
/// Its size in bytes.
pub const GDT_BYTES: u16 = 5 * 8;
/// PVH: `hvm_start_info`, with module list and memory map behind it.
pub const START_INFO: u64 = 0x6000;
/// PVH: module list (the initrd).
pub const MODULES: u64 = 0x6040;
/// PVH: memory map.
pub const MEMORY_MAP: u64 = 0x6100;
/// Linux boot protocol: `boot_params`.
pub const BOOT_PARAMS: u64 = 0x7000;
/// Top of the stack that the 64-bit entry starts with.
pub const STACK_TOP: u64 = 0x8ff0;
/// Identity-mapping page tables of the 64-bit entry, three pages.
pub const PML4: u64 = 0x9000;
/// Kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line that Linux on x86 takes, with its final zero.
pub const CMDLINE_BYTES: usize = 2048;
/// End of conventional memory.
pub const EBDA: u64 = 0x9_fc00;
/// The ACPI root pointer, where every kernel looks for it; the tables follow.
pub const RSDP: u64 = 0xe_0000;
/// End of the range of the ACPI tables.
pub const ACPI_END: u64 = RESET_VECTOR;
/// Where a processor in real mode goes to reset the machine.
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// Kernels, and memory that they may use, start here.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// Device memory: everything from here to 4 GiB.
pub const MMIO_HOLE: u64 = 0xc000_0000;
/// End of the hole; memory beyond 3 GiB goes on here.
pub const MMIO_HOLE_END: u64 = 0x1_0000_0000;
/// First virtio-mmio device.
pub const VIRTIO_MMIO: u64 = 0xd000_0000;
/// Distance between two, and size of one, in bytes.
pub const VIRTIO_MMIO_STRIDE: u64 = 0x1000;
/// Interrupt line of the first virtio-mmio device; the others follow.
pub const VIRTIO_GSI: u32 = 5;
/// The IOAPIC's lines end here, so this many virtio devices fit.
pub const MAX_VIRTIO: usize = 24 - VIRTIO_GSI as usize;
/// I/O APIC and local APIC, where KVM's emulation has them.
pub const IOAPIC: u32 = 0xfec0_0000;
/// Local APIC.
pub const LOCAL_APIC: u32 = 0xfee0_0000;

/// Serial port, its interrupt line.
pub const SERIAL_PORT: u16 = 0x3f8;
/// Interrupt line of the serial port.
pub const SERIAL_GSI: u32 = 4;
/// The mark device.
pub const MARK_PORT: u16 = 0x5d0;
/// ACPI sleep control, sleep status and reset registers.
pub const POWER_PORT: u16 = 0x600;
/// PCI's CONFIG_ADDRESS and CONFIG_DATA.
pub const PCI_PORT: u16 = 0xcf8;
/// i8042 command port: the classic way to reset.
pub const I8042_PORT: u16 = 0x64;
