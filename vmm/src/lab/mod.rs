//! The lab: a throw-away host with hardware virtualization, emulated by QEMU.
//!
//! Where the processor cannot virtualize, and wherever figures have to repeat to the last digit, a
//! command runs in a lab: [`config`] says what the emulated host has, [`archive`] writes what it finds at
//! boot, [`qemu`] emulates it, [`session`] connects it with this process and collects what it leaves.
//! [`guest`] is `vtmem run` by this way. Inside, images/lab/init is the first process.

pub mod archive;
pub mod config;
pub mod guest;
pub mod qemu;
pub mod session;

pub use config::{LabConfig, LabDisk, NullDisk};
pub use session::{Lab, LabError, LabOutcome, Stream};
