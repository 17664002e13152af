//! One mode on this host: a fresh guest of our own VMM, in a memory cgroup, that runs all workloads.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tempfile::NamedTempFile;
use vtmem_workloads::workload::{Outcome, Workload};

use super::Settings;
use super::cgroup::MemoryCgroup;
use super::console::{Console, Event};
use super::marks::{self, Difference};
use super::mode::Mode;
use super::result::Run;
use super::stop::{Guarded, Stop};

/// What a VMM needs for itself, and the kernel on its behalf (page tables, KVM's own tables, sockets, thread stacks): part of
/// the cgroup's limit besides the guest's RAM and the memory that the modes are compared with.
pub const VMM_OVERHEAD: u64 = 24 << 20;

/// A guest that says nothing for longer hangs.
const LONGEST_SILENCE: Duration = Duration::from_secs(1800);

/// What a guest is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Kernel.
    pub kernel: PathBuf,
    /// Initial file system.
    pub initrd: PathBuf,
    /// Disk or image with the data set.
    pub data_disk: PathBuf,
    /// Disk or image to swap to; its content is lost.
    pub swap_disk: PathBuf,
}

/// What became of one mode.
#[derive(Debug, Default)]
pub struct ModeOutcome {
    /// Workloads that finished.
    pub runs: Vec<Run>,
    /// Why others did not.
    pub problems: Vec<String>,
    /// Why the host's memory could not be bounded.
    pub not_enforced: Option<String>,
}

/// Runs all workloads in a fresh guest under `mode`.
///
/// # Errors
/// The host lacks something, in one line; whatever befalls the guest is part of the outcome.
pub fn run(
    settings: &Settings,
    mode: Mode,
    parts: &Parts,
    stop: &Stop,
    mut progress: impl FnMut(&Event),
) -> Result<ModeOutcome, String> {
    for disk in [&parts.data_disk, &parts.swap_disk] {
        forget_cached(disk).map_err(|error| format!("{}: {error}", disk.display()))?;
    }
    let limit = settings
        .guest_mem
        .saturating_add(settings.host_mem)
        .saturating_add(VMM_OVERHEAD);
    let name = format!("vtmem-compare-{}-{mode}", std::process::id());
    let (cgroup, not_enforced) = match MemoryCgroup::create(&name, limit) {
        Ok(cgroup) => (Some(cgroup), None),
        Err(reason) => (None, Some(reason)),
    };
    let marks_file = NamedTempFile::new().map_err(|error| format!("temporary file: {error}"))?;
    let errors = tempfile::tempfile().map_err(|error| format!("temporary file: {error}"))?;

    let mut command = command(settings, mode, parts, marks_file.path())?;
    let stderr = errors
        .try_clone()
        .map_err(|error| format!("temporary file: {error}"))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr);
    if let Some(cgroup) = &cgroup {
        cgroup
            .contain(&mut command)
            .map_err(|error| format!("memory cgroup: {error}"))?;
    }
    let child = stop
        .spawn(&mut command)
        .map_err(|error| format!("cannot start a guest: {error}"))?;

    let pid = child.with(|child| child.id());
    let mut outcomes = Vec::new();
    let mut problems = Vec::new();
    let mut console = Console::default();
    let in_time = follow(&child, |bytes| {
        for event in console.feed(bytes) {
            progress(&event);
            match event {
                Event::Started(_) => {}
                Event::Finished(workload, outcome) => {
                    outcomes.push(Finished {
                        workload,
                        outcome,
                        peak: peak_memory(pid),
                    });
                }
                Event::Failed(reason) => problems.push(format!("{mode}: {reason}")),
            }
        }
    });
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for a guest: {error}"))?;

    let out_of_memory = cgroup.as_ref().is_some_and(MemoryCgroup::ran_out_of_memory);
    if !status.success() || !in_time {
        let why = match (in_time, out_of_memory) {
            (false, _) => format!("said nothing for {} s", LONGEST_SILENCE.as_secs()),
            (_, true) => "the host killed the VMM: out of memory in its cgroup".to_owned(),
            _ => describe_end(status, errors, &console),
        };
        problems.push(format!("{mode}: {why}"));
    }
    let marks_text = fs::read_to_string(marks_file.path())
        .map_err(|error| format!("{}: {error}", marks_file.path().display()))?;
    let mut outcome = ModeOutcome {
        runs: Vec::new(),
        problems,
        not_enforced,
    };
    match marks::parse(&marks_text) {
        Err(error) => outcome.problems.push(format!("{mode}: {error}")),
        Ok(marks) => {
            for workload in &settings.workloads {
                let finished = outcomes
                    .iter()
                    .find(|finished| finished.workload == *workload);
                match finished.map(|finished| (finished, marks::difference(&marks, *workload))) {
                    Some((finished, Ok(during))) => {
                        outcome.runs.push(settings.run(mode, finished, during));
                    }
                    Some((_, Err(error))) => {
                        outcome
                            .problems
                            .push(format!("{mode}: {workload}: {error}"));
                    }
                    None => outcome
                        .problems
                        .push(format!("{mode}: {workload} did not finish")),
                }
            }
        }
    }
    Ok(outcome)
}

fn command(
    settings: &Settings,
    mode: Mode,
    parts: &Parts,
    marks_file: &Path,
) -> Result<Command, String> {
    let vtmem = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let mut command = Command::new(vtmem);
    command.arg("run").arg("--accel").arg("kvm");
    command
        .arg("--kernel")
        .arg(&parts.kernel)
        .arg("--initrd")
        .arg(&parts.initrd);
    command.arg("--mem").arg(settings.guest_mem.to_string());
    command.arg("--cpus").arg(settings.cpus.to_string());
    command
        .arg("--disk")
        .arg(disk_argument(&parts.data_disk, mode, true)?);
    command
        .arg("--disk")
        .arg(disk_argument(&parts.swap_disk, mode, false)?);
    if mode == Mode::Tmem {
        command
            .arg("--tmem")
            .arg(format!("size={}", settings.host_mem));
    }
    command.arg("--marks").arg(marks_file);
    command
        .arg("--cmdline")
        .arg(kernel_command_line(settings, mode));
    Ok(command)
}

fn disk_argument(path: &Path, mode: Mode, read_only: bool) -> Result<String, String> {
    let text = path.to_str().filter(|text| !text.contains(','));
    let text = text.ok_or_else(|| {
        format!(
            "{}: a disk's path may not contain a comma or bytes that are not UTF-8",
            path.display()
        )
    })?;
    let read_only = if read_only { ",readonly" } else { "" };
    Ok(format!("path={text},cache={}{read_only}", mode.cache()))
}

fn kernel_command_line(settings: &Settings, mode: Mode) -> String {
    let tmem = if mode == Mode::Tmem {
        " vtmem.tmem=1"
    } else {
        ""
    };
    format!(
        "console=ttyS0 quiet vtmem.data=/dev/vda vtmem.swap=/dev/vdb vtmem.work={} vtmem.seed={} vtmem.mem={}{tmem}",
        settings.workload_list(),
        settings.seed,
        settings.guest_mem
    )
}

/// Hands on what the child prints until it has closed its output; `false` when that took too long.
fn follow(child: &Guarded, mut take: impl FnMut(&[u8])) -> bool {
    let Some(mut output) = child.with(|child| child.stdout.take()) else {
        return true;
    };
    let (sender, receiver) = mpsc::sync_channel::<Vec<u8>>(16);
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut in_time = true;
    loop {
        match receiver.recv_timeout(LONGEST_SILENCE) {
            Ok(bytes) => take(&bytes),
            Err(RecvTimeoutError::Timeout) if in_time => {
                in_time = false;
                child.terminate();
            }
            Err(_) => break,
        }
    }
    drop(receiver);
    // It ends with the pipe; a panic in it has nothing to tell.
    let _ = reader.join();
    in_time
}

/// Says how a VMM ended that should have ended well.
fn describe_end(status: ExitStatus, mut errors: File, console: &Console) -> String {
    let mut text = String::new();
    let said = errors
        .seek(SeekFrom::Start(0))
        .and_then(|_| errors.take(64 * 1024).read_to_string(&mut text))
        .ok()
        .and_then(|_| text.lines().last());
    match said {
        Some(line) => format!("{status}: {line}"),
        None => format!(
            "{status}; the guest's last words: {}",
            console.last_lines().join(" / ")
        ),
    }
}

/// A workload that finished.
struct Finished {
    workload: Workload,
    outcome: Outcome,
    /// The most memory of its own that the VMM had until then.
    peak: u64,
}

impl Settings {
    fn run(&self, mode: Mode, finished: &Finished, during: Difference) -> Run {
        let outcome = &finished.outcome;
        Run {
            workload: finished.workload.name().to_owned(),
            mode: mode.name().to_owned(),
            seconds: outcome.nanoseconds as f64 / 1e9 / self.instructions_per_ns.unwrap_or(1.0),
            operations: outcome.operations,
            bytes_verified: outcome.bytes_verified,
            bytes_corrupt: outcome.bytes_corrupt,
            exits: during.exits,
            disk: during.disk,
            host_peak_bytes: during.host_peak_bytes.unwrap_or(finished.peak),
            tmem: during.tmem,
        }
    }
}

/// The most memory that a process has had resident, in bytes: without a cgroup the nearest figure there is, for it leaves
/// out the page cache.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Drops what the host has cached of a disk: every mode starts cold, and no page is on another's account.
fn forget_cached(disk: &Path) -> io::Result<()> {
    let file = File::open(disk)?;
    file.sync_all()?;
    // SAFETY: an open file; no memory is involved.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
#[path = "guest_test.rs"]
mod tests;
