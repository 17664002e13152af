//! Builds and caches what the guests and the lab need: the guest's kernel, the driver for it, the guest's root file
//! system, the data disk, and the lab's host image.
//!
//! Everything comes from Debian packages (or from a kernel the user names) and needs no root. [`Images`] is where
//! to start.

pub mod bzimage;
pub mod cache;
mod command;
pub mod cpio;
mod data_disk;
mod debug_kernel;
mod driver;
mod error;
mod guest;
mod images;
mod kbuild;
mod kernel;
mod lab;
mod lab_clock;
mod modules;
mod packages;
mod progress;
mod source_tree;
mod swap_disk;

pub use command::find_program;
pub use data_disk::{DataDisk, DataDiskSpec};
pub use error::ImagesError;
pub use guest::GuestImage;
pub use images::{Images, Options};
pub use kernel::KernelSource;
pub use lab::LabImage;
pub use packages::ensure_programs;
pub use progress::{Progress, Silent, TerminalProgress};
pub use swap_disk::create_swap_disk;
