//! All guests in labs, as many side by side as this host has CPUs and memory for.
//!
//! In each lab this same program runs one of them on the emulated host's KVM; its JSON comes back, and its standard output
//! tells how far it is.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use vtmem_images::{GuestImage, LabImage};

use super::Settings;
use super::console::Console;
use super::outcome::ModeOutcome;
use super::policy::Variant;
use super::progress::{Bar, Bars};
use super::result::Comparison;
use super::stop::Stop;
use crate::accel::Clock;
use crate::lab::{Lab, LabConfig, NullDisk, Stream};

/// Where things are inside a lab.
const KERNEL: &str = "/in/kernel";
const INITRD: &str = "/in/initrd";
const RESULT: &str = "/out/result.json";
const RECORD: &str = "/out/record";
const DATA: &str = "nullb0";
const SWAP: &str = "nullb1";
/// Bytes of a disk's block: a page, so that a page is one transfer.
const BLOCK: u32 = 4096;
/// Lines of a failed comparison's standard error that a problem quotes.
const LAST_LINES: usize = 8;

/// The clock, and what follows from it.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The labs' clock.
    pub clock: Clock,
    /// How many instructions a real core retires in a nanosecond; matters under the virtual clock.
    pub instructions_per_ns: f64,
    /// What the disks' latency would be on real hardware.
    pub disk_latency: Duration,
}

impl Timing {
    /// What the labs' times are divided by, and the disks' latency is multiplied by; none under a real clock.
    pub fn factor(&self) -> Option<f64> {
        (self.clock == Clock::Virtual).then_some(self.instructions_per_ns)
    }

    fn latency(&self) -> Duration {
        let nanoseconds = self.disk_latency.as_nanos() as f64 * self.factor().unwrap_or(1.0);
        Duration::from_nanos(nanoseconds.round() as u64)
    }
}

/// What labs and the guests in them are made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The emulated host.
    pub lab: LabImage,
    /// The guest.
    pub guest: GuestImage,
    /// Disk or image with the data set.
    pub data_disk: PathBuf,
}

/// Runs every variant in a lab of its own.
///
/// # Errors
/// The host lacks something, in one line; whatever befalls a lab is part of the comparison.
pub fn run(
    settings: &Settings,
    timing: &Timing,
    parts: &Parts,
    stop: &Stop,
    bars: &Bars,
) -> Result<Comparison, String> {
    let config = config(settings, timing, parts)?;
    let lab = Lab::new(&parts.lab, config.clone()).map_err(|error| error.to_string())?;
    let mut waiting: Vec<_> = settings
        .variants
        .iter()
        .map(|&variant| (variant, bars.add(variant, settings.workloads.len())))
        .collect();
    waiting.reverse();
    let labs = side_by_side(waiting.len(), config.memory_mib());
    let waiting = Mutex::new(waiting);
    let mut comparison = settings.empty_comparison("lab", timing.factor());
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        stop.signal().is_none().then(|| waiting.pop()).flatten()
    };
    let work = || {
        let mut outcomes = vec![];
        while let Some((variant, bar)) = next() {
            let outcome = run_variant(&lab, settings, variant, &bar);
            bar.end(outcome.problems.is_empty());
            outcomes.push((variant, outcome));
        }
        outcomes
    };
    let outcomes = thread::scope(|scope| {
        let threads: Vec<_> = (0..labs).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.collect::<Result<Vec<_>, _>>()
    });
    let outcomes = outcomes.map_err(|_| "a thread of the comparison panicked")?;
    let mut outcomes: Vec<_> = outcomes.into_iter().flatten().collect();
    outcomes.sort_by_key(|(variant, _)| *variant);
    for (_, outcome) in outcomes {
        comparison.runs.extend(outcome.runs);
        comparison.problems.extend(outcome.problems);
    }
    if let Some(factor) = timing.factor() {
        for run in &mut comparison.runs {
            run.seconds /= factor;
            for phase in &mut run.phases {
                phase.seconds /= factor;
            }
        }
    }
    comparison.sort();
    Ok(comparison)
}

fn config(settings: &Settings, timing: &Timing, parts: &Parts) -> Result<LabConfig, String> {
    let disk = |name: &str, size, image| NullDisk {
        name: name.to_owned(),
        size,
        latency: timing.latency(),
        block_size: BLOCK,
        image,
    };
    let data = &parts.data_disk;
    let data_bytes = length(data).map_err(|error| format!("{}: {error}", data.display()))?;
    let mut config = LabConfig::new(timing.clock);
    // Besides its kernel and what the archive brings: one guest, and what that may have of the host.
    config.memory += settings.guest_mem.saturating_add(settings.host_mem);
    config.null_disks = vec![
        disk(DATA, data_bytes, Some(data.clone())),
        disk(SWAP, settings.swap_bytes(), None),
    ];
    config.files = vec![
        (parts.guest.kernel.clone(), KERNEL.to_owned()),
        (parts.guest.initrd.clone(), INITRD.to_owned()),
    ];
    config.outputs = vec![RESULT.to_owned()];
    config
        .outputs
        .extend(settings.record.iter().map(|_| RECORD.to_owned()));
    Ok(config)
}

/// Bytes of a file or block device.
fn length(path: &Path) -> std::io::Result<u64> {
    File::open(path)?.seek(SeekFrom::End(0))
}

/// How many labs of `mib` MiB this host can run at once: each keeps one CPU busy.
fn side_by_side(wanted: usize, mib: u64) -> usize {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    wanted.min(cpus).min(fitting(&meminfo, mib)).max(1)
}

fn fitting(meminfo: &str, mib: u64) -> usize {
    let available = meminfo.lines().find_map(|line| {
        let kibibytes = line
            .strip_prefix("MemAvailable:")?
            .trim()
            .strip_suffix(" kB")?;
        kibibytes.parse::<u64>().ok()
    });
    available.map_or(1, |kibibytes| {
        usize::try_from((kibibytes >> 10) / mib.max(1)).unwrap_or(usize::MAX)
    })
}

fn arguments(settings: &Settings, variant: Variant) -> Vec<String> {
    let device = |name: &str| format!("/dev/{name}");
    let pairs = [
        ("--accel", "kvm".to_owned()),
        ("--workload", settings.workload_list()),
        ("--guest-mem", settings.guest_mem.to_string()),
        ("--host-mem", settings.host_mem.to_string()),
        ("--seed", settings.seed.to_string()),
        ("--kernel", KERNEL.to_owned()),
        ("--initrd", INITRD.to_owned()),
        ("--data-disk", device(DATA)),
        ("--swap-disk", device(SWAP)),
        ("--json", RESULT.to_owned()),
    ];
    let options = pairs
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value]);
    // A variant with something switched off is asked for without the mode that it is compared with.
    let choice = match (&settings.record, variant.policy) {
        (Some(_), _) => ["--record", RECORD],
        (None, Some(policy)) => ["--only-policy", policy.name()],
        (None, None) => ["--mode", variant.mode.name()],
    };
    ["vtmem", "compare", "--events"]
        .into_iter()
        .chain(choice)
        .map(str::to_owned)
        .chain(options)
        .collect()
}

fn run_variant(lab: &Lab, settings: &Settings, variant: Variant, bar: &Bar) -> ModeOutcome {
    bar.stage("starting a lab");
    let mut events = Console::default();
    let mut said: Vec<String> = vec![];
    let ended = lab.run_captured(
        &arguments(settings, variant),
        &mut |stream, line| match stream {
            Stream::Stdout => {
                for event in events.feed(format!("{line}\n").as_bytes()) {
                    bar.event(&event);
                }
            }
            Stream::Stderr => {
                tracing::debug!(%variant, line, "lab");
                if said.len() == LAST_LINES {
                    said.remove(0);
                }
                said.push(line.to_owned());
            }
        },
    );
    let failed = |why: String| ModeOutcome {
        runs: vec![],
        problems: settings
            .workloads
            .iter()
            .map(|workload| format!("{workload} under {variant} did not finish: {why}"))
            .collect(),
    };
    let outcome = match ended {
        Ok(outcome) => outcome,
        Err(error) => return failed(error.to_string()),
    };
    if let (Some(file), Some(recorded)) = (&settings.record, outcome.outputs.get(RECORD))
        && let Err(error) = fs::write(file, recorded)
    {
        return failed(format!("{}: {error}", file.display()));
    }
    match outcome
        .outputs
        .get(RESULT)
        .map(|json| serde_json::from_slice::<Comparison>(json))
    {
        Some(Ok(part)) => ModeOutcome {
            runs: part.runs,
            problems: part.problems,
        },
        Some(Err(error)) => failed(format!("its result is not what was expected: {error}")),
        None => {
            let said = said.join("\n    ");
            failed(format!("status {} in the lab:\n    {said}", outcome.status))
        }
    }
}

#[cfg(test)]
#[path = "lab_test.rs"]
mod tests;
