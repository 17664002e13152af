//! `vtmem run` in a lab: the same options, checked here, executed there.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use tmem_device::device::EventFault;
use tmem_device::tier::disk::DiskTier;
use vtmem_images::{ImagesError, LabImage};

use super::config::BASE_MEMORY;
use super::qemu::CHANNEL;
use super::{Lab, LabConfig, LabDisk, LabError, LabOutcome};
use crate::accel::Clock;
use crate::devices::virtio::tmem::{SpillConfig, TmemConfig};
use crate::disk::{Cache, Disk, DiskError, DiskOptions};
use crate::machine::{self, MachineConfig, MachineError};

/// Where the lab finds the kernel.
const KERNEL: &str = "/in/kernel";
/// Where the lab finds the initial file system.
const INITRD: &str = "/in/initrd";
/// Where the marks are written.
const MARKS: &str = "/out/marks";
/// Where what the guest asks of the pool is recorded.
const RECORD: &str = "/out/record";

/// Why a guest could not run in the lab.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The machine's configuration.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The lab's image.
    #[error(transparent)]
    Image(#[from] ImagesError),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The file that the pool spills to.
    #[error("cannot make {} as large as spill-size: {source}", path.display())]
    Spill {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file that is written when the lab has ended.
    #[error("cannot write {}: {source}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
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

/// The text of `--tmem`.
fn tmem_text(tmem: &TmemConfig, disks: usize) -> String {
    let mut text = format!("size={},admission={}", tmem.size, tmem.device.admission);
    if let Some(minimum) = tmem.minimum {
        text += &format!(",min={minimum}");
    }
    // The default depends on the lab's CPUs, not on this host's.
    if let Some(poll) = tmem.poll {
        text += &format!(",poll={}ns", poll.as_nanos());
    }
    if let Some(spill) = &tmem.spill {
        // The disk after the guest's.
        let letter = char::from(b'a' + disks as u8);
        let size = spill.disk.size;
        text += &format!(",spill=/dev/vd{letter},spill-size={size},spill-overwrite");
        if let Some(dirty) = spill.dirty {
            text += &format!(",spill-dirty={dirty}");
        }
        if spill.ephemeral {
            text += ",spill-cache";
        }
    }
    text
}

/// How the VMM inside is controlled from here.
#[derive(Default)]
pub struct Control {
    /// QEMU's end of the line to its API.
    pub line: Option<UnixStream>,
    /// What its tmem is to be, beyond what `--tmem` says, in JSON.
    pub tmem: Option<String>,
    /// Called when all was looked at that can be, and the lab is about to start.
    pub starting: Option<Box<dyn FnOnce()>>,
}

fn spill(config: &MachineConfig) -> Option<&SpillConfig> {
    config.tmem.as_ref()?.spill.as_ref()
}

/// Makes the file, or checks the block device, that the pool inside spills to. Returns what keeps others from it, and empties
/// it when it is dropped.
fn open_spill(spill: &SpillConfig) -> Result<DiskTier, GuestError> {
    let tier = DiskTier::open(&spill.disk).map_err(MachineError::from)?;
    let grow = || {
        let file = File::options().write(true).open(&spill.disk.path)?;
        if file.metadata()?.is_file() {
            // Inside it is a disk, which has its size from the beginning.
            file.set_len(spill.disk.size.next_multiple_of(4096))?;
        }
        Ok(())
    };
    grow().map_err(|source| GuestError::Spill {
        path: spill.disk.path.clone(),
        source,
    })?;
    Ok(tier)
}

/// The command line for inside.
fn arguments(config: &MachineConfig, control: &Control) -> Vec<String> {
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
    option("--confinement", config.confinement.to_string());
    for (letter, disk) in ('a'..).zip(&config.disks) {
        let readonly = if disk.readonly { ",readonly" } else { "" };
        let cache = cache_name(disk.cache);
        option(
            "--disk",
            format!("path=/dev/vd{letter},cache={cache}{readonly}"),
        );
    }
    if let Some(tmem) = &config.tmem {
        option("--tmem", tmem_text(tmem, config.disks.len()));
        match tmem.device.event_fault {
            EventFault::None => {}
            EventFault::Drop => option("--tmem-fault", "drop-events".to_owned()),
            EventFault::Hold(pages) => option("--tmem-fault", format!("hold-events={pages}")),
        }
        if tmem.record.is_some() {
            option("--tmem-record", RECORD.to_owned());
        }
    }
    if config.marks.is_some() {
        option("--marks", MARKS.to_owned());
    }
    if let Some(tmem) = &control.tmem {
        option("--tmem-settings", tmem.clone());
    }
    if control.line.is_some() {
        option("--api-channel", CHANNEL.to_owned());
    }
    if !config.acpi {
        argv.push("--no-acpi".to_owned());
    }
    if config
        .tmem
        .as_ref()
        .is_some_and(|tmem| tmem.access_platform)
    {
        argv.push("--tmem-access-platform".to_owned());
    }
    argv
}

/// What the host needs for this guest: its files, memory, and pool.
fn lab_config(config: &MachineConfig, clock: Clock) -> LabConfig {
    let mut lab = LabConfig::new(clock);
    lab.files
        .push((config.boot.kernel.clone(), KERNEL.to_owned()));
    if let Some(initrd) = &config.boot.initrd {
        lab.files.push((initrd.clone(), INITRD.to_owned()));
    }
    lab.memory = BASE_MEMORY + config.memory + config.tmem.as_ref().map_or(0, |tmem| tmem.size);
    lab.disks = config
        .disks
        .iter()
        .map(|disk| LabDisk {
            path: disk.path.clone(),
            readonly: disk.readonly,
        })
        .collect();
    if let Some(spill) = spill(config) {
        lab.disks.push(LabDisk {
            path: spill.disk.path.clone(),
            readonly: false,
        });
    }
    let outputs = outputs(config).map(|(inside, _)| inside.to_owned());
    lab.outputs = outputs.collect();
    lab
}

/// Files that the guest's VMM writes inside, and what they are called here.
fn outputs(config: &MachineConfig) -> impl Iterator<Item = (&'static str, &PathBuf)> {
    let record = config.tmem.as_ref().and_then(|tmem| tmem.record.as_ref());
    let marks = config.marks.iter().map(|path| (MARKS, path));
    marks.chain(record.map(|path| (RECORD, path)))
}

/// Checks the machine, locks its disks, creates the files that it writes, and runs it in the lab that `image` gives,
/// connected to this process's streams, and to `control`; returns the exit status of `vtmem run`.
///
/// # Errors
/// What `vtmem run` would refuse is refused before there is an image or a lab.
pub fn run(
    config: &MachineConfig,
    clock: Clock,
    control: Control,
    image: impl FnOnce() -> Result<LabImage, ImagesError>,
) -> Result<u8, GuestError> {
    // Opened for their locks: as long as the guest runs nobody else may have the disks. How they are cached is
    // up to the lab's kernel, which does O_DIRECT on files that this host's file systems may not.
    let locks = config.disks.iter().map(|options| {
        Disk::open(&DiskOptions {
            cache: Cache::Writeback,
            ..options.clone()
        })
    });
    let _locks = locks.collect::<Result<Vec<_>, _>>()?;
    machine::check(config)?;
    let _spill = spill(config).map(open_spill).transpose()?;
    let written = |path: &PathBuf, source| GuestError::Output {
        path: path.clone(),
        source,
    };
    let mut files = vec![];
    for (inside, path) in outputs(config) {
        let file = File::create(path).map_err(|error| written(path, error))?;
        files.push((inside, path, file));
    }
    let argv = arguments(config, &control);
    let mut lab = lab_config(config, clock);
    lab.channel = control.line.map(Arc::new);
    let lab = Lab::new(&image()?, lab)?;
    if let Some(starting) = control.starting {
        starting();
    }
    let LabOutcome { status, outputs } = lab.run_attached(&argv)?;
    for (inside, path, mut file) in files {
        let bytes = outputs.get(inside).map_or(&[][..], Vec::as_slice);
        file.write_all(bytes)
            .map_err(|error| written(path, error))?;
    }
    Ok(status)
}

#[cfg(test)]
#[path = "guest_test.rs"]
mod tests;
