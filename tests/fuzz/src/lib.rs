//! Fuzz targets: each takes an input that describes what a hostile guest (or, for the boot, a user) does, does it, and
//! panics when the host broke a promise.
//!
//! One file for each target; `targets/` holds the program around it, `corpus/` the inputs that `ci/fuzz` begins
//! with, `regressions/` those that once failed.

pub mod blk_requests;
pub mod boot_files;
pub mod memory;
pub mod mmio_registers;
pub mod tmem_chains;
pub mod tmem_operations;
