//! QEMU's command line and process: an emulated processor with SVM, four serial lines, virtio disks.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use vtmem_images::LabImage;

use super::config::LabConfig;
use crate::accel::Clock;

/// The emulator, and the Debian package that has it.
pub const PROGRAM: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");

/// Bytes that the job may leave in its output files together.
pub const OUTPUT_BYTES: u64 = 64 << 20;

/// The processor. Without ERMS and FSRM the kernel copies pages by 8 bytes an instruction, near to what a
/// copy costs a real core; byte by byte, as it would with them, QEMU counts 4096. Without XSAVE, because
/// QEMU 7.2 does not tell a nested hypervisor of XSETBV, and guests then find their CPUID inconsistent.
const CPU: &str = "max,-erms,-fsrm,-xsave";

/// Kernel parameters: nothing random, and a panic ends the lab.
const CMDLINE: &str = "console=ttyS1 quiet nokaslr random.trust_cpu=0 panic=-1";

/// The host's ends of the job's serial lines.
pub struct SerialLines {
    /// ttyS0: input and output.
    pub stdio: OwnedFd,
    /// ttyS2: error output.
    pub stderr: OwnedFd,
    /// ttyS3: signals.
    pub signals: OwnedFd,
}

/// Files of one run.
pub struct Files<'a> {
    /// Kernel and base root file system.
    pub image: &'a LabImage,
    /// The complete root file system.
    pub initrd: &'a Path,
    /// The disk for what the job leaves.
    pub output: &'a Path,
    /// Where the emulated host's console goes.
    pub console: &'a Path,
}

/// A path as the value of a QEMU option.
fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut bytes = vec![];
    for &byte in path.as_os_str().as_bytes() {
        bytes.extend(std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 }));
    }
    OsString::from_vec(bytes)
}

/// QEMU's arguments.
fn arguments(config: &LabConfig, files: &Files<'_>, lines: [RawFd; 3]) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![];
    let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    let cpus = match config.clock {
        Clock::Real => {
            add(&["-accel", "tcg"]);
            config.cpus
        }
        Clock::Virtual => {
            add(&["-accel", "tcg,thread=single"]);
            add(&["-icount", "shift=0,sleep=off"]);
            add(&["-rtc", "base=2026-01-01,clock=vm"]);
            1
        }
    };
    add(&["-cpu", CPU, "-smp", &cpus.to_string()]);
    add(&["-m", &format!("{}M", config.memory_mib())]);
    add(&["-no-user-config", "-nodefaults", "-no-reboot"]);
    add(&["-display", "none", "-nic", "none", "-append", CMDLINE]);
    let [stdio, stderr, signals] = lines;
    let line = |name: &str, fd: RawFd| format!("socket,id={name},fd={fd}");
    add(&["-chardev", &line("stdio", stdio)]);
    add(&["-chardev", &line("stderr", stderr)]);
    add(&["-chardev", &line("signals", signals)]);
    let mut add_path = |option: &str, before: &str, path: &Path, after: &str| {
        let mut value = OsString::from(before);
        value.push(path);
        value.push(after);
        args.extend([option.into(), value]);
    };
    add_path("-kernel", "", &files.image.kernel, "");
    add_path("-initrd", "", files.initrd, "");
    let console = escaped(files.console);
    add_path("-chardev", "file,id=console,path=", console.as_ref(), "");

    let passed = config.disks.iter().map(|disk| (&*disk.path, disk.readonly));
    let images = config.null_disks.iter().filter_map(|d| d.image.as_deref());
    let disks = passed
        .chain(images.map(|image| (image, true)))
        .chain([(files.output, false)]);
    let mut devices = vec![];
    for (index, (path, readonly)) in disks.enumerate() {
        let after = format!(
            ",if=none,id=d{index},format=raw,file.locking=off,readonly={}",
            if readonly { "on" } else { "off" }
        );
        add_path("-drive", "file=", escaped(path).as_ref(), &after);
        devices.push(format!("virtio-blk-pci,drive=d{index}"));
    }
    for device in &devices {
        args.extend(["-device".into(), device.into()]);
    }
    for serial in ["stdio", "console", "stderr", "signals"] {
        args.extend(["-serial".into(), format!("chardev:{serial}").into()]);
    }
    args
}

/// Starts QEMU. It ends with this process, however that ends, and hears no signal of its terminal.
///
/// # Errors
/// QEMU cannot be executed.
pub fn spawn(
    program: &Path,
    config: &LabConfig,
    files: &Files<'_>,
    lines: SerialLines,
    log: Stdio,
) -> io::Result<Child> {
    let fds = [&lines.stdio, &lines.stderr, &lines.signals].map(AsRawFd::as_raw_fd);
    let mut command = Command::new(program);
    command
        .args(arguments(config, files, fds))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0);
    let parent = std::process::id() as libc::pid_t;
    // SAFETY: between fork and exec this makes system calls only: no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // Who died before that sends no signal any more.
            if libc::getppid() != parent {
                return Err(io::ErrorKind::Interrupted.into());
            }
            for fd in fds {
                if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    // The lines' far ends close here when QEMU has them.
    command.spawn()
}

#[cfg(test)]
#[path = "qemu_test.rs"]
mod tests;
