//! ACPI tables of a hardware-reduced machine: processors, virtio-mmio devices, serial port, power.

use acpi_tables::aml;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::{BootError, layout};
use crate::devices::power;

const OEM: [u8; 6] = *b"VTMEM ";
const OEM_TABLE: [u8; 8] = *b"VTMEM   ";
const REVISION: u32 = 1;
/// Size of a table's header in bytes (ACPI 6.5, 5.2.6).
const HEADER: u32 = 36;
/// Boot architecture flags (ACPI 6.5, table 5.11): no VGA, no CMOS clock. Nor is there an i8042, which
/// has a flag for being there. A kernel that isn't told probes for seconds.
const NO_VGA_NO_CMOS_CLOCK: u16 = (1 << 2) | (1 << 5);

/// Collects AML bytes.
#[derive(Default)]
struct Bytecode(Vec<u8>);

impl AmlSink for Bytecode {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut sink = Bytecode::default();
    table.to_aml_bytes(&mut sink);
    sink.0
}

/// Writes RSDP, XSDT, FADT, MADT and DSDT at [`layout::RSDP`].
pub fn write_tables(
    memory: &GuestMemoryMmap,
    cpus: u8,
    virtio_devices: usize,
) -> Result<(), BootError> {
    let mut next = layout::RSDP + 0x40;
    let mut place = |table: &[u8]| -> Result<u64, BootError> {
        let at = next;
        memory.write_slice(table, GuestAddress(at))?;
        next = (at + table.len() as u64).next_multiple_of(16);
        debug_assert!(next <= layout::ACPI_END, "the tables outgrew their range");
        Ok(at)
    };
    let dsdt = place(dsdt(virtio_devices).as_slice())?;
    let fadt = place(&fadt(dsdt))?;
    let madt = place(&madt(cpus))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place(&bytes_of(&xsdt))?;
    memory.write_slice(&bytes_of(&Rsdp::new(OEM, xsdt)), GuestAddress(layout::RSDP))?;
    Ok(())
}

fn fadt(dsdt: u64) -> Vec<u8> {
    let port = |offset| {
        let address = u64::from(layout::POWER_PORT + offset);
        GAS::new(
            AddressSpace::SystemIo,
            8,
            0,
            AccessSize::ByteAccess,
            address,
        )
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS);
    fadt.reset_reg = port(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.iapc_boot_arch = NO_VGA_NO_CMOS_CLOCK.into();
    bytes_of(&fadt.finalize())
}

fn madt(cpus: u8) -> Vec<u8> {
    let apic = LocalInterruptController::Address(layout::LOCAL_APIC);
    let mut madt = MADT::new(OEM, OEM_TABLE, REVISION, apic);
    for cpu in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IOAPIC, 0));
    bytes_of(&madt)
}

/// The differentiated table: devices that no bus enumerates.
fn dsdt(virtio_devices: usize) -> Sdt {
    let mut code = Bytecode::default();
    for slot in 0..virtio_devices {
        virtio_mmio(slot).to_aml_bytes(&mut code);
    }
    serial_port(&mut code);
    let (kind, zero) = (power::S5_TYPE, 0_u8);
    let s5 = aml::Package::new(vec![&kind, &zero, &zero, &zero]);
    aml::Name::new("_S5_".into(), &s5).to_aml_bytes(&mut code);
    let mut table = Sdt::new(*b"DSDT", HEADER, 6, OEM, OEM_TABLE, REVISION);
    table.append_slice(&code.0);
    table
}

/// A virtio-mmio device, by the id under which Linux's driver looks for them.
struct VirtioMmio(usize);

fn virtio_mmio(slot: usize) -> VirtioMmio {
    VirtioMmio(slot)
}

impl Aml for VirtioMmio {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        let slot = self.0;
        let base = (layout::VIRTIO_MMIO + slot as u64 * layout::VIRTIO_MMIO_STRIDE) as u32;
        aml::Device::new(
            format!("_SB_.V{slot:03}").as_str().into(),
            vec![
                &aml::Name::new("_HID".into(), &"LNRO0005"),
                &aml::Name::new("_UID".into(), &slot),
                &aml::Name::new("_CCA".into(), &aml::ONE),
                &aml::Name::new(
                    "_CRS".into(),
                    &aml::ResourceTemplate::new(vec![
                        &aml::Memory32Fixed::new(true, base, layout::VIRTIO_MMIO_STRIDE as u32),
                        &aml::Interrupt::new(
                            true,
                            true,
                            false,
                            false,
                            layout::VIRTIO_GSI + slot as u32,
                        ),
                    ]),
                ),
            ],
        )
        .to_aml_bytes(sink);
    }
}

/// COM1. A hardware-reduced machine has no ISA interrupts but those that ACPI names.
fn serial_port(sink: &mut dyn AmlSink) {
    aml::Device::new(
        "_SB_.COM1".into(),
        vec![
            &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
            &aml::Name::new("_UID".into(), &aml::ZERO),
            &aml::Name::new(
                "_CRS".into(),
                &aml::ResourceTemplate::new(vec![
                    &aml::IO::new(layout::SERIAL_PORT, layout::SERIAL_PORT, 1, 8),
                    &aml::Interrupt::new(true, true, false, false, layout::SERIAL_GSI),
                ]),
            ),
        ],
    )
    .to_aml_bytes(sink);
}
