//! Jobs in a lab, connected to this process's streams or to a caller.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use indicatif::ProgressBar;
use tracing::level_filters::LevelFilter;
use vtmem_images::{LabImage, find_program};

use super::archive::Connection;
use super::config::LabConfig;
use super::error::{LabError, host};
use super::outcome::LabOutcome;
use super::qemu::PROGRAM;
use super::running::Running;
use super::streams::{Stream, copy, end_input, feed, join, split_lines};
use crate::accel::Clock;
use crate::devices::terminal::{self, RawMode};

/// The variable that says how much is logged.
const LOG_VARIABLE: &str = "VTMEM_LOG";

/// A lab that can run jobs, one at a time or several at once, each on a fresh host.
#[derive(Clone, Debug)]
pub struct Lab {
    pub(super) image: LabImage,
    pub(super) config: LabConfig,
    pub(super) emulator: PathBuf,
    /// For every job.
    pub(super) environment: Vec<(String, String)>,
}

impl Lab {
    /// A lab of this configuration.
    ///
    /// # Errors
    /// The configuration describes none; there is no QEMU.
    pub fn new(image: &LabImage, config: LabConfig) -> Result<Self, LabError> {
        config.check()?;
        Ok(Lab {
            image: image.clone(),
            config,
            emulator: find_program(PROGRAM.0).ok_or(LabError::NoEmulator)?,
            environment: log_level().into_iter().collect(),
        })
    }

    /// Runs `argv` (a shell when empty) inside, connected to this process's own streams: as a terminal
    /// if they are one. Otherwise the job has an empty standard input under the virtual clock: what
    /// arrives when would differ from run to run. SIGINT, SIGTERM and SIGHUP go to the job, which then has
    /// ten seconds to end.
    ///
    /// # Errors
    /// Anything that keeps the lab from running to its end; what the job does is in the outcome.
    pub fn run_attached(&self, argv: &[String]) -> Result<LabOutcome, LabError> {
        let connection = match (terminal::size(), self.config.clock) {
            (Some((rows, columns)), _) => Connection::Terminal { rows, columns },
            (None, Clock::Real) => Connection::Streams,
            (None, Clock::Virtual) => Connection::NoInput,
        };
        let spinner = spinner();
        let (mut run, streams) = Running::start(self, argv, connection, true)?;
        run.wait_ready()?;
        spinner.finish_and_clear();
        let is_terminal = matches!(connection, Connection::Terminal { .. });
        let raw_mode = if is_terminal {
            host("set the terminal up", RawMode::enter())?
        } else {
            None
        };
        if let Some(input) = streams.input {
            // Ends with the process: a read of a terminal cannot be taken back.
            thread::spawn(move || {
                feed(&input);
                if !is_terminal {
                    end_input(&input);
                }
            });
        }
        let errors = thread::spawn(move || copy(streams.errors, &mut io::stderr()));
        copy(streams.output, &mut io::stdout());
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
        let (mut run, streams) = Running::start(self, argv, Connection::NoInput, false)?;
        run.wait_ready()?;
        let (sender, lines) = mpsc::channel();
        let readers = [
            (Stream::Stdout, streams.output),
            (Stream::Stderr, Box::new(streams.errors)),
        ]
        .map(|(stream, from)| {
            let sender = sender.clone();
            thread::spawn(move || split_lines(from, stream, &sender))
        });
        drop(sender);
        for (stream, line) in lines {
            on_line(stream, &line);
        }
        readers.into_iter().for_each(join);
        run.finish()
    }
}

/// How much is logged here, as a variable for inside.
fn log_level() -> Option<(String, String)> {
    let level = std::env::var(LOG_VARIABLE).ok().or_else(|| {
        let level = LevelFilter::current();
        (level > LevelFilter::WARN).then(|| level.to_string())
    });
    level.map(|level| (LOG_VARIABLE.to_owned(), level))
}

/// Says on a terminal what takes seconds.
fn spinner() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message("starting the lab");
    spinner.enable_steady_tick(std::time::Duration::from_millis(120));
    spinner
}
