//! Buses: which device answers at which address.

use std::ops::Range;
use std::sync::Arc;

/// A device on a bus. Accesses come from any vCPU's thread; `offset` counts from the device's start.
pub trait BusDevice: Send + Sync {
    /// The guest reads `data.len()` bytes.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// The guest writes `data`.
    fn write(&self, offset: u64, data: &[u8]);
}

/// One address space of devices: I/O ports, or memory-mapped.
#[derive(Default)]
pub struct Bus {
    devices: Vec<(Range<u64>, Arc<dyn BusDevice>)>,
}

impl Bus {
    /// Has `device` answer in `range`, which no other device may overlap.
    pub fn add(&mut self, range: Range<u64>, device: Arc<dyn BusDevice>) {
        let overlaps =
            |(other, _): &(Range<u64>, _)| other.start < range.end && range.start < other.end;
        assert!(
            !self.devices.iter().any(overlaps),
            "two devices at {range:x?}"
        );
        self.devices.push((range, device));
    }

    fn find(&self, address: u64) -> Option<(u64, &dyn BusDevice)> {
        self.devices
            .iter()
            .find(|(range, _)| range.contains(&address))
            .map(|(range, device)| (address - range.start, device.as_ref()))
    }

    /// Reads from the device at `address`; all ones where there is none, as on a real bus.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address) {
            Some((offset, device)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Writes to the device at `address`; nothing happens where there is none.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.find(address) {
            device.write(offset, data);
        }
    }
}
