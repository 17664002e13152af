//! SIGHUP, SIGINT and SIGTERM of this process, for the lab and its job.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::console::{Console, Stage};
use super::process::Process;
use super::streams::join;

/// How long a job has to end after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// What to do about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Tell the job, and end QEMU if that does not help.
    PassOn,
    /// End QEMU.
    Kill,
}

/// The first signal is the job's, once there is one; whoever repeats it means it.
fn answer(first: bool, stage: Stage, job_listens: bool) -> Answer {
    if first && job_listens && stage == Stage::Ready {
        Answer::PassOn
    } else {
        Answer::Kill
    }
}

/// Hears signals while it lives.
#[derive(Debug)]
pub struct SignalWatch {
    heard: Arc<AtomicI32>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalWatch {
    /// Signals go to the job by the serial line `line` if `to_job`, and otherwise end QEMU.
    ///
    /// # Errors
    /// Handlers or a thread cannot be had.
    pub fn start(
        process: Arc<Process>,
        console: Console,
        mut line: UnixStream,
        to_job: bool,
    ) -> io::Result<Self> {
        let heard = Arc::new(AtomicI32::new(0));
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let seen = heard.clone();
        let hear = move |signal: i32| {
            let first = seen.swap(signal, Ordering::SeqCst) == 0;
            let told = answer(first, console.stage(), to_job) == Answer::PassOn
                && writeln!(line, "{signal}").is_ok();
            if told {
                kill_later(process.clone());
            } else {
                process.kill();
            }
        };
        let thread = thread::Builder::new()
            .name("lab signals".into())
            .spawn(move || signals.forever().for_each(hear))?;
        Ok(SignalWatch {
            heard,
            handle,
            thread: Some(thread),
        })
    }

    /// The last signal.
    pub fn signal(&self) -> Option<i32> {
        Some(self.heard.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
    }
}

/// Ends QEMU after [`GRACE`], unless it has ended by then.
fn kill_later(process: Arc<Process>) {
    let later = move || {
        thread::sleep(GRACE);
        process.kill();
    };
    if let Err(error) = thread::Builder::new().spawn(later) {
        tracing::warn!(%error, "no thread to end the lab with; a second signal ends it");
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
mod tests {
    use super::*;

    #[test]
    fn only_a_running_job_is_asked_and_only_once() {
        assert_eq!(answer(true, Stage::Ready, true), Answer::PassOn);
        for (first, stage, listens) in [
            (false, Stage::Ready, true),
            (true, Stage::Booting, true),
            (true, Stage::Ended, true),
            (true, Stage::Ready, false),
        ] {
            assert_eq!(answer(first, stage, listens), Answer::Kill);
        }
    }
}
