//! One variant on this host: a fresh guest of our own VMM, in a memory cgroup, that runs all workloads.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::Settings;
use super::cgroup::MemoryCgroup;
use super::console::{Console, Event};
use super::mode::Mode;
use super::outcome::{Heard, ModeOutcome};
use super::policy::Variant;
use super::stop::{Guarded, Stop};
use tempfile::NamedTempFile;

/// What a VMM needs for itself, the kernel on its behalf (page tables, KVM's own tables, sockets, thread stacks), and the
/// allocator below the pool: part of the cgroup's limit besides the guest's RAM and the memory that the modes are compared
/// with.
pub const VMM_OVERHEAD: u64 = 32 << 20;

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

/// Runs all workloads in a fresh guest under `variant`.
///
/// # Errors
/// The host lacks something, in one line; whatever befalls the guest is part of the outcome.
pub fn run(
    settings: &Settings,
    variant: Variant,
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
    let name = format!("vtmem-compare-{}-{}", std::process::id(), variant.label());
    let cgroup = MemoryCgroup::create(&name, limit).map_err(|reason| {
        format!(
            "cannot bound the guest's host memory ({reason}); run this as root, or in a scope of \
             your own: systemd-run --user --scope -p Delegate=yes vtmem compare …"
        )
    })?;
    let marks_file = NamedTempFile::new().map_err(|error| format!("temporary file: {error}"))?;
    let errors = tempfile::tempfile().map_err(|error| format!("temporary file: {error}"))?;

    let mut command = command(settings, variant, parts, marks_file.path())?;
    let stderr = errors
        .try_clone()
        .map_err(|error| format!("temporary file: {error}"))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr);
    cgroup
        .contain(&mut command)
        .map_err(|error| format!("memory cgroup: {error}"))?;
    let child = stop
        .spawn(&mut command)
        .map_err(|error| format!("cannot start a guest: {error}"))?;

    let pid = child.with(|child| child.id());
    let mut heard = Heard::default();
    let mut console = Console::default();
    let in_time = follow(&child, |bytes| {
        for event in console.feed(bytes) {
            progress(&event);
            heard.take(event, peak_memory(pid));
        }
    });
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for a guest: {error}"))?;
    let end = if !in_time {
        Some(format!(
            "it said nothing for {} s",
            LONGEST_SILENCE.as_secs()
        ))
    } else if status.success() {
        None
    } else {
        Some(match cgroup.ran_out_of_memory() {
            Ok(true) => "the host ran out of memory in its cgroup and killed the VMM".to_owned(),
            Ok(false) => describe_end(status, errors),
            Err(error) => format!(
                "{}; whether its cgroup ran out of memory could not be found out: {error}",
                describe_end(status, errors)
            ),
        })
    };
    let marks_text = fs::read_to_string(marks_file.path())
        .map_err(|error| format!("{}: {error}", marks_file.path().display()))?;
    Ok(heard.outcome(settings, variant, &marks_text, end.as_deref(), &console))
}

fn command(
    settings: &Settings,
    variant: Variant,
    parts: &Parts,
    marks_file: &Path,
) -> Result<Command, String> {
    let vtmem = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let mode = variant.mode;
    let mut command = Command::new(vtmem);
    command.arg("run").arg("--accel").arg("kvm");
    command
        .arg("--kernel")
        .arg(&parts.kernel)
        .arg("--initrd")
        .arg(&parts.initrd);
    command.arg("--mem").arg(settings.guest_mem.to_string());
    command
        .arg("--disk")
        .arg(disk_argument(&parts.data_disk, mode, true));
    command
        .arg("--disk")
        .arg(disk_argument(&parts.swap_disk, mode, false));
    if mode == Mode::Tmem {
        command
            .arg("--tmem")
            .arg(format!("size={}", settings.host_mem));
        if let Some(file) = &settings.record {
            command.arg("--tmem-record").arg(file);
        }
    }
    command.arg("--marks").arg(marks_file);
    command
        .arg("--cmdline")
        .arg(kernel_command_line(settings, variant));
    Ok(command)
}

/// The value of `--disk`; as bytes, for a path need not be UTF-8.
fn disk_argument(path: &Path, mode: Mode, read_only: bool) -> OsString {
    let mut argument = b"path=".to_vec();
    for &byte in path.as_os_str().as_bytes() {
        argument.push(byte);
        if byte == b',' {
            argument.push(byte);
        }
    }
    let mut argument = OsString::from_vec(argument);
    argument.push(format!(",cache={}", mode.cache()));
    if read_only {
        argument.push(",readonly");
    }
    argument
}

fn kernel_command_line(settings: &Settings, variant: Variant) -> String {
    let tmem = match variant {
        Variant {
            mode: Mode::Tmem,
            policy,
        } => {
            let arguments = policy.map(|policy| policy.driver_arguments());
            let arguments = arguments.map(|args| format!(" vtmem.tmem_args=\"{args}\""));
            format!(" vtmem.tmem=1{}", arguments.unwrap_or_default())
        }
        _ => String::new(),
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
fn describe_end(status: ExitStatus, mut errors: File) -> String {
    let mut text = String::new();
    let said = errors
        .seek(SeekFrom::Start(0))
        .and_then(|_| errors.take(64 * 1024).read_to_string(&mut text))
        .ok()
        .and_then(|_| text.lines().last());
    match said {
        Some(line) => format!("the VMM ended with {status}: {line}"),
        None => format!("the VMM ended with {status}"),
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
