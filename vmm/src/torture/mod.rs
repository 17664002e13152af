//! `vtmem torture`: one guest whose page cache and swap are mistreated in every way the kernel knows, over a pool that
//! evicts all the time; every byte is checked in the guest.

pub mod disks;
pub mod guest;
pub mod mutations;
pub mod report;

use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;
use vtmem_images::GuestImage;
use vtmem_workloads::torture_lines::COUNTER_PREFIX;

use crate::accel::Accel;
use crate::compare::stop::Stop;
use disks::Disks;
use report::{Progress, Report};

/// Swap of the guest, in bytes.
const SWAP: u64 = 512 << 20;

/// A file system to torture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FileSystem {
    /// ext4 of pages of 4096 bytes.
    #[default]
    Ext4,
    /// xfs, with large folios.
    Xfs,
}

impl FileSystem {
    /// Its name as mount(8) has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What all operations depend on.
    pub seed: u64,
    /// How long the guest goes on, by its own clock.
    pub seconds: u64,
    /// The file system of its files.
    pub fs: FileSystem,
    /// Its memory in bytes.
    pub mem: u64,
    /// Its vCPUs.
    pub cpus: u8,
    /// The pool in bytes.
    pub pool: u64,
    /// Where it runs, already decided.
    pub accel: Accel,
    /// Whether the driver keeps page cache.
    pub cleancache: bool,
    /// Whether the guest swaps.
    pub swap: bool,
    /// Operations to do instead of random ones.
    pub script: Option<PathBuf>,
    /// How many seconds a task may be blocked before the kernel complains; without, as the kernel is made.
    pub blocked: Option<u32>,
    /// Whether allocations and requests of the driver fail at random; the debug kernel can do that.
    pub faults: bool,
}

impl Settings {
    /// What the guest does.
    fn script(&self) -> String {
        let script = if self.script.is_some() {
            " --script /dev/vdd"
        } else {
            ""
        };
        let blocked = self.blocked.map_or_else(String::new, |seconds| {
            format!("echo {seconds} >/proc/sys/kernel/hung_task_timeout_secs\n")
        });
        format!(
            "{blocked}vtmem-work torture --dir /data/torture --volume /data --seconds {} --seed {} --mem {} --faults {}{script}\n\
             status=$?\n\
             grep . /sys/kernel/debug/virtio_tmem/puts /sys/kernel/debug/virtio_tmem/hits | sed 's/^.*virtio_tmem./{}/'\n\
             exit $status\n",
            self.seconds, self.seed, self.mem, self.faults, COUNTER_PREFIX,
        )
    }

    fn command(&self, guest: &GuestImage, disks: &Disks) -> std::io::Result<Command> {
        let mut command = guest::command(guest, self.accel, self.mem, self.cpus)?;
        command
            .args(["--tmem", &format!("size={}", self.pool)])
            .arg("--cmdline")
            .arg(format!(
                "console=ttyS0 quiet log_buf_len=1M panic=-1 oops=panic vtmem.tmem=1 \
                 vtmem.tmem_args=\"admission=always cleancache={}\" vtmem.data=/dev/vda vtmem.fs={} vtmem.swap={} \
                 vtmem.exec=\"sh /dev/vdc\"",
                if self.cleancache { "Y" } else { "N" },
                self.fs.name(),
                if self.swap { "/dev/vdb" } else { "none" }
            ));
        for disk in disks.options() {
            command.arg("--disk").arg(disk);
        }
        Ok(command)
    }
}

/// Runs a guest to its end.
///
/// # Errors
/// Something that this host lacks, in one line; whatever befalls the guest is in the report.
pub fn run(
    settings: &Settings,
    guest: &GuestImage,
    stop: &Stop,
    mut progress: impl FnMut(&Progress),
) -> Result<Report, String> {
    let disks = Disks::create(
        settings.fs,
        SWAP,
        &settings.script(),
        settings.script.as_deref(),
    )?;
    let mut command = settings
        .command(guest, &disks)
        .map_err(|error| format!("this program's own path: {error}"))?;
    let mut report = Report::default();
    let (status, said) = guest::follow(&mut command, stop, |line| {
        if let Some(now) = report.line(line) {
            progress(&now);
        }
    })?;
    report.end(status, &said);
    Ok(report)
}
