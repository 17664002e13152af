//! `vtmem compare`: the same work under four disk settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use vtmem_images::{DataDiskSpec, GuestImage, Images, Progress as _, TerminalProgress};
use vtmem_workloads::workload::Workload;

use super::images::ImageSource;
use super::{CliError, parse};
use crate::accel::{Accel, Clock};
use crate::compare::mode::Mode;
use crate::compare::policy::{Policy, Variant};
use crate::compare::progress::{Audience, Bars};
use crate::compare::result::Comparison;
use crate::compare::stop::Stop;
use crate::compare::{Settings, guest, html, kvm, lab, table};
use crate::file_use::{self, FileUse};

/// Exit status when a run did not finish, or a byte was wrong.
const STATUS_FAILED: u8 = 1;
/// Less than this a distribution's kernel does not boot in.
const LEAST_GUEST_MEM: u64 = 64 << 20;

/// Options of `vtmem compare`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Modes, one fresh guest each, which runs all workloads from dropped caches:
  none          cache=none: the host caches nothing
  writethrough  the host caches what is read; every write is durable before it completes
  writeback     the host caches reads and writes; durable when the guest flushes
  tmem          cache=none, and what the guest's kernel drops or swaps out goes to host memory

Workloads, each of which compares every byte that it reads back:
  reread        random reads, zipf-distributed, over files twice the guest's memory
  scan          one sequential pass over files that nobody reads again
  swap          anonymous memory, one and a half times the guest's, at random
  source        grep -r through a kernel's source tree larger than the guest's memory, twice
  sequential    files of the guest's size in order three times, an eighth of them once more page by
                page through a mapping, and anonymous memory of that size, swept

Policies, each a further guest under tmem with one mechanism off, to show what that one buys:
  no-presence   the guest doesn't know what the host holds: each miss and flush is an exit
  no-admission  every reclaimed page is copied to the host, read again or not
  no-batches    each put and each flush is a chain and a doorbell of its own
  no-windows    each page of a readahead window or swap cluster is an exit of its own
  no-get-ahead  a page that is read alone is fetched alone, even by who reads on in order

Every mode has the guest's memory, --host-mem and 32 MiB for the VMM in one memory cgroup; of
--host-mem the host's page cache gets what it can use, or under tmem the pool.

Exit status: 0 if every run finished and every byte was right, 1 if not, 2 if nothing could be
started, 128+N when stopped by signal N.

Examples:
  vtmem compare
  vtmem compare --workload reread,swap --mode none,tmem --json figures.json
  vtmem compare --workload source,swap --mode tmem --policy all --html buys.html
  vtmem compare --guest-mem 256M --host-mem 512M --html report.html
  vtmem compare --workload reread --host-mem 1G --record reread.trace")]
pub struct CompareArgs {
    /// What the guests do; repeat, or separate by commas [default: all].
    #[arg(long = "workload", value_name = "NAME", value_delimiter = ',', value_parser = workload_parser())]
    pub workloads: Vec<Workload>,
    /// How their disks are cached; repeat, or separate by commas [default: all].
    #[arg(
        long = "mode",
        value_name = "MODE",
        value_enum,
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub modes: Vec<Mode>,
    /// Besides, tmem with one mechanism switched off each; repeat, separate by commas, or `all`.
    #[arg(long = "policy", value_name = "POLICY", value_delimiter = ',', value_parser = policy_parser(), hide_possible_values = true)]
    pub policies: Vec<PolicyChoice>,
    /// As --policy, without anything to compare with.
    #[arg(
        long,
        hide = true,
        value_enum,
        conflicts_with = "modes",
        conflicts_with = "policies"
    )]
    pub only_policy: Option<Policy>,
    /// Instead of comparing: record to this file what one guest asks of a pool under tmem that puts every reclaimed page; give
    /// --host-mem for all of them, and one --workload. 32 MiB at most (`vtmem run --help`, --tmem-record).
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["modes", "policies", "only_policy"]
    )]
    pub record: Option<PathBuf>,
    /// Memory of each guest; the workloads grow with it.
    #[arg(long, value_name = "SIZE", default_value = "96M", value_parser = parse::bytes)]
    pub guest_mem: u64,
    /// Host memory that each guest has besides: for page cache, or for tmem's pool.
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = parse::bytes)]
    pub host_mem: u64,
    /// Latency of the lab's disks.
    #[arg(long, value_name = "TIME", default_value = "100us", value_parser = parse::duration)]
    pub disk_latency: Duration,
    /// Write all figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a report with plots to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// What all contents and all choices depend on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where the guests run: on this host's KVM, in labs, or wherever they can.
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,
    /// The labs' clock: virtual time, which repeats to the last digit, or real time.
    #[arg(long, value_enum, default_value_t = Clock::Virtual)]
    pub clock: Clock,
    /// How many instructions a real core retires in a nanosecond: what the labs' virtual time, of one
    /// nanosecond an instruction, is divided by (docs/calibration.md).
    #[arg(long, value_name = "N", default_value_t = 4.0, value_parser = factor)]
    pub instructions_per_ns: f64,
    /// Disk with the data set, made for this --guest-mem and --seed, instead of a built one. It is only
    /// read.
    #[arg(long, value_name = "DISK")]
    pub data_disk: Option<PathBuf>,
    /// Disk to swap to instead of an empty file in the cache directory; its content is lost. The lab has
    /// its own.
    #[arg(long, value_name = "DISK")]
    pub swap_disk: Option<PathBuf>,
    /// What the guests are made of.
    #[command(flatten)]
    pub source: ImageSource,
    /// A built guest's kernel.
    #[arg(long, hide = true, requires = "initrd")]
    pub kernel: Option<PathBuf>,
    /// A built guest's initial file system.
    #[arg(long, hide = true, requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// Print the guests' events on standard output instead of the table.
    #[arg(long, hide = true)]
    pub events: bool,
}

fn workload_parser() -> impl TypedValueParser<Value = Workload> {
    PossibleValuesParser::new(Workload::ALL.map(Workload::name)).try_map(|name| {
        Workload::from_name(&name).ok_or_else(|| format!("{name}: unknown workload"))
    })
}

/// What `--policy` names: one, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyChoice(Option<Policy>);

fn policy_parser() -> impl TypedValueParser<Value = PolicyChoice> {
    let names = Policy::ALL.map(Policy::name).into_iter().chain(["all"]);
    PossibleValuesParser::new(names).map(|name| PolicyChoice(Policy::from_name(&name)))
}

fn factor(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|factor| (0.01..=1000.0).contains(factor))
        .ok_or_else(|| format!("{text:?} is not a number from 0.01 to 1000"))
}

/// `chosen`, or everything; in the usual order, each once.
fn choice<T: Copy + PartialEq>(chosen: &[T], all: &[T]) -> Vec<T> {
    let wanted = |item: &&T| chosen.is_empty() || chosen.contains(item);
    all.iter().filter(wanted).copied().collect()
}

impl CompareArgs {
    fn settings(&self) -> Result<Settings, CliError> {
        let mib = 1 << 20;
        if self.guest_mem < LEAST_GUEST_MEM || !self.guest_mem.is_multiple_of(mib) {
            let least = LEAST_GUEST_MEM >> 20;
            return Err(
                format!("--guest-mem: give a whole number of MiB, at least {least}M").into(),
            );
        }
        let files = [
            ("--data-disk", &self.data_disk, false),
            ("--swap-disk", &self.swap_disk, true),
            ("--record", &self.record, true),
            ("--json", &self.json, true),
            ("--html", &self.html, true),
        ];
        let uses = files.into_iter().filter_map(|(user, path, written)| {
            Some(FileUse {
                written,
                ..FileUse::read(user, path.as_deref()?)
            })
        });
        file_use::check(&uses.collect::<Vec<_>>())?;
        Ok(Settings {
            workloads: choice(&self.workloads, &Workload::ALL),
            variants: self.variants(),
            guest_mem: self.guest_mem,
            host_mem: self.host_mem,
            seed: self.seed,
            record: self.record.clone(),
        })
    }

    /// Which guests there are: those of the modes, and then those with something switched off, which make no sense without
    /// tmem as it is.
    fn variants(&self) -> Vec<Variant> {
        let recorded = self.record.as_ref().map(|_| Policy::NoAdmission);
        if let Some(policy) = recorded.or(self.only_policy) {
            return vec![Variant::without(policy)];
        }
        let chosen = |policy: &Policy| {
            let names = |choice: &PolicyChoice| choice.0.is_none_or(|named| named == *policy);
            self.policies.iter().any(names)
        };
        let mut modes = choice(&self.modes, Mode::value_variants());
        if !self.policies.is_empty() && !modes.contains(&Mode::Tmem) {
            modes.push(Mode::Tmem);
        }
        let modes = modes.into_iter().map(Variant::from);
        let policies = Policy::ALL.into_iter().filter(chosen);
        modes.chain(policies.map(Variant::without)).collect()
    }

    /// The guest, and the disk with its data.
    fn guest(
        &self,
        images: &mut Images,
        progress: &mut TerminalProgress,
    ) -> Result<(GuestImage, PathBuf), CliError> {
        let guest = match (&self.kernel, &self.initrd) {
            (Some(kernel), Some(initrd)) => GuestImage {
                kernel: kernel.clone(),
                initrd: initrd.clone(),
            },
            _ => images.guest(progress)?,
        };
        let data = match &self.data_disk {
            Some(disk) => disk.clone(),
            None => {
                let spec = DataDiskSpec {
                    guest_mem: self.guest_mem,
                    seed: self.seed,
                };
                images.data_disk(&spec, progress)?.path
            }
        };
        Ok((guest, data))
    }

    fn compare(&self, settings: &Settings, stop: &Stop) -> Result<Comparison, CliError> {
        let accel = self.accel.resolve();
        if accel == Accel::Lab && self.swap_disk.is_some() {
            return Err(
                "--swap-disk: the lab has a swap disk of its own; leave the option out".into(),
            );
        }
        let mut images = Images::open(self.source.options())?;
        let mut progress = TerminalProgress::new();
        let (guest, data_disk) = self.guest(&mut images, &mut progress)?;
        if accel == Accel::Lab {
            let parts = lab::Parts {
                lab: images.lab(&mut progress)?,
                guest,
                data_disk,
            };
            progress.finish();
            let timing = lab::Timing {
                clock: self.clock,
                instructions_per_ns: self.instructions_per_ns,
                disk_latency: self.disk_latency,
            };
            let bars = Bars::new(Audience::User);
            let comparison = lab::run(settings, &timing, &parts, stop, &bars);
            bars.clear();
            return Ok(comparison?);
        }
        progress.finish();
        let audience = if self.events {
            Audience::Comparison
        } else {
            Audience::User
        };
        let bars = Bars::new(audience);
        let comparison =
            self.on_this_host(settings, &guest, &data_disk, images.root(), stop, &bars);
        bars.clear();
        Ok(comparison?)
    }

    fn on_this_host(
        &self,
        settings: &Settings,
        guest: &GuestImage,
        data_disk: &Path,
        scratch: &Path,
        stop: &Stop,
        bars: &Bars,
    ) -> Result<Comparison, String> {
        let own_swap = match &self.swap_disk {
            Some(_) => None,
            // Where the data disk is built too: what counts is that both are on the same kind of disk.
            None => Some(kvm::SwapFile::create(scratch, settings.swap_bytes())?),
        };
        let parts = guest::Parts {
            kernel: guest.kernel.clone(),
            initrd: guest.initrd.clone(),
            data_disk: data_disk.to_owned(),
            swap_disk: match (&self.swap_disk, &own_swap) {
                (Some(disk), _) => disk.clone(),
                (None, own) => own
                    .as_ref()
                    .map(|swap| swap.path().to_owned())
                    .unwrap_or_default(),
            },
        };
        kvm::run(settings, &parts, own_swap.as_ref(), stop, bars)
    }
}

/// Runs `vtmem compare`.
///
/// # Errors
/// A wrong option, or something that this host lacks: nothing was compared.
pub fn execute(args: CompareArgs) -> Result<ExitCode, CliError> {
    let settings = args.settings()?;
    for file in [&args.json, &args.html, &args.record].into_iter().flatten() {
        check_writable(file)?;
    }
    let stop = Stop::install()?;
    let comparison = args.compare(&settings, &stop)?;
    if let Some(file) = &args.json {
        write(file, &comparison.to_json())?;
    }
    if let Some(file) = &args.html {
        write(file, &html::render(&comparison))?;
    }
    if !args.events {
        print!("{}", table::render(&comparison));
    }
    Ok(match stop.signal() {
        Some(signal) => ExitCode::from(128 + signal as u8),
        None if comparison.all_right() => ExitCode::SUCCESS,
        None => ExitCode::from(STATUS_FAILED),
    })
}

/// Fails now rather than after the work is done; leaves what is there as it is.
fn check_writable(file: &Path) -> Result<(), CliError> {
    let existed = file.exists();
    let opened = fs::OpenOptions::new().append(true).create(true).open(file);
    opened.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    if !existed {
        // Fails when somebody else was faster, and then it is theirs.
        let _ = fs::remove_file(file);
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), CliError> {
    fs::write(file, text)
        .map_err(|error| format!("cannot write {}: {error}", file.display()).into())
}

#[cfg(test)]
#[path = "compare_test.rs"]
mod tests;
