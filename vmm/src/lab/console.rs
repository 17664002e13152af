//! The emulated host's own console: whether it is ready for its job, and what it said last.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, PipeReader, Read as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What images/lab/init says right before it starts the job.
const READY: &str = "vtmem-lab: ready";
/// Lines that are kept.
const LINES: usize = 12;
/// What the kernel says at its end; what follows may be more lines than are kept.
const PANIC: &str = "Kernel panic";
/// Bytes of a line that are looked at; longer ones are cut into several.
const LINE_BYTES: u64 = 1024;

/// How far an emulated host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// On its way.
    Booting,
    /// The job runs, or has run.
    Ready,
    /// Its console has ended, and it never was ready.
    Ended,
}

#[derive(Debug)]
struct State {
    stage: Stage,
    panic: Option<String>,
    lines: VecDeque<String>,
}

/// A console that is being read.
#[derive(Clone, Debug)]
pub struct Console {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Console {
    /// Reads `line` until its end, on a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub fn read(line: PipeReader) -> io::Result<Self> {
        let state = State {
            stage: Stage::Booting,
            panic: None,
            lines: VecDeque::new(),
        };
        let console = Console {
            shared: Arc::new((Mutex::new(state), Condvar::new())),
        };
        let reader = console.clone();
        thread::Builder::new()
            .name("lab console".into())
            .spawn(move || reader.follow(BufReader::new(line)))?;
        Ok(console)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, mut from: BufReader<PipeReader>) {
        let mut bytes = vec![];
        while let Ok(1..) = from.by_ref().take(LINE_BYTES).read_until(b'\n', &mut bytes) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            tracing::debug!(line, "lab console");
            let mut state = self.state();
            if line == READY {
                state.stage = Stage::Ready;
                self.shared.1.notify_all();
                continue;
            }
            if line.contains(PANIC) && state.panic.is_none() {
                state.panic = Some(line);
                continue;
            }
            if state.lines.len() == LINES {
                state.lines.pop_front();
            }
            state.lines.push_back(line);
        }
        let mut state = self.state();
        if state.stage == Stage::Booting {
            state.stage = Stage::Ended;
        }
        self.shared.1.notify_all();
    }

    /// How far the host is now.
    pub fn stage(&self) -> Stage {
        self.state().stage
    }

    /// Waits for another stage than [`Stage::Booting`], but no longer than `limit`.
    pub fn wait(&self, limit: Duration) -> Stage {
        let deadline = Instant::now() + limit;
        let mut state = self.state();
        while state.stage == Stage::Booting {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.1.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.stage
    }

    /// The kernel's last words, if it said any, and the last lines.
    pub fn last_lines(&self) -> Vec<String> {
        let state = self.state();
        state.panic.iter().chain(&state.lines).cloned().collect()
    }
}

#[cfg(test)]
#[path = "console_test.rs"]
mod tests;
