//! The governor: how large a pool is, by what memory the machine has left.
//!
//! It samples the machine ([`sample`], `meminfo.rs`, `cgroup.rs`, `psi.rs`), decides by rules without clocks or files
//! (`decide.rs`), and has the pool shrink at once or grow slowly. Each change is an event with its reason. It knows of the pool
//! only what [`Governed`] says.

mod cgroup;
mod decide;
mod events;
mod kept;
mod machine;
mod meminfo;
mod psi;
mod sample;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// A thread that governs a pool until it is dropped, as long as it has settings to keep to.
pub struct Governor {
    orders: Arc<Orders>,
    events: Arc<Events>,
    lacks: Vec<String>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// What a governor's thread is told.
struct Orders {
    settings: Mutex<Option<Settings>>,
    /// Held over a look at the machine and what follows from it.
    look: Mutex<()>,
}

impl Orders {
    fn new(settings: Option<Settings>) -> Self {
        Orders {
            settings: Mutex::new(settings),
            look: Mutex::default(),
        }
    }
}

impl Governor {
    /// Governs `pool` by this machine's memory; without `settings`, leaves it alone until there are some. `begin` is the first
    /// thing that its thread does, for a process that restricts what its threads may do.
    ///
    /// # Errors
    /// The process may not have another file or thread.
    pub fn start(
        pool: Arc<dyn Governed>,
        settings: Option<Settings>,
        begin: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (mut machine, stop) = Machine::new()?;
        let lacks = machine.lacks().to_vec();
        for lack in &lacks {
            tracing::info!("governor: {lack}");
        }
        let orders = Arc::new(Orders::new(settings));
        let followed = Arc::clone(&orders);
        let events = Arc::<Events>::default();
        let written = Arc::clone(&events);
        let thread = std::thread::Builder::new()
            .name("governor".to_owned())
            .spawn(move || {
                begin();
                let start = Instant::now();
                govern(&mut machine, &*pool, &followed, &written, || {
                    start.elapsed()
                });
            })?;
        Ok(Governor {
            orders,
            events,
            lacks,
            stop,
            thread: Some(thread),
        })
    }

    /// What it keeps to, if it governs.
    pub fn settings(&self) -> Option<Settings> {
        lock(&self.orders.settings).clone()
    }

    /// Keeps to other settings from the next look on, within a second. Without, the pool's size is not touched any more when
    /// this returns.
    pub fn set_settings(&self, settings: Option<Settings>) {
        let governs = settings.is_some();
        *lock(&self.orders.settings) = settings;
        if !governs {
            // What follows from a look that began before is waited for.
            drop(lock(&self.orders.look));
        }
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

/// Neither has a state in between: one that a panic has left is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is governed by, since the settings were there.
struct Rule {
    kept_to: Settings,
    decider: Decider,
    looks: u64,
    last: Option<Reason>,
}

impl Rule {
    fn new(settings: Settings, now: Duration) -> Self {
        Rule {
            kept_to: settings.clone(),
            decider: Decider::new(settings, now),
            looks: 0,
            last: None,
        }
    }

    /// Samples, decides and applies.
    fn look(
        &mut self,
        wanted: Settings,
        source: &mut dyn Source,
        pool: &dyn Governed,
        events: &Events,
        at: Duration,
    ) {
        let sample = source.sample();
        let usage = pool.usage();
        let from = self.decider.target();
        if wanted != self.kept_to {
            self.kept_to = wanted.clone();
            self.decider.set_settings(wanted);
        }
        let Decision { target, reason } = self.decider.step(at, &sample, usage);
        if target != from {
            pool.set_size(target);
        }
        let short = matches!(
            reason,
            Reason::HostShort | Reason::CgroupShort | Reason::Pressure
        );
        self.looks += 1;
        if short || self.looks.is_multiple_of(LOOKS) {
            pool.find_taken();
        }
        // A reason that stays the same is said once, a change of size each time.
        if target != from || self.last.replace(reason) != Some(reason) {
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
    }
}

/// Looks at the machine while there are settings, until the source says to stop.
fn govern(
    source: &mut dyn Source,
    pool: &dyn Governed,
    orders: &Orders,
    events: &Events,
    clock: impl Fn() -> Duration,
) {
    let mut rule: Option<Rule> = None;
    loop {
        let look = lock(&orders.look);
        let wanted = lock(&orders.settings).clone();
        match wanted {
            None => rule = None,
            Some(wanted) => {
                let at = clock();
                let rule = rule.get_or_insert_with(|| Rule::new(wanted.clone(), at));
                rule.look(wanted, source, pool, events, at);
            }
        }
        drop(look);
        if source.wait(INTERVAL) == Wake::Stop {
            return;
        }
    }
}

#[cfg(test)]
#[path = "governor_test.rs"]
mod tests;
