//! Power off and reset: the ACPI sleep and reset registers, and the i8042's reset line.

use std::sync::Arc;

use crate::machine::bus::BusDevice;
use crate::machine::exit::{Exit, ExitSlot};

/// Offset of the sleep control register (ACPI 6.5, 4.8.3.7).
pub const SLEEP_CONTROL: u16 = 0;
/// Offset of the sleep status register.
pub const SLEEP_STATUS: u16 = 1;
/// Offset of the reset register (ACPI 6.5, 4.8.3.6).
pub const RESET: u16 = 2;
/// Number of registers.
pub const REGISTERS: u16 = 3;
/// What a guest writes to the reset register.
pub const RESET_VALUE: u8 = 1;
/// SLP_TYP of S5, soft off; the DSDT's `_S5_` says so to the guest.
pub const S5_TYPE: u8 = 5;
/// SLP_EN, and SLP_TYP's place, in the sleep control register.
const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 7;
/// i8042 command that pulses the processor's reset line.
const I8042_RESET: u8 = 0xfe;

/// The ACPI registers.
pub struct AcpiPower {
    exit: Arc<ExitSlot>,
}

impl AcpiPower {
    /// Ends the machine through `exit`.
    pub fn new(exit: Arc<ExitSlot>) -> Self {
        AcpiPower { exit }
    }
}

impl BusDevice for AcpiPower {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let Some(&value) = data.first() else { return };
        let sleep_type = (value >> SLEEP_TYPE_SHIFT) & SLEEP_TYPE_MASK;
        if offset == u64::from(SLEEP_CONTROL) && value & SLEEP_ENABLE != 0 && sleep_type == S5_TYPE
        {
            self.exit.set(Exit::PoweredOff);
        } else if offset == u64::from(RESET) && value == RESET_VALUE {
            self.exit.set(Exit::Reset);
        }
    }
}

/// The keyboard controller's command port, for kernels that reset through it.
pub struct I8042 {
    exit: Arc<ExitSlot>,
}

impl I8042 {
    /// Ends the machine through `exit`.
    pub fn new(exit: Arc<ExitSlot>) -> Self {
        I8042 { exit }
    }
}

impl BusDevice for I8042 {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        // Input buffer empty, nothing to read: whoever waits for either goes on.
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if data.first() == Some(&I8042_RESET) {
            self.exit.set(Exit::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(offset: u16, value: u8) -> Option<Exit> {
        let exit = Arc::new(ExitSlot::new().expect("an eventfd"));
        AcpiPower::new(exit.clone()).write(u64::from(offset), &[value]);
        exit.get()
    }

    #[test]
    fn only_the_documented_writes_end_the_machine() {
        assert_eq!(
            after(SLEEP_CONTROL, SLEEP_ENABLE | (S5_TYPE << 2)),
            Some(Exit::PoweredOff)
        );
        assert_eq!(after(SLEEP_CONTROL, S5_TYPE << 2), None);
        assert_eq!(after(SLEEP_CONTROL, SLEEP_ENABLE | (3 << 2)), None);
        assert_eq!(after(RESET, RESET_VALUE), Some(Exit::Reset));
        assert_eq!(after(RESET, 0), None);
    }
}
