//! `vtmem torture`: does the guest ever read a wrong byte?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use vtmem_images::{GuestImage, Images, KernelSource, Options, Progress as _, TerminalProgress};

use super::images::ImageSource;
use super::{CliError, parse};
use crate::accel::Accel;
use crate::compare::stop::Stop;
use crate::torture::mutations::{self, MUTATIONS, Mutation};
use crate::torture::report::{Progress, Report};
use crate::torture::{self, FileSystem, Settings};

/// Exit status when a byte was wrong, the kernel complained, or a mutation was not found.
const STATUS_FAILED: u8 = 1;

/// Options of `vtmem torture`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Threads in a guest read and write the same files buffered, mapped, page by page, spliced, by io_uring,
direct and asynchronous; truncate, punch, zero, collapse, insert, exchange or share blocks; have data go
through the journal; replace, rename over, link and unlink them; reclaim their pages, migrate them, drop
them with or without their inodes; swap to them; freeze and remount their file system, and change it on the
disk while it is read-only or not mounted; unload the driver and load it again. Another thread takes
memory. The pool is smaller than what the guest drops, so it evicts all the time. Every byte that is
read is compared with a model.

When one is wrong, a short list of operations that makes it wrong again is looked for and printed;
--script FILE does what such a list says.

Exit status: 0 if no byte was wrong, the guest's kernel had nothing to complain of, and pages came from
the host (one in 20 operations at least); 1 if not, or with
--mutate if nothing was found; 2 if nothing could be started; 128+N when stopped by signal N.

Examples:
  vtmem torture --minutes 30 --fs xfs
  vtmem torture --seed 7 --minutes 2
  vtmem torture --mutate all --minutes 3
  vtmem torture --debug-kernel --faults")]
pub struct TortureArgs {
    /// What contents and each thread's operations depend on; how threads interleave does not.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long, by the guest's clock.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    minutes: u64,
    /// The file system of the guest's files.
    #[arg(long, value_enum, default_value_t)]
    fs: FileSystem,
    /// Memory of the guest [default: 128M; with --debug-kernel, 384M].
    #[arg(long, value_name = "SIZE", value_parser = parse::bytes)]
    mem: Option<u64>,
    /// Its vCPUs.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    cpus: u8,
    /// The pool.
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = parse::bytes)]
    pool: u64,
    /// Do what FILE lists instead of random operations, one after the other.
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Build the driver without one of the things that keep it coherent, and see how soon that is found; `all` tries one
    /// after the other.
    #[arg(long, value_name = "NAME", value_parser = names(), hide_possible_values = true)]
    mutate: Option<String>,
    /// Where the guest runs: on this host's KVM, in the lab, or wherever it can.
    #[arg(long, value_enum, default_value_t)]
    accel: Accel,
    /// Run a kernel that looks for mistakes: KASAN, lockdep, checks of sleeping, of lists, of memory management. Built from
    /// Debian's sources the first time, which takes a quarter of an hour.
    #[arg(long, conflicts_with = "guest_kernel")]
    debug_kernel: bool,
    /// Have allocations of the driver fail, writes to the swap disk and readahead: the guest must not notice. Needs a kernel
    /// with fault injection, as --debug-kernel has.
    #[arg(long, conflicts_with_all = ["mutate", "script"])]
    faults: bool,
    /// Fail when a task is blocked for so many seconds [default: the kernel's, 120].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    blocked: Option<u32>,
    /// Load the driver without its cleancache: file pages are not kept.
    #[arg(long)]
    no_cleancache: bool,
    /// Give the guest nothing to swap to.
    #[arg(long)]
    no_swap: bool,
    /// Pass although hardly any page came from the host: without this, fewer hits than one in 20 operations are a failure.
    /// With --script they never are.
    #[arg(long)]
    few_hits: bool,
    #[command(flatten)]
    source: ImageSource,
}

/// Memory of a guest, and of one whose kernel keeps books of all memory.
const MEM: u64 = 128 << 20;
const DEBUG_MEM: u64 = 384 << 20;

fn names() -> PossibleValuesParser {
    let names = MUTATIONS.iter().map(|mutation| mutation.name);
    PossibleValuesParser::new(names.chain(["all"]))
}

/// Runs `vtmem torture`.
///
/// # Errors
/// Something that this host lacks, in one line.
pub fn execute(args: TortureArgs) -> Result<ExitCode, CliError> {
    let settings = Settings {
        seed: args.seed,
        seconds: args.minutes * 60,
        fs: args.fs,
        mem: args
            .mem
            .unwrap_or(if args.debug_kernel { DEBUG_MEM } else { MEM }),
        cpus: args.cpus,
        pool: args.pool,
        accel: args.accel.resolve(),
        cleancache: !args.no_cleancache,
        swap: !args.no_swap,
        blocked: args.blocked,
        script: args.script,
        faults: args.faults,
    };
    let mut source = args.source.options();
    if args.debug_kernel {
        source.kernel = KernelSource::Debug;
    }
    let stop = Stop::install()?;
    let passed = match args.mutate.as_deref() {
        None => clean(&settings, args.few_hits, &source, &stop)?,
        Some("all") => mutate(&MUTATIONS, &settings, &source, &stop)?,
        Some(name) => {
            let mutation = mutations::find(name).into_iter().collect::<Vec<_>>();
            mutate(&mutation, &settings, &source, &stop)?
        }
    };
    Ok(match stop.signal() {
        Some(signal) => ExitCode::from(128_u8.wrapping_add(signal as u8)),
        None if passed => ExitCode::SUCCESS,
        None => ExitCode::from(STATUS_FAILED),
    })
}

fn image(
    source: &Options,
    fs: FileSystem,
    mutation: Option<Mutation>,
) -> Result<GuestImage, CliError> {
    let mut modules = ["loop", "nbd", "quota_v2"].map(str::to_owned).to_vec();
    if fs == FileSystem::Xfs {
        modules.push("xfs".to_owned());
    }
    let mut progress = TerminalProgress::new();
    let image = Images::open(Options {
        modules,
        mutation: mutation.map(|mutation| mutation.name.to_owned()),
        ..source.clone()
    })?
    .guest(&mut progress)?;
    progress.finish();
    Ok(image)
}

fn clean(
    settings: &Settings,
    few_hits: bool,
    source: &Options,
    stop: &Stop,
) -> Result<bool, CliError> {
    let image = image(source, settings.fs, None)?;
    let report = torture::run(settings, &image, stop, say)?;
    tell(settings, &report);
    let hit = few_hits || settings.script.is_some() || report.had_hits();
    if !hit && report.outcome.is_some() {
        println!(
            "failed: too few hits for this to say anything of tmem; was the driver there? (--few-hits: pass all the same)"
        );
    }
    Ok(hit && report.is_clean() && (!settings.faults || report.had_faults()))
}

/// One guest for each mutation, and a table.
fn mutate(
    mutations: &[Mutation],
    settings: &Settings,
    source: &Options,
    stop: &Stop,
) -> Result<bool, CliError> {
    let mut all = true;
    println!("| left out | file system | seed | found after | operations |\n|---|---|---|---|---|");
    for mutation in mutations {
        let image = image(source, mutation.fs, Some(*mutation))?;
        let settings = Settings {
            fs: mutation.fs,
            ..settings.clone()
        };
        eprintln!("torture: without {}", mutation.name);
        let report = torture::run(&settings, &image, stop, say)?;
        if stop.signal().is_some() {
            break;
        }
        let found = report.found();
        all &= found;
        let Progress {
            seconds,
            operations,
            ..
        } = report.progress;
        let after = if found {
            format!("{seconds} s | {operations}")
        } else {
            "not found |".to_owned()
        };
        println!(
            "| {} | {} | {} | {after} |",
            mutation.name,
            settings.fs.name(),
            settings.seed
        );
        for line in &report.script {
            eprintln!("  {line}");
        }
        if !found && let Some(failure) = &report.failure {
            eprintln!("torture: {failure}");
            report.tail().for_each(|line| eprintln!("  {line}"));
        }
    }
    Ok(all)
}

fn say(progress: &Progress) {
    eprintln!(
        "torture: {} s, {} operations, {} MiB read and right, {} bytes wrong",
        progress.seconds,
        progress.operations,
        (progress.verified - progress.corrupt.min(progress.verified)) >> 20,
        progress.corrupt
    );
}

fn tell(settings: &Settings, report: &Report) {
    if let Some(outcome) = report.outcome {
        let counters = report.counters.iter();
        let counters: Vec<_> = counters
            .map(|(name, count)| format!("{name}:{count}"))
            .collect();
        println!(
            "{} operations on {}, {} MiB compared, {} bytes wrong, {} complaints of the kernel (seed {}; {})",
            outcome.operations,
            settings.fs.name(),
            outcome.bytes_verified >> 20,
            outcome.bytes_corrupt,
            report.complaints.len(),
            settings.seed,
            counters.join(", ")
        );
    }
    report
        .wrong
        .iter()
        .for_each(|line| println!("wrong: {line}"));
    report
        .log
        .iter()
        .for_each(|line| println!("kernel: {line}"));
    if !report.faults.is_empty() {
        let faults = report.faults.iter();
        let faults: Vec<_> = faults
            .map(|(kind, count)| format!("{count} by {kind}"))
            .collect();
        println!("faults injected: {}", faults.join(", "));
    } else if settings.faults && report.outcome.is_some() {
        println!("no faults were injected");
    }
    report.script.iter().for_each(|line| println!("{line}"));
    if let Some(failure) = &report.failure {
        println!("failed: {failure}; the end of the console:");
        report.tail().for_each(|line| println!("  {line}"));
    }
}
