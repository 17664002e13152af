//! The machine that the governor watches: Linux, by `/proc` and cgroups.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::cgroup::Cgroup;
use super::meminfo::Meminfo;
use super::psi::Psi;
use super::sample::Sample;
use super::{Source, Wake};

/// Where a machine is looked at.
const PROC: &str = "/proc";

/// This machine.
pub struct Machine {
    meminfo: Option<Meminfo>,
    psi: Option<Psi>,
    cgroup: Option<Cgroup>,
    triggered: bool,
    stop: Arc<OwnedFd>,
    lacks: Vec<String>,
}

/// Ends the wait of a [`Machine`].
pub struct Stop(Arc<OwnedFd>);

impl Machine {
    /// Looks for what this machine has to tell.
    ///
    /// # Errors
    /// The process may not have another file.
    pub fn new() -> io::Result<(Self, Stop)> {
        Self::seen_at(Path::new(PROC))
    }

    /// The same, `proc` being where /proc should be.
    fn seen_at(proc: &Path) -> io::Result<(Self, Stop)> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let mut lacks = Vec::new();
        let psi = Psi::open(proc)
            .map_err(|error| {
                lacks.push(no_pressure(&proc.join("self").try_exists(), &error));
            })
            .ok();
        if psi.as_ref().is_some_and(|psi| psi.trigger().is_none()) {
            lacks.push(
                "no pressure trigger: pressure is looked at once in each interval; run as root, or on Linux 6.5 or newer"
                    .to_owned(),
            );
        }
        let cgroup = match Cgroup::find(&proc.join("self")) {
            Ok(cgroup) => {
                if cgroup.as_ref().and_then(Cgroup::available).is_none() {
                    lacks.push(
                        "no memory cgroup with a limit: the host's available memory alone counts"
                            .to_owned(),
                    );
                }
                cgroup
            }
            Err(error) => {
                lacks.push(format!(
                    "could not find out whether there is a memory cgroup with a limit ({PROC}/self: {error}): the host's available \
                     memory alone counts; mount {PROC}"
                ));
                None
            }
        };
        let meminfo = match Meminfo::open(proc) {
            Ok(meminfo) => {
                if meminfo.available().is_none() {
                    lacks.push(format!("no MemAvailable in {PROC}/meminfo"));
                }
                Some(meminfo)
            }
            Err(error) => {
                lacks.push(format!(
                    "could not find out how much memory is available ({PROC}/meminfo: {error}): the host's memory does not count; \
                     mount {PROC}"
                ));
                None
            }
        };
        let machine = Machine {
            meminfo,
            psi,
            cgroup,
            triggered: false,
            stop: Arc::clone(&stop),
            lacks,
        };
        Ok((machine, Stop(stop)))
    }
}

/// What to do where there is no pressure information: a kernel that keeps none is told from a `/proc` that is not there.
fn no_pressure(process: &io::Result<bool>, error: &io::Error) -> String {
    let why = format!("({PROC}/pressure/memory: {error})");
    let follows = "the pool shrinks by the amount of available memory alone";
    match process {
        Ok(true) => format!("no pressure information {why}: {follows}; boot with psi=1"),
        _ => format!(
            "could not find out whether there is pressure information {why}: {follows}; mount {PROC}"
        ),
    }
}

impl Stop {
    /// Ends the wait, and each one after it.
    pub fn stop(&self) {
        // It can only fail when it was done 2^64 times before.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl Source for Machine {
    fn sample(&mut self) -> Sample {
        Sample {
            available: self.meminfo.as_ref().and_then(Meminfo::available),
            cgroup_available: self.cgroup.as_ref().and_then(Cgroup::available),
            pressure: self.psi.as_ref().and_then(Psi::some_avg10),
            triggered: std::mem::take(&mut self.triggered),
        }
    }

    fn wait(&mut self, timeout: Duration) -> Wake {
        let trigger = self.psi.as_ref().and_then(Psi::trigger);
        let mut fds = vec![PollFd::from_borrowed_fd(self.stop.as_fd(), PollFlags::IN)];
        fds.extend(trigger.map(|trigger| PollFd::from_borrowed_fd(trigger, PollFlags::PRI)));
        let timeout = Timespec::try_from(timeout).ok();
        let ready = poll(&mut fds, timeout.as_ref());
        if ready.is_err() {
            // A signal: as if the time were over.
            return Wake::Timer;
        }
        if !fds[0].revents().is_empty() {
            return Wake::Stop;
        }
        let events = fds.get(1).map_or(PollFlags::empty(), PollFd::revents);
        if events.contains(PollFlags::ERR) {
            // The cgroup, or the trigger, is gone.
            self.psi = None;
            return Wake::Timer;
        }
        if events.contains(PollFlags::PRI) {
            self.triggered = true;
            return Wake::Pressure;
        }
        Wake::Timer
    }

    fn lacks(&self) -> &[String] {
        &self.lacks
    }
}

#[cfg(test)]
#[path = "machine_test.rs"]
mod tests;
