//! One run of a lab, from its files to its outcome.

use std::fs::File;
use std::io::{self, PipeReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::archive::{Connection, Job};
use super::config::length;
use super::console::{Console, Stage};
use super::error::{LabError, host};
use super::outcome::{LabOutcome, OutcomeFile};
use super::process::Process;
use super::qemu::{self, Line, MEMORY_DISK_UNIT, MemoryDisk, Plumbing};
use super::session::Lab;
use super::signals::SignalWatch;
use super::streams::wide_pipe;
use crate::accel::Clock;

/// This program, even if its file has been replaced since.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// How long an emulated host may take until its job starts. Seconds are usual; a busy machine and large
/// disks take longer.
const BOOT_LIMIT: Duration = Duration::from_secs(600);
/// Bytes of QEMU's own messages that an error shows.
const LOG_BYTES: u64 = 4096;

/// A QEMU under way; dropped, it is killed.
pub struct Running {
    process: Arc<Process>,
    console: Console,
    watch: SignalWatch,
    outcome: OutcomeFile,
    log: File,
    /// Open until the end, after which QEMU would drop what it has not passed on.
    _input: Option<UnixStream>,
}

/// The job's streams.
pub struct Streams {
    /// Its input, unless that is empty.
    pub input: Option<UnixStream>,
    /// Its output.
    pub output: Box<dyn io::Read + Send>,
    /// Its error output; on a terminal nothing.
    pub errors: PipeReader,
}

impl Running {
    /// Starts QEMU, from the thread that is going to wait for it: QEMU ends with that thread. Signals are
    /// the job's if `pass_signals`; otherwise they end the lab.
    ///
    /// # Errors
    /// A file or a process that this host refuses.
    pub fn start(
        lab: &Lab,
        argv: &[String],
        connection: Connection,
        pass_signals: bool,
    ) -> Result<(Self, Streams), LabError> {
        let job = Job {
            config: &lab.config,
            argv,
            environment: &lab.environment,
            connection,
        };
        let initrd = host("make a temporary file", tempfile::tempfile())?;
        let written = job.write(&lab.image.initrd, Path::new(OWN_PROGRAM), &initrd);
        host("write the root file system", written)?;
        let outcome = OutcomeFile::create()?;
        let mut memory_disks = vec![];
        for disk in &lab.config.null_disks {
            if let Some(image) = &disk.image {
                memory_disks.push(host("open a disk's image", image_disk(image))?);
            }
        }
        let (file, bytes) = outcome.share()?;
        memory_disks.push(MemoryDisk {
            file: file.into(),
            bytes,
            readonly: false,
        });

        let pair = || host("make a serial line", UnixStream::pair());
        let pipe = || host("make a serial line", wide_pipe());
        let (console, far_console) = pipe()?;
        let (errors, far_errors) = pipe()?;
        let (signals, far_signals) = pair()?;
        let mut far_stdin = None;
        let (input, output, far_stdio): (_, Box<dyn io::Read + Send>, _) = match connection {
            Connection::Terminal { .. } => {
                let (near, far) = pair()?;
                let output = host("share a serial line", near.try_clone())?;
                (Some(near), Box::new(output), Line::Both(far.into()))
            }
            Connection::Streams => {
                let (near, far) = pair()?;
                far_stdin = Some(Line::Both(far.into()));
                let (output, far) = pipe()?;
                (Some(near), Box::new(output), Line::Out(far.into()))
            }
            Connection::NoInput => {
                let (output, far) = pipe()?;
                (None, Box::new(output), Line::Out(far.into()))
            }
        };
        let preload = match lab.config.clock {
            Clock::Virtual => {
                Some(host("open the lab's clock", File::open(&lab.image.clock))?.into())
            }
            Clock::Real => None,
        };
        let channel = lab.config.channel.as_ref();
        let channel = channel.map(|line| line.try_clone()).transpose();
        let channel = host("share a line", channel)?;
        let plumbing = Plumbing {
            stdio: far_stdio,
            console: Line::Out(far_console.into()),
            stderr: Line::Out(far_errors.into()),
            signals: Line::Both(far_signals.into()),
            stdin: far_stdin,
            channel: channel.map(|line| Line::Both(line.into())),
            initrd: initrd.into(),
            preload,
            memory_disks,
        };
        let kept = input.as_ref().map(UnixStream::try_clone).transpose();
        let _input = host("share a serial line", kept)?;
        let log = host("make a temporary file", tempfile::tempfile())?;
        let to_log = Stdio::from(host("share a file", log.try_clone())?);
        let console = host("start a thread", Console::read(console))?;
        let kernel = &lab.image.kernel;
        let child = qemu::spawn(&lab.emulator, &lab.config, kernel, plumbing, to_log);
        let process = Arc::new(Process::new(host("start QEMU", child)?));
        let watch = SignalWatch::start(process.clone(), console.clone(), signals, pass_signals);
        let watch = host("watch for signals", watch).inspect_err(|_| process.kill())?;
        let running = Running {
            process,
            console,
            watch,
            outcome,
            log,
            _input,
        };
        let streams = Streams {
            input,
            output,
            errors,
        };
        Ok((running, streams))
    }

    /// Waits until the job starts, or never will: then [`Running::finish`] tells why.
    ///
    /// # Errors
    /// The time for that is over.
    pub fn wait_ready(&mut self) -> Result<(), LabError> {
        match self.console.wait(BOOT_LIMIT) {
            Stage::Booting => Err(LabError::NotReady {
                limit: BOOT_LIMIT,
                said: self.last_words(),
            }),
            Stage::Ready | Stage::Ended => Ok(()),
        }
    }

    /// Waits for QEMU, whose streams have ended, and reads what the job left.
    ///
    /// # Errors
    /// The job left nothing: it was stopped, or the emulated host died.
    pub fn finish(mut self) -> Result<LabOutcome, LabError> {
        let status = host("wait for QEMU", self.process.wait())?;
        self.outcome.read().ok_or_else(|| self.no_outcome(status))
    }

    fn no_outcome(&mut self, status: ExitStatus) -> LabError {
        match self.watch.signal() {
            Some(signal) => LabError::Stopped(signal),
            None => LabError::Died {
                status,
                said: self.last_words(),
            },
        }
    }

    fn last_words(&mut self) -> String {
        let mut log = vec![];
        // Without it there is the console still.
        let _ = read_start(&mut self.log, &mut log);
        let log = String::from_utf8_lossy(&log).into_owned();
        let console = self.console.last_lines();
        let lines = log.lines().chain(console.iter().map(String::as_str));
        lines
            .map(|line| format!("\n  {}", line.trim_end()))
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill();
        // Killed or ended, so this does not wait for long; an error means that nobody is left.
        let _ = self.process.wait();
    }
}

fn read_start(log: &mut File, to: &mut Vec<u8>) -> io::Result<usize> {
    log.seek(SeekFrom::Start(0))?;
    log.take(LOG_BYTES).read_to_end(to)
}

/// A disk's image as a file to map; a copy with zeros at its end if its size cannot be mapped.
fn image_disk(image: &Path) -> io::Result<MemoryDisk> {
    let about =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", image.display()));
    let mut file = File::open(image).map_err(about)?;
    let bytes = length(image).map_err(about)?;
    let whole = bytes
        .next_multiple_of(MEMORY_DISK_UNIT)
        .max(MEMORY_DISK_UNIT);
    if bytes != whole {
        let mut copy = tempfile::tempfile()?;
        io::copy(&mut file, &mut copy).map_err(about)?;
        copy.set_len(whole)?;
        file = copy;
    }
    Ok(MemoryDisk {
        file: file.into(),
        bytes: whole,
        readonly: true,
    })
}

#[cfg(test)]
#[path = "running_test.rs"]
mod tests;
