//! What a PC executes after a reset, 16 bytes below 1 MiB.
//!
//! Linux on a hardware-reduced machine asks EFI for a reboot, and without EFI it jumps here in real mode
//! (arch/x86/kernel/reboot.c: `efi_reboot_required`, `machine_real_restart`).

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::layout;
use crate::devices::power;

/// `mov al, RESET_VALUE; mov dx, port; out dx, al; hlt; jmp back to hlt`.
fn code() -> [u8; 9] {
    let [low, high] = (layout::POWER_PORT + power::RESET).to_le_bytes();
    [
        0xb0,
        power::RESET_VALUE,
        0xba,
        low,
        high,
        0xee,
        0xf4,
        0xeb,
        0xfd,
    ]
}

/// Has the reset vector reset the machine.
pub fn write(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    memory.write_slice(&code(), GuestAddress(layout::RESET_VECTOR))
}
