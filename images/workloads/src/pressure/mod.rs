//! `pressure`: a guest that is short of memory, in every way a program can make it so, one after the other and together. Each round
//! of a kind is a process of its own, so that the OOM killer, should it strike, strikes there.

mod bulk;
mod cgroup;
mod child;
mod cold;
mod fork;
mod huge;
mod lock;
mod readahead;
mod remote;
mod sheet;
mod swapoff;

use crate::context::about;
use crate::kernel_log::KernelLog;
use sheet::Sheet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vtmem_workloads::pressure_lines::{BROKEN_PREFIX, KIND_PREFIX, Kind, ROUND_PREFIX};
use vtmem_workloads::random::mix;
use vtmem_workloads::workload::Outcome;

/// A task that does not run for so long while it waits is one that hangs.
const HUNG_SECONDS: &str = "10";
const HUNG_TASKS: &str = "/proc/sys/kernel/hung_task_timeout_secs";
const HUNG_WARNINGS: &str = "/proc/sys/kernel/hung_task_warnings";
const OWN_OOM_SCORE: &str = "/proc/self/oom_score_adj";
const VMSTAT: &str = "/proc/vmstat";
/// How much of the memory of one kind it has when all come together.
const SHARE: u64 = 4;
/// Between two looks at the kernel's log.
const LOOK: Duration = Duration::from_millis(200);

/// What to do.
pub struct Options {
    /// Makes contents.
    pub seed: u64,
    /// Rounds go on for so long.
    pub duration: Duration,
    /// And at least so often.
    pub rounds: u64,
    /// The guest's memory in bytes.
    pub mem: u64,
    /// Where files are.
    pub directory: PathBuf,
    /// The swap device, for `swapoff`.
    pub swap: PathBuf,
    /// Which kinds.
    pub kinds: Vec<Kind>,
}

/// What one process does.
pub struct Task {
    /// Makes contents.
    pub seed: u64,
    /// The memory of which it takes its part, in bytes.
    pub mem: u64,
    /// Where files are.
    pub directory: PathBuf,
    /// The swap device.
    pub swap: PathBuf,
}

impl Task {
    /// Memory of `numerator / denominator` of the guest's, filled.
    fn sheet(&self, numerator: u64, denominator: u64) -> io::Result<Sheet> {
        Sheet::new(self.seed, self.mem * numerator / denominator)
    }
}

/// Runs one round of a kind in this process.
///
/// # Errors
/// What the kernel refuses.
pub fn run_one(kind: Kind, task: &Task) -> io::Result<Outcome> {
    // The exerciser is spared by the OOM killer, and this process is what it is to find instead.
    fs::write(OWN_OOM_SCORE, "0").map_err(about(OWN_OOM_SCORE))?;
    match kind {
        Kind::Bulk => bulk::run(task),
        Kind::Cold => cold::run(task),
        Kind::Swapoff => swapoff::run(task),
        Kind::Fork => fork::run(task),
        Kind::Lock => lock::run(task),
        Kind::Cgroup => cgroup::run(task),
        Kind::Readahead => readahead::run(task),
        Kind::Remote => remote::run(task),
        Kind::Huge => huge::run(task),
        Kind::Together => Err(io::Error::other("together is not one process")),
    }
}

/// Runs rounds of all kinds until the time is over.
///
/// # Errors
/// The kernel cannot be asked whether tasks hang or were killed, or a process cannot be started.
pub fn run(options: &Options) -> io::Result<Outcome> {
    fs::write(OWN_OOM_SCORE, "-1000").map_err(about(OWN_OOM_SCORE))?;
    fs::write(HUNG_TASKS, HUNG_SECONDS).map_err(about(HUNG_TASKS))?;
    fs::write(HUNG_WARNINGS, "-1").map_err(about(HUNG_WARNINGS))?;
    fs::create_dir_all(&options.directory).map_err(about(options.directory.display()))?;
    cgroup::mount()?;
    readahead::prepare(&options.task(0, 1))?;
    let mut log = KernelLog::open()?;
    let end = Instant::now() + options.duration;
    let mut totals = Outcome::default();
    let mut round = 0;
    while round < options.rounds || Instant::now() < end {
        for &kind in &options.kinds {
            println!("{KIND_PREFIX}{}", kind.name());
            let killed = oom_kills()?;
            let task = |number, share| options.task(mix(options.seed ^ mix(round)) ^ number, share);
            let processes = if kind == Kind::Together {
                let rest = Kind::ALL.into_iter().enumerate();
                let rest = rest.filter(|(_, k)| ![Kind::Together, Kind::Swapoff].contains(k));
                rest.map(|(number, kind)| start(kind, &task(number as u64, SHARE)))
                    .collect::<io::Result<Vec<_>>>()?
            } else {
                vec![start(kind, &task(0, 1))?]
            };
            let outcome = wait(kind, processes, &mut log)?;
            totals.operations += 1;
            totals.bytes_verified += outcome.bytes_verified;
            totals.bytes_corrupt += outcome.bytes_corrupt;
            println!(
                "{ROUND_PREFIX}{} {} {} {}",
                kind.name(),
                outcome.bytes_verified,
                outcome.bytes_corrupt,
                oom_kills()? - killed
            );
        }
        round += 1;
    }
    log.follow()?;
    Ok(totals)
}

impl Options {
    fn task(&self, seed: u64, share: u64) -> Task {
        Task {
            seed,
            mem: self.mem / share,
            directory: self.directory.clone(),
            swap: self.swap.clone(),
        }
    }
}

fn start(kind: Kind, task: &Task) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg("pressure-one")
        .args(["--kind", kind.name()])
        .args(["--seed", &task.seed.to_string()])
        .args(["--mem", &task.mem.to_string()])
        .arg("--dir")
        .arg(&task.directory)
        .arg("--swap")
        .arg(&task.swap)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
}

/// Waits for all, and has the kernel's log followed meanwhile: what the kernel says of a process that hangs is told while it
/// does. What a process says is two numbers, so no pipe fills.
fn wait(kind: Kind, mut processes: Vec<Child>, log: &mut KernelLog) -> io::Result<Outcome> {
    let mut totals = Outcome::default();
    while !processes.is_empty() {
        log.follow()?;
        std::thread::sleep(LOOK);
        for mut process in std::mem::take(&mut processes) {
            if process.try_wait()?.is_none() {
                processes.push(process);
                continue;
            }
            let output = process.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            let numbers: Vec<u64> = said.split_whitespace().flat_map(str::parse).collect();
            match numbers[..] {
                [verified, wrong] if output.status.success() => {
                    totals.bytes_verified += verified;
                    totals.bytes_corrupt += wrong;
                }
                _ => println!("{BROKEN_PREFIX}{} {}", kind.name(), output.status),
            }
        }
    }
    log.follow()?;
    Ok(totals)
}

/// How many processes the OOM killer has ended since the guest began, in memory cgroups too.
fn oom_kills() -> io::Result<u64> {
    let stat = fs::read_to_string(VMSTAT).map_err(about(VMSTAT))?;
    let line = stat.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.parse().ok())
        .ok_or_else(|| io::Error::other(format!("{VMSTAT} does not count OOM kills")))
}
