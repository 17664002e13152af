//! `vtmem run` in a lab: the same options, checked here, executed there.

use std::fs::OpenOptions;
use std::io::Write as _;

use vtmem_images::LabImage;

use super::config::BASE_MEMORY;
use super::{Lab, LabConfig, LabDisk, LabError, LabOutcome};
use crate::accel::Clock;
use crate::disk::{Cache, Disk, DiskError};
use crate::machine::{self, MachineConfig, MachineError};

/// Where the lab finds the kernel.
const KERNEL: &str = "/in/kernel";
/// Where the lab finds the initial file system.
const INITRD: &str = "/in/initrd";
/// Where the marks are written.
const MARKS: &str = "/out/marks";

/// Why a guest could not run in the lab.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The machine's configuration.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The marks file.
    #[error("cannot write the marks file {path}: {source}")]
    Marks {
        /// The file.
        path: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// The name of a cache mode on the command line.
fn cache_name(cache: Cache) -> &'static str {
    match cache {
        Cache::None => "none",
        Cache::Writethrough => "writethrough",
        Cache::Writeback => "writeback",
    }
}

/// The command line for inside.
fn arguments(config: &MachineConfig) -> Vec<String> {
    let mut argv: Vec<String> = ["vtmem", "run", "--accel", "kvm", "--kernel", KERNEL]
        .map(str::to_owned)
        .into();
    let mut option = |name: &str, value: String| argv.extend([name.to_owned(), value]);
    if config.boot.initrd.is_some() {
        option("--initrd", INITRD.to_owned());
    }
    option("--cmdline", config.boot.cmdline.clone());
    option("--mem", config.memory.to_string());
    option("--cpus", config.cpus.to_string());
    for (letter, disk) in ('a'..).zip(&config.disks) {
        let readonly = if disk.readonly { ",readonly" } else { "" };
        let cache = cache_name(disk.cache);
        option(
            "--disk",
            format!("path=/dev/vd{letter},cache={cache}{readonly}"),
        );
    }
    if let Some(size) = config.tmem {
        option("--tmem", format!("size={size}"));
    }
    if config.marks.is_some() {
        option("--marks", MARKS.to_owned());
    }
    if !config.acpi {
        argv.push("--no-acpi".to_owned());
    }
    argv
}

/// What the host needs for this guest: twice its kernel and initrd, since they are unpacked there, its
/// memory, and its pool.
fn lab_config(config: &MachineConfig, clock: Clock) -> LabConfig {
    let mut lab = LabConfig::new(clock);
    lab.files
        .push((config.boot.kernel.clone(), KERNEL.to_owned()));
    if let Some(initrd) = &config.boot.initrd {
        lab.files.push((initrd.clone(), INITRD.to_owned()));
    }
    let inputs: u64 = lab
        .files
        .iter()
        .filter_map(|(path, _)| path.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    lab.memory = BASE_MEMORY + 2 * inputs + config.memory + config.tmem.unwrap_or(0);
    lab.disks = config
        .disks
        .iter()
        .map(|disk| LabDisk {
            path: disk.path.clone(),
            readonly: disk.readonly,
        })
        .collect();
    if config.marks.is_some() {
        lab.outputs.push(MARKS.to_owned());
    }
    lab
}

/// Runs the machine in a lab, connected to this process's streams; returns the exit status of `vtmem run`.
///
/// # Errors
/// What `vtmem run` would refuse is refused before the lab starts.
pub fn run(image: &LabImage, config: &MachineConfig, clock: Clock) -> Result<u8, GuestError> {
    machine::check(config)?;
    // Opened for their locks: as long as the guest runs nobody else may have the disks.
    let locks = config.disks.iter().map(Disk::open);
    let _locks = locks.collect::<Result<Vec<_>, _>>()?;
    let lab = Lab::new(image, lab_config(config, clock))?;
    let LabOutcome { status, outputs } = lab.run_attached(&arguments(config))?;
    if let (Some(path), Some(marks)) = (&config.marks, outputs.get(MARKS)) {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(marks))
            .map_err(|source| GuestError::Marks {
                path: path.display().to_string(),
                source,
            })?;
    }
    Ok(status)
}

#[cfg(test)]
#[path = "guest_test.rs"]
mod tests;
