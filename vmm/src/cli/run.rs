//! `vtmem run`: launch a guest.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use tmem_device::device::EventFault;
use vtmem_images::{Images, Options, Progress as _, TerminalProgress};

use super::controlled::{self, Host};
use crate::accel::{Accel, Clock};
use crate::api::boot_source::BootSourceSettings;
use crate::api::config::VmConfig;
use crate::api::disks::NamedDisk;
use crate::api::machine::MachineSettings;
use crate::api::quantity::Memory;
use crate::api::server::Source;
use crate::api::socket::Socket;
use crate::api::tmem_settings::TmemSettings;
use crate::cli::{CliError, parse, tmem};
use crate::confine::Confinement;
use crate::devices::virtio::tmem::TmemConfig;
use crate::disk::DiskOptions;
use crate::file_use::FileUse;

/// Options of `vtmem run`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Exit status:
  0    the guest powered off
  2    a wrong option or file, or something that this host lacks: nothing was started
  3    the guest asked for a reboot
  4    the guest or its vCPUs cannot go on
  128+N  stopped by signal N (130 Ctrl-C, 143 SIGTERM); 130 also for Ctrl-A x on the console

Example:
  vtmem run --kernel vmlinux --initrd initrd --cmdline 'console=ttyS0' \\
    --mem 256M --cpus 2 --disk path=root.img,cache=none --tmem size=512M")]
pub struct RunArgs {
    /// Kernel: a bzImage, or an ELF vmlinux with a PVH or 64-bit entry. Without it, the guest of
    /// `vtmem images` boots, with its own initrd.
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<PathBuf>,
    /// Initial root file system.
    #[arg(long, value_name = "PATH", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    #[arg(long, value_name = "TEXT", default_value = "console=ttyS0 quiet")]
    pub cmdline: String,
    /// Guest memory, such as 512M or 2G; whole MiB.
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = parse::bytes)]
    pub mem: u64,
    /// Number of vCPUs, 1 to 8.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub cpus: u8,
    /// A disk, once for each: `path=FILE[,cache=none|writethrough|writeback][,readonly]`. none
    /// bypasses the host's page cache; writethrough makes every write durable before it completes;
    /// writeback (the default) does so at FLUSH.
    #[arg(long = "disk", value_name = "OPTIONS")]
    pub disks: Vec<DiskOptions>,
    /// Give the guest a virtio-tmem device over a pool of host memory:
    /// `size=SIZE[,min=SIZE][,poll=TIME][,admission=always|second-chance|adaptive]`. size=0 refuses every page.
    /// With min=, the pool becomes smaller, down to that, at once when the host or its cgroup runs short of memory, and slowly
    /// larger again when there has been room for a while; VTMEM_LOG=info tells why. Without, its size is fixed. Either way the
    /// host's kernel may take the memory of page cache kept there at any moment.
    /// While puts stream, the host looks for more by itself for at most poll= (10ms and less) before it waits for the
    /// guest's doorbell: 50us unless said otherwise, 0us where this process has one CPU. admission= is
    /// which reclaimed pages a guest that leaves that to the host puts (default adaptive).
    /// `spill=PATH,spill-size=SIZE[,spill-dirty=SIZE][,spill-cache][,spill-overwrite]` gives the pool a file or block device for
    /// swapped pages: memory alone has no more than spill-dirty= of them (half of the size), from half of that on the oldest are
    /// written there, and what memory keeps of those may go at any time. With spill-cache, page cache that would be evicted is spilled too. The file is made, used up to spill-size= and
    /// emptied at the end; a block device that was not spilled to before is only overwritten with spill-overwrite.
    #[arg(long, value_name = "OPTIONS")]
    pub tmem: Option<TmemConfig>,
    /// For tests: what goes wrong with reports of evictions to the guest, `drop-events` (none is sent) or
    /// `hold-events=PAGES` (each is sent when so many further pages were evicted).
    #[arg(long, value_name = "FAULT", hide = true, requires = "tmem", value_parser = tmem::parse_fault)]
    pub tmem_fault: Option<EventFault>,
    /// For tests: the guest's driver has memory mapped for the device (VIRTIO_F_ACCESS_PLATFORM).
    #[arg(long, hide = true, requires = "tmem")]
    pub tmem_access_platform: bool,
    /// Record what the guest asks of the pool to this file, which is emptied first: 32 bytes for each run of pages
    /// (tmem-device/src/device/record.rs), until they take 32 MiB. `cargo run -p tmem-device --example eviction` reads it.
    #[arg(long, value_name = "FILE")]
    pub tmem_record: Option<PathBuf>,
    /// Where the guest runs: on this host's KVM, in the lab, or wherever it can.
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,
    /// The lab's clock: real time, or virtual time that repeats to the last digit.
    #[arg(long, value_enum, default_value_t)]
    pub clock: Clock,
    /// Describe devices on the kernel's command line (`virtio_mmio.device=`) instead of by ACPI, for
    /// kernels without it. Power-off then is the i8042's reset.
    #[arg(long)]
    pub no_acpi: bool,
    /// Append a line of JSON with all counters whenever the guest writes a byte to I/O port 0x5d0.
    #[arg(long, value_name = "FILE")]
    pub marks: Option<PathBuf>,
    /// What is left to this process once the guest runs: only the system calls and files that its threads need.
    #[arg(long, value_enum, default_value_t)]
    pub confinement: Confinement,
    /// Take the machine from a TOML file: `[machine] memory, cpus`, `[boot-source] kernel, initrd, cmdline`, `[[disks]] id, path,
    /// cache, readonly`, `[tmem] size, …`, as docs/api.md says.
    #[arg(long, value_name = "FILE",
        conflicts_with_all = ["kernel", "initrd", "cmdline", "mem", "cpus", "disks", "tmem"])]
    pub config: Option<PathBuf>,
    /// Serve the control API (HTTP) on a Unix socket for this user alone. Without a kernel, the machine waits there for its
    /// configuration and its start. docs/api.md has the API; `vtmem ctl` speaks it.
    #[arg(long, value_name = "PATH")]
    pub api_socket: Option<PathBuf>,
    /// For the lab: serve the control API on this character device.
    #[arg(
        long,
        value_name = "DEVICE",
        hide = true,
        conflicts_with = "api_socket"
    )]
    pub api_channel: Option<PathBuf>,
    /// For the lab: all that tmem is to be, in JSON.
    #[arg(long, value_name = "JSON", hide = true, requires = "tmem", value_parser = tmem::parse_settings)]
    pub tmem_settings: Option<TmemSettings>,
}

/// Runs `vtmem run`.
pub fn execute(args: RunArgs) -> Result<ExitCode, CliError> {
    let waits = args.api_socket.is_some() && args.kernel.is_none();
    let mut vm = match &args.config {
        Some(path) => VmConfig::read(path)?,
        None => vm_config(&args),
    };
    check(&args, &vm)?;
    let accel = args.accel.resolve();
    if accel == Accel::Kvm && args.clock == Clock::Virtual {
        return Err("--clock virtual is the lab's, and this guest would run on this host's KVM; say --accel lab".into());
    }
    let host = Host {
        accel,
        clock: args.clock,
        acpi: !args.no_acpi,
        marks: args.marks,
        confinement: args.confinement,
        event_fault: args.tmem_fault.unwrap_or_default(),
        tmem_record: args.tmem_record,
        access_platform: args.tmem_access_platform,
    };
    let source = match (&args.api_socket, &args.api_channel) {
        (Some(path), _) => Some(Source::Socket(Socket::bind(path)?)),
        (None, Some(device)) => {
            let opened = File::options().read(true).write(true).open(device);
            let device = opened.map_err(|error| format!("{}: {error}", device.display()))?;
            Some(Source::Channel(device.into()))
        }
        (None, None) => None,
    };
    if vm.boot_source.is_none() && !waits {
        vm.boot_source = Some(default_guest(&args.cmdline)?);
    }
    controlled::run(&host, vm, source)
}

/// Whether options and machine can be meant at once.
fn check(args: &RunArgs, vm: &VmConfig) -> Result<(), CliError> {
    if args.tmem_record.is_some() && vm.tmem.is_none() && args.api_socket.is_none() {
        return Err(
            "--tmem-record: this machine has no tmem; give --tmem, or [tmem] in --config".into(),
        );
    }
    let marks = args.marks.as_deref();
    let record = args.tmem_record.as_deref();
    let mut written = vec![];
    written.extend(marks.map(|path| FileUse::written("--marks", path)));
    written.extend(record.map(|path| FileUse::written("--tmem-record", path)));
    Ok(vm.check_with(&written)?)
}

/// The guest of `vtmem images`.
fn default_guest(cmdline: &str) -> Result<BootSourceSettings, CliError> {
    let mut progress = TerminalProgress::new();
    let guest = Images::open(Options::default())?.guest(&mut progress)?;
    progress.finish();
    Ok(BootSourceSettings {
        kernel: guest.kernel,
        initrd: Some(guest.initrd),
        cmdline: cmdline.to_owned(),
    })
}

/// What the options say.
fn vm_config(args: &RunArgs) -> VmConfig {
    let given = args.tmem.as_ref().map(TmemSettings::from);
    VmConfig {
        machine: MachineSettings {
            memory: Memory(args.mem),
            cpus: args.cpus,
        },
        boot_source: args.kernel.as_ref().map(|kernel| BootSourceSettings {
            kernel: kernel.clone(),
            initrd: args.initrd.clone(),
            cmdline: args.cmdline.clone(),
        }),
        disks: (0..)
            .zip(&args.disks)
            .map(|(number, disk)| NamedDisk::numbered(number, disk))
            .collect(),
        // What the pool spills to has another name in the lab than outside.
        tmem: match (args.tmem_settings.clone(), given) {
            (Some(settings), Some(given)) => Some(TmemSettings {
                spill: given.spill,
                ..settings
            }),
            (settings, given) => settings.or(given),
        },
    }
}
