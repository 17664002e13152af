//! A PCI host bridge with nothing behind it.
//!
//! Our devices are virtio-mmio, so there is no PCI. But a kernel that was built with it looks for its configuration space, and complains
//! at every boot, `pci=off` or not, when there is none. So there is the mechanism (PCI Local Bus 3.0, 3.2.2.3.2, "configuration
//! mechanism #1"), and the one function that a bus must have.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::machine::bus::BusDevice;

/// Number of ports: CONFIG_ADDRESS and CONFIG_DATA.
pub const PORTS: u16 = 8;
/// Where CONFIG_DATA begins.
const DATA: u64 = 4;
/// In CONFIG_ADDRESS: an access to CONFIG_DATA is one to configuration space.
const ENABLE: u32 = 1 << 31;
/// In CONFIG_ADDRESS: bus, device and function.
const FUNCTION: u32 = 0x00ff_ff00;
/// In CONFIG_ADDRESS: the register, in units of 4 bytes.
const REGISTER: u32 = 0xfc;
/// The head of our function's configuration space: vendor Intel, device "virtual host bridge" as other VMMs have it, class
/// host bridge; all else is 0.
const HEADER: [u8; 16] = [0x86, 0x80, 0x57, 0x0d, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0];

/// The bridge.
#[derive(Default)]
pub struct PciHost {
    address: AtomicU32,
}

impl PciHost {
    fn configuration(&self, byte: usize) -> u8 {
        let address = self.address.load(Ordering::Relaxed);
        if address & ENABLE == 0 || address & FUNCTION != 0 {
            return 0xff;
        }
        let register = (address & REGISTER) as usize + byte;
        HEADER.get(register).copied().unwrap_or(0)
    }
}

impl BusDevice for PciHost {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if offset == 0 && data.len() == 4 {
            data.copy_from_slice(&self.address.load(Ordering::Relaxed).to_le_bytes());
            return;
        }
        for (place, byte) in data.iter_mut().zip(offset..) {
            *place = match byte.checked_sub(DATA) {
                Some(byte) => self.configuration(usize::try_from(byte).unwrap_or(usize::MAX)),
                None => 0xff,
            };
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        // Narrower writes go to whatever else a chip set has there; nothing behind CONFIG_DATA can be changed.
        if let (0, Ok(address)) = (offset, data.try_into()) {
            self.address
                .store(u32::from_le_bytes(address), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<const N: usize>(bridge: &PciHost, address: u32, offset: u64) -> [u8; N] {
        bridge.write(0, &address.to_le_bytes());
        let mut data = [0x55; N];
        bridge.read(offset, &mut data);
        data
    }

    /// As Linux looks for the mechanism (arch/x86/pci/direct.c, pci_check_type1()).
    #[test]
    fn the_mechanism_is_found() {
        let bridge = PciHost::default();
        bridge.write(3, &[1]);
        assert_eq!(read(&bridge, ENABLE, 0), ENABLE.to_le_bytes());
        assert_eq!(read(&bridge, ENABLE | 8, DATA + 2), [0, 6]);
    }

    #[test]
    fn there_is_one_function_and_no_other() {
        let bridge = PciHost::default();
        assert_eq!(read(&bridge, ENABLE, DATA), [0x86, 0x80, 0x57, 0x0d]);
        // One function alone, without base addresses, capabilities or an interrupt.
        for register in (0x0c..0x100).step_by(4) {
            assert_eq!(read(&bridge, ENABLE | register, DATA), [0; 4]);
        }
        for other in [1 << 8, 1 << 11, 31 << 11, 1 << 16, 255 << 16] {
            assert_eq!(read(&bridge, ENABLE | other, DATA), [0xff; 4], "{other:#x}");
        }
        assert_eq!(read(&bridge, 0, DATA), [0xff; 4], "not enabled");
    }

    #[test]
    fn odd_accesses_are_answered() {
        let bridge = PciHost::default();
        assert_eq!(read(&bridge, ENABLE, 2), [0xff, 0xff, 0x86, 0x80]);
        assert_eq!(read(&bridge, u32::MAX, 7), [0xff; 8]);
        bridge.write(0, &[]);
        bridge.write(0, &[0; 8]);
        bridge.write(u64::MAX, &[0; 4]);
        assert_eq!(read(&bridge, ENABLE, 0), [0_u8; 0]);
    }
}
