//! Marks: bytes written to an I/O port at which the VMM notes its counters.

use std::arch::asm;

/// The mark device's I/O port.
pub const PORT: u16 = 0x5d0;

/// Leave to write to the mark device's port.
#[derive(Debug)]
pub struct Marker {
    permitted: bool,
}

impl Marker {
    /// Asks the kernel for the port. Without permission [`Marker::mark`] does nothing: workloads then still run.
    pub fn new() -> Self {
        // SAFETY: changes only this process's I/O permissions.
        let permitted = unsafe { libc::ioperm(libc::c_ulong::from(PORT), 1, 1) } == 0;
        Self { permitted }
    }

    /// Has the VMM note its counters under `number`.
    pub fn mark(&self, number: u8) {
        if self.permitted {
            // SAFETY: the kernel granted this port, and the device behind it touches no memory of the guest.
            unsafe {
                asm!("out dx, al", in("dx") PORT, in("al") number, options(nostack, preserves_flags))
            };
        }
    }
}

impl Default for Marker {
    fn default() -> Self {
        Self::new()
    }
}
