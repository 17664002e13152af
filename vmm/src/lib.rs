//! vtmem: a minimal KVM VMM with transcendent memory.
//!
//! What happens, in the order in which it happens: [`cli`] reads the command line, [`machine`]
//! assembles memory, [`devices`], [`boot`] tables and vCPUs on a [`hypervisor`], [`confine`]s their threads, and runs them to
//! their end; [`api`] lets others watch and steer that. [`lab`] does the same inside an emulated host, [`compare`] does it several times and
//! reports.

pub mod accel;
pub mod api;
pub mod boot;
pub mod cli;
pub mod compare;
pub mod confine;
pub mod devices;
pub mod disk;
pub mod file_use;
pub mod hint;
pub mod host_memory;
pub mod hypervisor;
pub mod lab;
pub mod machine;
pub mod metrics;
#[cfg(test)]
mod not_run;
pub mod pressure;
pub mod torture;
