//! One run of a lab: its streams, signals, end, and what it leaves.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use vtmem_images::{LabImage, cpio, find_program};

use super::archive::{Connection, Job};
use super::config::LabConfig;
use super::qemu::{self, Files, OUTPUT_BYTES, PROGRAM, SerialLines};
use crate::accel::Clock;
use crate::devices::terminal::{self, RawMode};

/// How long a job has to end after a signal.
const GRACE: Duration = Duration::from_secs(10);
/// Lines of the emulated host's console that an error shows.
const CONSOLE_LINES: usize = 12;

/// What keeps a lab from running, or from running to its end.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// QEMU is not installed.
    #[error("{program} is not installed; run: sudo apt-get install --no-install-recommends {package}", program = PROGRAM.0, package = PROGRAM.1)]
    NoEmulator,
    /// This host refused something.
    #[error("cannot {what} for the lab: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The emulated host ended without saying how the job did.
    #[error("the lab ended before its job did ({status}){said}")]
    Died {
        /// QEMU's exit status.
        status: ExitStatus,
        /// What QEMU and the emulated host said last, on lines of their own.
        said: String,
    },
    /// A signal stopped it.
    #[error("stopped by signal {0}")]
    Stopped(i32),
}

fn host<T>(what: &'static str, result: io::Result<T>) -> Result<T, LabError> {
    result.map_err(|source| LabError::Host { what, source })
}

/// One of the job's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a job left.
#[derive(Clone, Debug)]
pub struct LabOutcome {
    /// Its exit status, or 128 + the signal that ended it.
    pub status: u8,
    /// Output files by absolute path.
    pub outputs: BTreeMap<String, Vec<u8>>,
}

/// A lab that can run jobs, one at a time or several at once, each on a fresh host.
#[derive(Clone, Debug)]
pub struct Lab {
    image: LabImage,
    config: LabConfig,
    emulator: PathBuf,
    environment: Vec<(String, String)>,
}

impl Lab {
    /// A lab of this configuration.
    ///
    /// # Errors
    /// There is no QEMU.
    pub fn new(image: &LabImage, config: LabConfig) -> Result<Self, LabError> {
        Ok(Lab {
            image: image.clone(),
            config,
            emulator: find_program(PROGRAM.0).ok_or(LabError::NoEmulator)?,
            environment: std::env::var("VTMEM_LOG")
                .map(|value| ("VTMEM_LOG".to_owned(), value))
                .into_iter()
                .collect(),
        })
    }

    /// Runs `argv` (a shell when empty) inside, connected to this process's own streams: as a terminal
    /// if they are one. SIGINT, SIGTERM and SIGHUP go to the job, which has ten seconds to end then.
    ///
    /// # Errors
    /// Anything that keeps the lab from running to its end; what the job does is in the outcome.
    pub fn run_attached(&self, argv: &[String]) -> Result<LabOutcome, LabError> {
        let size = (self.config.clock == Clock::Real)
            .then(terminal::size)
            .flatten();
        let connection = match size {
            Some((rows, columns)) => Connection::Terminal { rows, columns },
            // What arrives when would differ from run to run.
            None if self.config.clock == Clock::Virtual => Connection::NoInput,
            None => Connection::Streams,
        };
        let mut run = Running::start(self, argv, connection, true)?;
        let raw_mode = match connection {
            Connection::Terminal { .. } => host("set the terminal up", RawMode::enter())?,
            _ => None,
        };
        if connection != Connection::NoInput {
            let stdio = host("connect standard input", run.stdio.try_clone())?;
            // Ends with the process: a read of a terminal cannot be taken back.
            thread::spawn(move || feed(stdio, connection));
        }
        let errors = host("connect standard error", run.stderr.try_clone())?;
        let errors = thread::spawn(move || copy(errors, &mut io::stderr()));
        let output = host("connect standard output", run.stdio.try_clone())?;
        copy(output, &mut io::stdout());
        join(errors);
        drop(raw_mode);
        run.finish()
    }

    /// Runs `argv` inside without input, and gives its output to `on_line` as it comes. SIGINT, SIGTERM and
    /// SIGHUP end the lab at once.
    ///
    /// # Errors
    /// As for [`Lab::run_attached`].
    pub fn run_captured(
        &self,
        argv: &[String],
        on_line: &mut dyn FnMut(Stream, &str),
    ) -> Result<LabOutcome, LabError> {
        let mut run = Running::start(self, argv, Connection::NoInput, false)?;
        let (sender, lines) = mpsc::channel();
        let readers = [
            (Stream::Stdout, run.stdio.try_clone()),
            (Stream::Stderr, run.stderr.try_clone()),
        ]
        .map(|(stream, from)| {
            let from = host("connect the job's output", from)?;
            let sender = sender.clone();
            Ok(thread::spawn(move || split_lines(from, stream, &sender)))
        });
        drop(sender);
        for (stream, line) in lines {
            on_line(stream, &line);
        }
        for reader in readers {
            join(reader?);
        }
        run.finish()
    }
}

/// Passes bytes on until the lab ends. A reader of ours that went away does not stop the job.
fn copy(mut from: UnixStream, to: &mut dyn io::Write) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let _ = to.write_all(&buffer[..count]).and_then(|()| to.flush());
    }
}

/// Feeds standard input to the job; its end is what a terminal's end of file is.
fn feed(mut to: UnixStream, connection: Connection) {
    const END_OF_FILE: u8 = 4;
    let mut buffer = [0; 4096];
    loop {
        match io::stdin().read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) if to.write_all(&buffer[..count]).is_err() => return,
            Ok(_) => {}
        }
    }
    if connection == Connection::Streams {
        // The lab may be gone by now.
        let _ = to.write_all(&[END_OF_FILE]);
    }
}

fn split_lines(from: UnixStream, stream: Stream, to: &mpsc::Sender<(Stream, String)>) {
    let mut from = BufReader::new(from);
    let mut line = vec![];
    while let Ok(1..) = from.read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        if to.send((stream, text)).is_err() {
            return;
        }
        line.clear();
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the lab panicked");
    }
}

/// A QEMU under way.
struct Running {
    directory: tempfile::TempDir,
    process: Arc<Process>,
    stdio: UnixStream,
    stderr: UnixStream,
    watch: SignalWatch,
}

/// The child, which whoever hears a signal may kill.
struct Process {
    child: Mutex<Child>,
    ended: AtomicBool,
}

impl Process {
    fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Fails when it has ended by itself.
        let _ = child.kill();
    }
}

impl Running {
    fn start(
        lab: &Lab,
        argv: &[String],
        connection: Connection,
        pass_signals: bool,
    ) -> Result<Self, LabError> {
        let directory = host(
            "make a directory",
            tempfile::Builder::new().prefix("vtmem-lab-").tempdir(),
        )?;
        let path = |name: &str| directory.path().join(name);
        let (initrd, output, console) = (path("initrd"), path("output"), path("console"));
        let job = Job {
            config: &lab.config,
            argv,
            environment: &lab.environment,
            connection,
        };
        let program = host("find this program", std::env::current_exe())?;
        let written = job.write(&lab.image.initrd, &program, &initrd);
        host("write the root file system", written)?;
        let sized = File::create(&output).and_then(|file| file.set_len(OUTPUT_BYTES));
        host("make the output disk", sized)?;
        let log = host("make the log", File::create(path("log")))?;

        let (stdio, far_stdio) = host("make a serial line", UnixStream::pair())?;
        let (stderr, far_stderr) = host("make a serial line", UnixStream::pair())?;
        let (signals, far_signals) = host("make a serial line", UnixStream::pair())?;
        let lines = SerialLines {
            stdio: far_stdio.into(),
            stderr: far_stderr.into(),
            signals: far_signals.into(),
        };
        let files = Files {
            image: &lab.image,
            initrd: &initrd,
            output: &output,
            console: &console,
        };
        let child = qemu::spawn(&lab.emulator, &lab.config, &files, lines, Stdio::from(log));
        let process = Arc::new(Process {
            child: Mutex::new(host("start QEMU", child)?),
            ended: AtomicBool::new(false),
        });
        let to_job = pass_signals.then_some(signals);
        let watch = host(
            "watch for signals",
            SignalWatch::start(process.clone(), to_job),
        )?;
        Ok(Running {
            directory,
            process,
            stdio,
            stderr,
            watch,
        })
    }

    /// Waits for QEMU, whose streams have ended, and reads what the job left.
    fn finish(&mut self) -> Result<LabOutcome, LabError> {
        let status = loop {
            // Not waited for under the lock: a signal may have to kill it.
            let mut child = self
                .process
                .child
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = host("wait for QEMU", child.try_wait())? {
                break status;
            }
            drop(child);
            thread::sleep(Duration::from_millis(5));
        };
        self.process.ended.store(true, Ordering::Release);
        match read_outcome(&self.directory.path().join("output")) {
            Some(outcome) => Ok(outcome),
            None => match self.watch.signal() {
                Some(signal) => Err(LabError::Stopped(signal)),
                None => Err(LabError::Died {
                    status,
                    said: self.last_words(),
                }),
            },
        }
    }

    fn last_words(&self) -> String {
        let mut said = String::new();
        for name in ["log", "console"] {
            let bytes = fs::read(self.directory.path().join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(CONSOLE_LINES)..] {
                said += &format!("\n  {}", line.trim_end());
            }
        }
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.process.ended.load(Ordering::Acquire) {
            self.process.kill();
            let mut child = self
                .process
                .child
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            // Killed, so this does not wait for long.
            let _ = child.wait();
            self.process.ended.store(true, Ordering::Release);
        }
        let _ = self.stdio.shutdown(Shutdown::Both);
    }
}

/// Status and files, as images/lab/init archives them; `None` when it did not get that far.
fn read_outcome(output: &Path) -> Option<LabOutcome> {
    const STATUS: &str = "lab/status";
    let bytes = fs::read(output).ok()?;
    let mut status = None;
    let mut outputs = BTreeMap::new();
    for member in cpio::read(&bytes).ok()? {
        if member.path == STATUS {
            status = std::str::from_utf8(member.data).ok()?.trim().parse().ok();
        } else {
            outputs.insert(format!("/{}", member.path), member.data.to_vec());
        }
    }
    Some(LabOutcome {
        status: status?,
        outputs,
    })
}

/// Hears signals while it lives.
struct SignalWatch {
    heard: Arc<AtomicI32>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalWatch {
    /// Signals go to the job by `to_job`, or without it end QEMU at once; so does a second one.
    fn start(process: Arc<Process>, mut to_job: Option<UnixStream>) -> io::Result<Self> {
        let heard = Arc::new(AtomicI32::new(0));
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let seen = heard.clone();
        let thread = thread::Builder::new()
            .name("lab signals".into())
            .spawn(move || {
                for signal in signals.forever() {
                    let first = seen.swap(signal, Ordering::SeqCst) == 0;
                    let passed_on = first
                        && to_job
                            .as_mut()
                            .is_some_and(|line| writeln!(line, "{signal}").is_ok());
                    if !passed_on {
                        process.kill();
                        continue;
                    }
                    let process = process.clone();
                    thread::spawn(move || {
                        thread::sleep(GRACE);
                        if !process.ended.load(Ordering::Acquire) {
                            process.kill();
                        }
                    });
                }
            })?;
        Ok(SignalWatch {
            heard,
            handle,
            thread: Some(thread),
        })
    }

    fn signal(&self) -> Option<i32> {
        Some(self.heard.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            join(thread);
        }
    }
}

#[cfg(test)]
#[path = "session_test.rs"]
mod tests;
