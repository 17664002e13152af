//! `vtmem lab`: run a command on an emulated host with hardware virtualization.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use vtmem_images::{Images, ImagesError, LabImage, Options, Progress as _, TerminalProgress};

use super::{CliError, parse};
use crate::accel::Clock;
use crate::disk::{Cache, Disk, DiskError, DiskOptions};
use crate::file_use::{self, FileUse};
use crate::lab::qemu::PROGRAM;
use crate::lab::{Lab, LabConfig, LabDisk, LabError, NullDisk};

/// Exit status of a lab that ended without its job.
const STATUS_LAB_FAILED: u8 = 4;

/// Options of `vtmem lab`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Inside there are busybox, /dev/kvm, this program as `vtmem`, and root's rights over all of it;
outside nothing needs root. Standard input, output and error are the command's; on a terminal it
gets one. Ctrl-C (on a terminal: SIGTERM from elsewhere) goes to the command; after ten seconds,
or at the second, the lab is ended.

Under --clock virtual the command's standard input is empty unless it is a terminal, and all
figures repeat, except those that hang on keys typed or on answers of a --disk.

Exit status: the command's; 2 when an option or this host is at fault, 4 when the lab itself
died, 128+N when signal N ended it.

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
    /// Memory of the emulated host; its null disks, and twice its input files, come on top.
    #[arg(long, value_name = "SIZE", default_value = "1200M", value_parser = parse::bytes)]
    mem: u64,
    /// CPUs of the emulated host [default: 2; under the virtual clock it has one].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    cpus: Option<u8>,
    /// A file or block device of this host to use as a disk, once for each: /dev/vda, /dev/vdb, … What
    /// this user cannot write is read-only inside.
    #[arg(long = "disk", value_name = "FILE")]
    disks: Vec<PathBuf>,
    /// A disk in the emulated host's memory that answers after a fixed time:
    /// `name=NAME,size=SIZE[,latency=TIME][,block=BYTES][,image=FILE]`.
    #[arg(long = "null-disk", value_name = "OPTIONS")]
    null_disks: Vec<NullDiskOptions>,
    /// Copy a file of this host into the lab, executable.
    #[arg(long = "file", value_name = "HOST:INSIDE", value_parser = file)]
    files: Vec<(PathBuf, String)>,
    /// Copy a file of the lab out when the command has ended; 64 MiB together at most.
    #[arg(long = "output", value_name = "INSIDE:HOST", value_parser = output)]
    outputs: Vec<(String, PathBuf)>,
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
                Some(("block", block @ ("512" | "1024" | "2048" | "4096"))) => {
                    disk.block_size = block.parse().map_err(|_| "not a number")?;
                }
                Some(("image", image)) => disk.image = Some(image.into()),
                _ => {
                    return Err(format!(
                        "{part:?} is none of name=, size=, latency=, block=512|1024|2048|4096, image="
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

/// Parses `HOST:INSIDE`; a name on the host may have colons.
fn file(text: &str) -> Result<(PathBuf, String), String> {
    match text.rsplit_once(":/") {
        Some((host, inside)) if !host.is_empty() => Ok((host.into(), format!("/{inside}"))),
        _ => Err("give HOST:INSIDE, INSIDE as an absolute path".to_owned()),
    }
}

/// Parses `INSIDE:HOST`.
fn output(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once(':') {
        Some((inside, host)) if inside.starts_with('/') && !host.is_empty() => {
            Ok((inside.to_owned(), host.into()))
        }
        _ => Err("give INSIDE:HOST, INSIDE as an absolute path".to_owned()),
    }
}

/// A disk of this host, locked as long as the lab uses it; read-only if this user cannot write it.
fn disk(path: PathBuf) -> Result<(LabDisk, Disk), DiskError> {
    let writable = std::fs::metadata(&path)
        .is_ok_and(|metadata| !metadata.permissions().readonly())
        && File::options().write(true).open(&path).is_ok();
    let options = DiskOptions {
        path,
        cache: Cache::Writeback,
        readonly: !writable,
    };
    let locked = Disk::open(&options)?;
    let disk = LabDisk {
        path: options.path,
        readonly: options.readonly,
    };
    Ok((disk, locked))
}

/// The lab's image, built if need be; installs QEMU if need be and possible.
///
/// # Errors
/// Something is missing, in one line.
pub fn image() -> Result<LabImage, ImagesError> {
    let mut progress = TerminalProgress::new();
    vtmem_images::ensure_programs(&[PROGRAM], &mut progress)?;
    let image = Images::open(Options::default())?.lab(&mut progress)?;
    progress.finish();
    Ok(image)
}

/// Runs `vtmem lab`.
///
/// # Errors
/// An input that is not there, an image that cannot be built, a host without QEMU.
pub fn execute(args: LabArgs) -> Result<ExitCode, CliError> {
    check(&args)?;
    let mut config = LabConfig::new(args.clock);
    config.memory = args.mem;
    config.cpus = args.cpus.unwrap_or(config.cpus);
    let disks = args.disks.into_iter().map(disk);
    let disks = disks.collect::<Result<Vec<_>, _>>()?;
    let (disks, _locks): (Vec<_>, Vec<_>) = disks.into_iter().unzip();
    config.disks = disks;
    config.null_disks = args.null_disks.into_iter().map(|disk| disk.0).collect();
    config.files = args.files;
    let inside = args.outputs.iter().map(|(inside, _)| inside.clone());
    config.outputs = inside.collect();
    config.check()?;

    let outcome = match Lab::new(&image()?, config)?.run_attached(&args.command) {
        Err(error) => return failed(error),
        Ok(outcome) => outcome,
    };
    for (inside, host) in &args.outputs {
        if let Some(content) = outcome.outputs.get(inside) {
            std::fs::write(host, content).map_err(|e| format!("{}: {e}", host.display()))?;
        } else if outcome.status == 0 {
            return Err(format!("the command left no file {inside}").into());
        }
    }
    Ok(ExitCode::from(outcome.status))
}

/// Whether the options can be meant at once.
fn check(args: &LabArgs) -> Result<(), String> {
    if let (Clock::Virtual, Some(cpus @ 2..)) = (args.clock, args.cpus) {
        return Err(format!(
            "--cpus {cpus} and --clock virtual: under the virtual clock everything happens on one CPU; leave one of them out"
        ));
    }
    // A disk that is given twice is found when it is locked: those that nobody can write may be.
    let disks = args.disks.iter().map(|path| FileUse::read("--disk", path));
    let files = args.files.iter();
    let files = files.map(|(path, _)| FileUse::read("--file", path));
    let outputs = args.outputs.iter();
    let outputs = outputs.map(|(_, path)| FileUse::written("--output", path));
    file_use::check(&disks.chain(files).chain(outputs).collect::<Vec<_>>())
}

/// What a lab's error means for the exit status.
pub fn failed(error: LabError) -> Result<ExitCode, CliError> {
    match error {
        LabError::Stopped(signal) => Ok(ExitCode::from(128_u8.wrapping_add(signal as u8))),
        LabError::Died { .. } | LabError::NotReady { .. } => {
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
            "name=a,size=1M,block=100",
        ] {
            assert!(disk(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_colon_parts_the_host_from_the_lab() {
        assert_eq!(file("a:b:/in"), Ok(("a:b".into(), "/in".to_owned())));
        assert_eq!(output("/out:a:b"), Ok(("/out".to_owned(), "a:b".into())));
        for wrong in ["a", "a:b", ":/in", "/a:"] {
            assert!(file(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["a", "a:b", "/a:", ":b"] {
            assert!(output(wrong).is_err(), "{wrong:?}");
        }
    }
}
