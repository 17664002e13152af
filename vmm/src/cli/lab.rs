//! `vtmem lab`: run a command on an emulated host with hardware virtualization.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use vtmem_images::{Images, Progress as _, TerminalProgress};

use super::{CliError, parse};
use crate::accel::Clock;
use crate::lab::config::BASE_MEMORY;
use crate::lab::{Lab, LabConfig, LabDisk, LabError, NullDisk};

/// Exit status of a lab that ended without its job.
const STATUS_LAB_FAILED: u8 = 4;

/// Options of `vtmem lab`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Inside there are busybox, /dev/kvm, this program as `vtmem`, and root's rights over all of it;
outside nothing needs root. The exit status is the command's; 4 when the lab itself died.

Examples:
  vtmem lab                                    a shell
  vtmem lab -- grep -c svm /proc/cpuinfo
  vtmem lab --disk root.img --file vmlinux:/in/vmlinux -- \\
    vtmem run --kernel /in/vmlinux --disk path=/dev/vda
  vtmem lab --clock virtual --null-disk name=nullb0,size=256M,latency=400us -- \\
    sh -c 'time dd if=/dev/nullb0 of=/dev/null bs=4k iflag=direct'")]
pub struct LabArgs {
    /// Real time, or virtual time: every instruction takes one nanosecond, everything happens on one
    /// CPU, and all figures repeat to the last digit.
    #[arg(long, value_enum, default_value_t)]
    clock: Clock,
    /// Memory of the emulated host; its null disks come on top.
    #[arg(long, value_name = "SIZE", default_value_t = format!("{}M", BASE_MEMORY >> 20))]
    mem: String,
    /// CPUs of the emulated host; one under the virtual clock.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    cpus: u8,
    /// A file or block device of this host to use as a disk, once for each: /dev/vda, /dev/vdb, …
    #[arg(long = "disk", value_name = "FILE")]
    disks: Vec<PathBuf>,
    /// A disk in the emulated host's memory that answers after a fixed time:
    /// `name=NAME,size=SIZE[,latency=TIME][,image=FILE]`.
    #[arg(long = "null-disk", value_name = "OPTIONS")]
    null_disks: Vec<NullDiskOptions>,
    /// Copy a file of this host into the lab, executable.
    #[arg(long = "file", value_name = "HOST:INSIDE", value_parser = pair)]
    files: Vec<(String, String)>,
    /// Copy a file of the lab out when the command has ended.
    #[arg(long = "output", value_name = "INSIDE:HOST", value_parser = pair)]
    outputs: Vec<(String, String)>,
    /// The command and its arguments; without, a shell.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Value of `--null-disk`.
#[derive(Clone, Debug)]
struct NullDiskOptions(NullDisk);

impl FromStr for NullDiskOptions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut disk = NullDisk {
            name: String::new(),
            size: 0,
            latency: Duration::ZERO,
            block_size: 4096,
            image: None,
        };
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("name", name)) if name.chars().all(|c| c.is_ascii_alphanumeric()) => {
                    disk.name = name.to_owned();
                }
                Some(("size", size)) => disk.size = parse::bytes(size)?,
                Some(("latency", latency)) => disk.latency = parse::duration(latency)?,
                Some(("image", image)) => disk.image = Some(image.into()),
                _ => {
                    return Err(format!(
                        "{part:?} is not known; give name=, size=, latency=, image="
                    ));
                }
            }
        }
        if disk.name.is_empty() || disk.size == 0 {
            return Err("give name=NAME and size=SIZE, such as name=nullb0,size=256M".to_owned());
        }
        Ok(NullDiskOptions(disk))
    }
}

/// Parses `A:B`, B or A being absolute.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() => Ok((a.to_owned(), b.to_owned())),
        _ => Err("give two paths with a colon between them".to_owned()),
    }
}

/// Runs `vtmem lab`.
///
/// # Errors
/// An input that is not there, an image that cannot be built, a host without QEMU.
pub fn execute(args: LabArgs) -> Result<ExitCode, CliError> {
    let mut config = LabConfig::new(args.clock);
    config.memory = parse::bytes(&args.mem)?;
    config.cpus = args.cpus;
    for path in args.disks {
        let metadata = path
            .metadata()
            .map_err(|error| format!("disk {}: {error}", path.display()))?;
        config.disks.push(LabDisk {
            readonly: metadata.permissions().readonly(),
            path,
        });
    }
    config.null_disks = args.null_disks.into_iter().map(|disk| disk.0).collect();
    for (outside, inside) in args.files {
        config.files.push((outside.into(), inside));
    }
    config.outputs = args
        .outputs
        .iter()
        .map(|(inside, _)| inside.clone())
        .collect();

    let mut progress = TerminalProgress::new();
    let image = Images::open(vtmem_images::Options::default())?.lab(&mut progress)?;
    progress.finish();
    let outcome = match Lab::new(&image, config)?.run_attached(&args.command) {
        Err(error) => return failed(error),
        Ok(outcome) => outcome,
    };
    for (inside, outside) in &args.outputs {
        let content = outcome
            .outputs
            .get(inside)
            .ok_or_else(|| format!("the command left no {inside} (--output {inside}:{outside})"))?;
        std::fs::write(outside, content).map_err(|error| format!("{outside}: {error}"))?;
    }
    Ok(ExitCode::from(outcome.status))
}

/// What a lab's error means for the exit status.
pub fn failed(error: LabError) -> Result<ExitCode, CliError> {
    match error {
        LabError::Stopped(signal) => Ok(ExitCode::from(128_u8.wrapping_add(signal as u8))),
        LabError::Died { .. } => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(STATUS_LAB_FAILED))
        }
        error => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_disks_are_described_by_their_options() {
        let disk = |text: &str| text.parse::<NullDiskOptions>().map(|disk| disk.0);
        let good = disk("name=nullb0,size=3M,latency=100us,image=/x").expect("options");
        assert_eq!((good.name.as_str(), good.size), ("nullb0", 3 << 20));
        assert_eq!(good.latency, Duration::from_micros(100));
        assert_eq!(good.image, Some("/x".into()));
        for wrong in [
            "",
            "name=a",
            "size=1M",
            "name=a/b,size=1M",
            "name=a,size=1M,speed=2",
        ] {
            assert!(disk(wrong).is_err(), "{wrong:?}");
        }
    }
}
