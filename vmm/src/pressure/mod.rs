//! `vtmem pressure`: a guest that is short of memory in every way, with its swap in tmem, and the same guest with a plain swap disk
//! beside it. What befalls the first and not the second is tmem's fault.

pub mod report;
pub mod verdict;

use std::process::Command;

use vtmem_images::GuestImage;
use vtmem_workloads::pressure_lines::Kind;
use vtmem_workloads::torture_lines::COUNTER_PREFIX;

use crate::accel::Accel;
use crate::compare::stop::Stop;
use crate::torture::disks::Disks;
use crate::torture::{FileSystem, guest};
use report::Report;

/// Swap for each byte of memory: enough for all kinds together, so that nothing has to be killed.
const SWAP: u64 = 4;

/// Where a guest's swap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In tmem, and its page cache too; what the host refuses on the disk below.
    Tmem,
    /// On the disk. No driver is loaded.
    Disk,
}

impl Mode {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tmem => "tmem",
            Self::Disk => "disk",
        }
    }
}

/// One run, of either mode.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What contents depend on.
    pub seed: u64,
    /// How long rounds go on, by the guest's clock; there is one of each kind at least.
    pub seconds: u64,
    /// Which kinds of pressure.
    pub kinds: Vec<Kind>,
    /// The file system of the guest's file.
    pub fs: FileSystem,
    /// The guest's memory in bytes.
    pub mem: u64,
    /// Its vCPUs.
    pub cpus: u8,
    /// The pool in bytes.
    pub pool: u64,
    /// Where it runs, already decided.
    pub accel: Accel,
}

impl Settings {
    fn script(&self, mode: Mode) -> String {
        let swap = match mode {
            Mode::Tmem => "/dev/vtmemswap0",
            Mode::Disk => "/dev/vdb",
        };
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        format!(
            "vtmem-work pressure --dir /data/pressure --swap {swap} --seconds {} --seed {} --mem {} --kinds {}\n\
             status=$?\n\
             cd /sys/kernel/debug/virtio_tmem 2>/dev/null &&\n\
             grep . puts hits swap_deferred swap_stores_lower | sed 's/^/{COUNTER_PREFIX}/'\n\
             exit $status\n",
            self.seconds,
            self.seed,
            self.mem,
            kinds.join(",")
        )
    }

    fn command(&self, mode: Mode, image: &GuestImage, disks: &Disks) -> std::io::Result<Command> {
        let mut command = guest::command(image, self.accel, self.mem, self.cpus)?;
        let mut cmdline = format!(
            "console=ttyS0 quiet log_buf_len=1M panic=-1 oops=panic vtmem.data=/dev/vda vtmem.fs={} \
             vtmem.swap=/dev/vdb vtmem.exec=\"sh /dev/vdc\"",
            self.fs.name()
        );
        if mode == Mode::Tmem {
            command.args(["--tmem", &format!("size={}", self.pool)]);
            cmdline.push_str(" vtmem.tmem=1");
        }
        command.arg("--cmdline").arg(cmdline);
        for disk in disks.options() {
            command.arg("--disk").arg(disk);
        }
        Ok(command)
    }
}

/// Runs a guest to its end; `progress` hears of each round.
///
/// # Errors
/// Something that this host lacks, in one line; whatever befalls the guest is in the report.
pub fn run(
    settings: &Settings,
    mode: Mode,
    image: &GuestImage,
    stop: &Stop,
    mut progress: impl FnMut(Kind, &Report),
) -> Result<Report, String> {
    let disks = Disks::create(
        settings.fs,
        settings.mem * SWAP,
        &settings.script(mode),
        None,
    )?;
    let mut command = settings
        .command(mode, image, &disks)
        .map_err(|error| format!("this program's own path: {error}"))?;
    let mut report = Report::default();
    let (status, said) = guest::follow(&mut command, stop, |line| {
        if let Some(kind) = report.line(line) {
            progress(kind, &report);
        }
    })?;
    report.end(status, &said);
    Ok(report)
}
