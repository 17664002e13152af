//! The lab: a throw-away host with hardware virtualization, emulated by QEMU.
//!
//! Where the processor cannot virtualize, and wherever figures have to repeat to the last digit, a
//! command runs in a lab: [`config`] says what the emulated host has, [`archive`] writes what it finds at
//! boot, [`qemu`] emulates it, [`running`] is one such host from start to end, [`session`] connects it with this
//! process, [`outcome`] is what it leaves. [`guest`] is `vtmem run` by this way. Inside, images/lab/init is
//! the first process.

pub mod archive;
pub mod config;
pub mod console;
pub mod error;
pub mod guest;
pub mod outcome;
pub mod process;
pub mod qemu;
pub mod running;
pub mod session;
pub mod signals;
pub mod streams;

pub use config::{LabConfig, LabDisk, NullDisk};
pub use error::LabError;
pub use outcome::LabOutcome;
pub use session::Lab;
pub use streams::Stream;
