//! Devices, one a file.

pub mod virtio;
