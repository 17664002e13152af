//! The governor: how large a pool is, by what memory the machine has left.
//!
//! It samples the machine ([`sample`], `meminfo.rs`, `cgroup.rs`, `psi.rs`), decides by rules without clocks or files
//! (`decide.rs`), and has the pool shrink at once or grow slowly. Each change is an event with its reason. It knows of the pool
//! only what [`Governed`] says.

mod cgroup;
mod decide;
mod events;
mod machine;
mod meminfo;
mod psi;
mod sample;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use decide::{Decider, Decision, Reason, Settings};
pub use events::{Event, Events};
pub use machine::{Machine, Stop};
pub use sample::{Sample, Usage};

/// How often the machine is looked at, if nothing happens.
const INTERVAL: Duration = Duration::from_secs(1);

/// Every so many looks, the pool looks for what the kernel has taken even if memory is not short.
const LOOKS: u64 = 30;

/// A pool whose size can be governed.
pub trait Governed: Send + Sync {
    /// What it takes now.
    fn usage(&self) -> Usage;
    /// Takes no more than `bytes` from now on, as far as it can; gives memory back before it returns.
    fn set_size(&self, bytes: u64);
    /// Looks for what the kernel has taken of it.
    fn find_taken(&self);
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The time is over.
    Timer,
    /// Memory is short.
    Pressure,
    /// The governor is to end.
    Stop,
}

/// A machine as the governor sees it.
pub trait Source: Send {
    /// Looks at the memory.
    fn sample(&mut self) -> Sample;
    /// Waits until something happens, or for `timeout`.
    fn wait(&mut self, timeout: Duration) -> Wake;
    /// What this machine cannot tell, and what to do about it; for people.
    fn lacks(&self) -> &[String];
}

/// A thread that governs a pool until it is dropped.
pub struct Governor {
    settings: Arc<Mutex<Settings>>,
    events: Arc<Events>,
    lacks: Vec<String>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Governor {
    /// Governs `pool` by this machine's memory. `begin` is the first thing that its thread does, for a process that restricts
    /// what its threads may do.
    ///
    /// # Errors
    /// The process may not have another file or thread.
    pub fn start(
        pool: Arc<dyn Governed>,
        settings: Settings,
        begin: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (mut machine, stop) = Machine::new()?;
        let lacks = machine.lacks().to_vec();
        for lack in &lacks {
            tracing::info!("governor: {lack}");
        }
        let settings = Arc::new(Mutex::new(settings));
        let kept_to = Arc::clone(&settings);
        let events = Arc::<Events>::default();
        let written = Arc::clone(&events);
        let thread = std::thread::Builder::new()
            .name("governor".to_owned())
            .spawn(move || {
                begin();
                let start = Instant::now();
                govern(&mut machine, &*pool, &kept_to, &written, || start.elapsed());
            })?;
        Ok(Governor {
            settings,
            events,
            lacks,
            stop,
            thread: Some(thread),
        })
    }

    /// What it keeps to.
    pub fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    /// Keeps to other settings from the next look on, within a second.
    pub fn set_settings(&self, settings: Settings) {
        *lock(&self.settings) = settings;
    }

    /// What it decided.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// What this machine cannot tell, and what to do about it; for people.
    pub fn lacks(&self) -> &[String] {
        &self.lacks
    }
}

impl Drop for Governor {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the governor's thread has panicked");
        }
    }
}

fn lock(settings: &Mutex<Settings>) -> MutexGuard<'_, Settings> {
    settings
        .lock()
        .expect("no thread panics while it holds the settings")
}

/// Samples, decides and applies, until the source says to stop.
fn govern(
    source: &mut dyn Source,
    pool: &dyn Governed,
    settings: &Mutex<Settings>,
    events: &Events,
    clock: impl Fn() -> Duration,
) {
    let mut kept_to = lock(settings).clone();
    let mut decider = Decider::new(kept_to.clone(), clock());
    let mut last = None;
    for look in 0.. {
        let (at, sample) = (clock(), source.sample());
        let usage = pool.usage();
        let from = decider.target();
        let wanted = lock(settings).clone();
        if wanted != kept_to {
            kept_to = wanted.clone();
            decider.set_settings(wanted);
        }
        let Decision { target, reason } = decider.step(at, &sample, usage);
        if target != from {
            pool.set_size(target);
        }
        let short = matches!(
            reason,
            Reason::HostShort | Reason::CgroupShort | Reason::Pressure
        );
        if short || look % LOOKS == LOOKS - 1 {
            pool.find_taken();
        }
        // A reason that stays the same is said once, a change of size each time.
        if target != from || last.replace(reason) != Some(reason) {
            tracing::info!(from, to = target, "governor: {reason}");
            events.add(Event {
                number: 0,
                at,
                from,
                to: target,
                reason,
                sample,
                usage,
            });
        }
        if source.wait(INTERVAL) == Wake::Stop {
            return;
        }
    }
}

#[cfg(test)]
#[path = "governor_test.rs"]
mod tests;
