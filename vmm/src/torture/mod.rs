//! `vtmem torture`: one guest whose page cache and swap are mistreated in every way the kernel knows, over a pool that
//! evicts all the time; every byte is checked in the guest.

pub mod disks;
pub mod mutations;
pub mod report;

use std::io::{BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use clap::ValueEnum;
use vtmem_images::GuestImage;
use vtmem_workloads::torture_lines::COUNTER_PREFIX;

use crate::accel::Accel;
use crate::compare::stop::Stop;
use disks::Disks;
use report::{Progress, Report};

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
    /// Operations to do instead of random ones.
    pub script: Option<PathBuf>,
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
        format!(
            "vtmem-work torture --dir /data/torture --volume /data --seconds {} --seed {} --mem {} --faults {}{script}\n\
             status=$?\n\
             grep . /sys/kernel/debug/virtio_tmem/puts /sys/kernel/debug/virtio_tmem/hits | sed 's/^.*virtio_tmem./{}/'\n\
             exit $status\n",
            self.seconds, self.seed, self.mem, self.faults, COUNTER_PREFIX,
        )
    }

    fn command(&self, guest: &GuestImage, disks: &Disks) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        let accel = if self.accel == Accel::Lab {
            "lab"
        } else {
            "kvm"
        };
        command
            .args(["run", "--accel", accel, "--clock", "real"])
            .arg("--kernel")
            .arg(&guest.kernel)
            .arg("--initrd")
            .arg(&guest.initrd)
            .args(["--mem", &self.mem.to_string()])
            .args(["--cpus", &self.cpus.to_string()])
            .args(["--tmem", &format!("size={}", self.pool)])
            .arg("--cmdline")
            .arg(format!(
                "console=ttyS0 quiet log_buf_len=1M panic=-1 oops=panic vtmem.tmem=1 \
                 vtmem.tmem_args=\"admission=always\" vtmem.data=/dev/vda vtmem.fs={} vtmem.swap=/dev/vdb \
                 vtmem.exec=\"sh /dev/vdc\"",
                self.fs.name()
            ));
        for disk in disks.options() {
            command.arg("--disk").arg(disk);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
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
    let disks = Disks::create(settings.fs, &settings.script(), settings.script.as_deref())?;
    let mut command = settings
        .command(guest, &disks)
        .map_err(|error| format!("this program's own path: {error}"))?;
    let child = stop
        .spawn(&mut command)
        .map_err(|error| format!("cannot start a guest: {error}"))?;
    let stderr = child.with(|child| child.stderr.take());
    let stderr = thread::spawn(move || {
        let mut text = String::new();
        // What is not text says nothing.
        let _ = stderr.map(|mut pipe| pipe.read_to_string(&mut text));
        text
    });
    let mut report = Report::default();
    if let Some(console) = child.with(|child| child.stdout.take()) {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if let Some(now) = report.line(String::from_utf8_lossy(&line).trim()) {
                progress(&now);
            }
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for a guest: {error}"))?;
    report.end(status.code(), &stderr.join().unwrap_or_default());
    Ok(report)
}
