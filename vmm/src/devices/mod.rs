//! Devices, one a file.

pub mod mark;
pub mod pci_host;
pub mod power;
pub mod serial;
pub mod terminal;
pub mod virtio;
