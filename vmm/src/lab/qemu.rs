//! QEMU's command line and process: an emulated processor with SVM, serial lines, files mapped into its
//! memory, virtio disks.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::config::LabConfig;
use crate::accel::Clock;

/// The emulator, and the Debian package that has it.
pub const PROGRAM: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");

/// Where a job finds the line to this host's API, if there is one.
pub const CHANNEL: &str = "/dev/vport0p2";

/// Sizes of files that are mapped into the emulated host's memory are multiples of this.
pub const MEMORY_DISK_UNIT: u64 = 2 << 20;

/// The processor. Without ERMS and FSRM the kernel copies pages by 8 bytes an instruction, near to what a
/// copy costs a real core; byte by byte, as it would with them, QEMU counts 4096. Without XSAVE, because
/// QEMU 7.2 does not tell a nested hypervisor of XSETBV, and guests then find their CPUID inconsistent.
const CPU: &str = "max,-erms,-fsrm,-xsave";

/// Kernel parameters: nothing random, and a panic ends the lab.
const CMDLINE: &str = "console=ttyS1 quiet nokaslr random.trust_cpu=0 panic=-1";

/// What runs inside may be hostile; should it take QEMU over, it has only what QEMU needs.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// A file in the emulated host's memory. Its content is there without any I/O, at no time of this host's.
#[derive(Debug)]
pub struct MemoryDisk {
    /// The file.
    pub file: OwnedFd,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it is only read.
    pub readonly: bool,
}

/// The host's end of a serial line.
#[derive(Debug)]
pub enum Line {
    /// Out of the lab: a pipe, to which QEMU always can write for as long as its reader keeps up somehow.
    /// A socket would take a few hundred of QEMU's single bytes, and the time at which it takes more, this
    /// host's, would reach the lab.
    Out(OwnedFd),
    /// Both ways: a socket.
    Both(OwnedFd),
}

impl Line {
    fn descriptor(&self) -> &OwnedFd {
        match self {
            Line::Out(descriptor) | Line::Both(descriptor) => descriptor,
        }
    }

    fn chardev(&self, name: &str) -> String {
        match self {
            Line::Out(pipe) => format!("file,id={name},path={}", by_descriptor(pipe)),
            Line::Both(socket) => format!("socket,id={name},fd={}", socket.as_raw_fd()),
        }
    }
}

/// What QEMU gets from this process: descriptors, not names, so that nothing is left behind however either
/// of them ends.
#[derive(Debug)]
pub struct Plumbing {
    /// ttyS0: the job's output; on a terminal also its input.
    pub stdio: Line,
    /// ttyS1: the emulated host's console.
    pub console: Line,
    /// ttyS2: the job's error output.
    pub stderr: Line,
    /// ttyS3: signals.
    pub signals: Line,
    /// The job's input where that is a stream: by virtio, since a serial line loses what nobody reads, and
    /// knows no end.
    pub stdin: Option<Line>,
    /// The line to the job's API, by virtio.
    pub channel: Option<Line>,
    /// The complete root file system.
    pub initrd: OwnedFd,
    /// Library to preload into QEMU.
    pub preload: Option<OwnedFd>,
    /// Files in the emulated host's memory, in the order of their addresses.
    pub memory_disks: Vec<MemoryDisk>,
}

impl Plumbing {
    fn descriptors(&self) -> Vec<i32> {
        let lines = [&self.stdio, &self.console, &self.stderr, &self.signals];
        let virtio = self.stdin.iter().chain(&self.channel);
        let lines = lines.into_iter().chain(virtio).map(Line::descriptor);
        let disks = self.memory_disks.iter().map(|disk| &disk.file);
        let files = [&self.initrd].into_iter().chain(&self.preload);
        let all = lines.chain(files).chain(disks);
        all.map(AsRawFd::as_raw_fd).collect()
    }
}

/// A file by its descriptor, as a path inside QEMU's own process.
fn by_descriptor(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
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
fn arguments(config: &LabConfig, kernel: &Path, plumbing: &Plumbing) -> Vec<OsString> {
    let flags = ["-no-user-config", "-nodefaults", "-no-reboot"];
    let mut args: Vec<OsString> = flags.map(OsString::from).into();
    let mut add = |option: &str, value: OsString| args.extend([option.into(), value]);

    let virtual_clock = config.clock == Clock::Virtual;
    // All CPUs in one thread: with a thread for each, guests now and then hang or fault in QEMU 7.2's nested
    // virtualization, and where several labs share few real CPUs, it is the slower way.
    add("-accel", "tcg,thread=single".into());
    if virtual_clock {
        add("-icount", "shift=0,sleep=off".into());
        add("-rtc", "base=2026-01-01,clock=vm".into());
        // RDRAND and the boot loader's seed, and with them every random address inside.
        add("-seed", "1".into());
    }
    let cpus = if virtual_clock { 1 } else { config.cpus };
    let memory = config.memory_mib();
    let mapped: u64 = plumbing.memory_disks.iter().map(|disk| disk.bytes).sum();
    add("-machine", "pc,nvdimm=on".into());
    add("-cpu", CPU.into());
    add("-smp", cpus.to_string().into());
    add(
        "-m",
        format!(
            "{memory}M,slots={},maxmem={}M",
            plumbing.memory_disks.len(),
            memory + mapped.div_ceil(1 << 20)
        )
        .into(),
    );
    add("-display", "none".into());
    add("-nic", "none".into());
    add("-sandbox", SANDBOX.into());
    add("-kernel", kernel.into());
    add("-initrd", by_descriptor(&plumbing.initrd).into());
    add("-append", CMDLINE.into());

    let lines = [
        ("stdio", &plumbing.stdio),
        ("console", &plumbing.console),
        ("stderr", &plumbing.stderr),
        ("signals", &plumbing.signals),
    ];
    for (name, line) in lines {
        add("-chardev", line.chardev(name).into());
        add("-serial", format!("chardev:{name}").into());
    }
    let ports = [
        (1, "stdin", &plumbing.stdin),
        (2, "channel", &plumbing.channel),
    ];
    let ports = ports
        .iter()
        .filter_map(|(nr, name, line)| Some((nr, name, line.as_ref()?)));
    // Port 0 is a console's.
    if let Some((last, ..)) = ports.clone().next_back() {
        add(
            "-device",
            format!("virtio-serial-pci,max_ports={}", last + 1).into(),
        );
    }
    for (nr, name, line) in ports {
        add("-chardev", line.chardev(name).into());
        add(
            "-device",
            format!("virtserialport,nr={nr},name={name},chardev={name}").into(),
        );
    }
    for (index, disk) in plumbing.memory_disks.iter().enumerate() {
        let path = by_descriptor(&disk.file);
        let mode = if disk.readonly { "on" } else { "off" };
        let bytes = disk.bytes;
        add(
            "-object",
            format!(
                "memory-backend-file,id=m{index},share=on,mem-path={path},size={bytes},readonly={mode}"
            )
            .into(),
        );
        add(
            "-device",
            format!("nvdimm,id=n{index},memdev=m{index},unarmed={mode}").into(),
        );
    }
    for (index, disk) in config.disks.iter().enumerate() {
        let mode = if disk.readonly { "on" } else { "off" };
        let mut drive = OsString::from("file=");
        drive.push(escaped(&disk.path));
        drive.push(format!(
            ",if=none,id=d{index},format=raw,file.locking=off,readonly={mode}"
        ));
        add("-drive", drive);
        // An error is the guest's to see; by default QEMU would wait for a full file system to change.
        let device = format!("virtio-blk-pci,drive=d{index},werror=report,rerror=report");
        add("-device", device.into());
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
    kernel: &Path,
    plumbing: Plumbing,
    log: Stdio,
) -> io::Result<Child> {
    let descriptors = plumbing.descriptors();
    let mut command = Command::new(program);
    command
        .args(arguments(config, kernel, &plumbing))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0);
    if let Some(library) = &plumbing.preload {
        command.env("LD_PRELOAD", by_descriptor(library));
    }
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
            for &descriptor in &descriptors {
                if libc::fcntl(descriptor, libc::F_SETFD, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    // The plumbing's far ends close here when QEMU has them.
    command.spawn()
}

#[cfg(test)]
#[path = "qemu_test.rs"]
mod tests;
