//! `vtmem pressure`: does a guest that is short of memory fare worse with tmem than without?

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use vtmem_images::{Images, Options, Progress as _, TerminalProgress};
use vtmem_workloads::pressure_lines::Kind;

use super::images::ImageSource;
use super::{CliError, parse};
use crate::accel::Accel;
use crate::compare::stop::Stop;
use crate::pressure::report::Report;
use crate::pressure::{self, Mode, Settings, verdict};
use crate::torture::FileSystem;
use crate::torture::mutations;

/// Exit status when the guest fared worse with tmem than without.
const STATUS_FAILED: u8 = 1;

/// Options of `vtmem pressure`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Processes in a guest use more memory than it has, round after round, one kind after the other and then together:
  bulk       three quarters of memory go to swap and are asked for again at once (MADV_WILLNEED)
  cold       memory that is called cold (MADV_COLD) makes room for other memory
  swapoff    a third of memory is in swap when swap is switched off
  fork       half of memory is doubled by a fork, and changed on both sides
  lock       half of memory is locked, the rest has to do
  cgroup     a memory cgroup has half of what it needs
  readahead  a file larger than memory is asked for at once (readahead, posix_fadvise)
  remote     another process calls memory cold, puts it out and brings it back (process_madvise)
  huge       transparent huge pages are split as they go
  together   all of these but swapoff
Every byte is compared. The same guest with a plain swap disk is the control.

Exit status: 0 if with tmem no process was killed for want of memory that the control did not lose as well, no task hung
for 10 s, no byte was wrong, and pages came from the host; 1 if not; 2 if nothing could be started; 128+N when
stopped by signal N.

Examples:
  vtmem pressure
  vtmem pressure --minutes 20 --seed 3
  vtmem pressure --kinds bulk,fork --no-control")]
pub struct PressureArgs {
    /// What contents depend on.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long each of the two guests goes on, by its own clock; one round of each kind at least.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    minutes: u64,
    /// These kinds alone.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::name)))]
    kinds: Vec<String>,
    /// The file system of the guest's file.
    #[arg(long, value_enum, default_value_t)]
    fs: FileSystem,
    /// Memory of the guest.
    #[arg(long, value_name = "SIZE", default_value = "200M", value_parser = parse::bytes)]
    mem: u64,
    /// Its vCPUs.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    cpus: u8,
    /// The pool.
    #[arg(long, value_name = "SIZE", default_value = "700M", value_parser = parse::bytes)]
    pool: u64,
    /// Only the guest with tmem; what befalls it is held against it.
    #[arg(long)]
    no_control: bool,
    /// Build the driver without one of its precautions, as `vtmem torture --mutate` does: this has to fail then.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(mutations::UNDER_PRESSURE))]
    mutate: Option<String>,
    /// Where the guests run: on this host's KVM, in the lab, or wherever they can.
    #[arg(long, value_enum, default_value_t)]
    accel: Accel,
    #[command(flatten)]
    source: ImageSource,
}

/// Runs `vtmem pressure`.
///
/// # Errors
/// Something that this host lacks, in one line.
pub fn execute(args: PressureArgs) -> Result<ExitCode, CliError> {
    let mut kinds: Vec<Kind> = args.kinds.iter().flat_map(|n| Kind::from_name(n)).collect();
    if kinds.is_empty() {
        kinds.extend(Kind::ALL);
    }
    let settings = Settings {
        seed: args.seed,
        seconds: args.minutes * 60,
        kinds,
        fs: args.fs,
        mem: args.mem,
        cpus: args.cpus,
        pool: args.pool,
        accel: args.accel.resolve(),
    };
    let modules = match settings.fs {
        FileSystem::Ext4 => vec![],
        FileSystem::Xfs => vec!["xfs".to_owned()],
    };
    let mut progress = TerminalProgress::new();
    let image = Images::open(Options {
        modules,
        mutation: args.mutate,
        ..args.source.options()
    })?
    .guest(&mut progress)?;
    progress.finish();

    let stop = Stop::install()?;
    let run = |mode| {
        pressure::run(&settings, mode, &image, &stop, |kind, report| {
            say(mode, kind, report)
        })
    };
    let tmem = run(Mode::Tmem)?;
    let control = if args.no_control || stop.signal().is_some() {
        None
    } else {
        Some(run(Mode::Disk)?)
    };
    if let Some(signal) = stop.signal() {
        return Ok(ExitCode::from(128_u8.wrapping_add(signal as u8)));
    }
    tell(&settings, &tmem, control.as_ref());
    let faults = verdict::faults(&settings.kinds, &tmem, control.as_ref());
    faults.iter().for_each(|fault| println!("failed: {fault}"));
    if tmem.failure.is_some() {
        println!("the end of the console:");
        tmem.tail().for_each(|line| println!("  {line}"));
    }
    Ok(if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(STATUS_FAILED)
    })
}

fn say(mode: Mode, kind: Kind, report: &Report) {
    let rounds = &report.kinds[&kind];
    eprintln!(
        "pressure: {}, {}: round {}, {} MiB compared, {} bytes wrong, {} killed",
        mode.name(),
        kind.name(),
        rounds.rounds,
        rounds.verified >> 20,
        rounds.wrong,
        rounds.killed
    );
}

/// A table: each figure with tmem, and of the control.
fn tell(settings: &Settings, tmem: &Report, control: Option<&Report>) {
    println!(
        "| tmem / plain swap disk | rounds | MiB compared | bytes wrong | killed | ended early | complaints |\n\
         |---|---|---|---|---|---|---|"
    );
    for kind in &settings.kinds {
        let figures = |report: Option<&Report>| {
            let rounds = report.and_then(|report| report.kinds.get(kind));
            let rounds = rounds.cloned().unwrap_or_default();
            [
                rounds.rounds,
                rounds.verified >> 20,
                rounds.wrong,
                rounds.killed,
                rounds.broken.len() as u64,
                rounds.complaints.len() as u64,
            ]
        };
        let with = figures(Some(tmem));
        let cells = with.iter().zip(figures(control));
        let cells: Vec<_> = cells
            .map(|(with, without)| match control {
                Some(_) => format!("{with} / {without}"),
                None => with.to_string(),
            })
            .collect();
        println!("| {} | {} |", kind.name(), cells.join(" | "));
    }
    let counters: Vec<_> = tmem
        .counters
        .iter()
        .map(|(n, c)| format!("{n} {c}"))
        .collect();
    println!("driver: {} (seed {})", counters.join(", "), settings.seed);
}
