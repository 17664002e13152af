//! A machine while it runs: what may be asked of it from outside, from any thread.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::counters::{Counters, Counting};
use super::exit::{Exit, ExitSlot};
use super::tmem::TmemService;
use super::vcpu::VcpuThreads;
use crate::devices::virtio::mmio::MmioTransport;

/// Whether a machine's vCPUs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// They do.
    Running,
    /// They stand, and the devices hold still.
    Paused,
    /// There are none any more.
    Ended,
}

/// Why a machine was not paused, or not resumed: it is in this phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the machine {0}")]
pub struct WrongPhase(pub Phase);

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Running => "runs already",
            Phase::Paused => "is paused already",
            Phase::Ended => "has ended",
        })
    }
}

/// A machine whose guest runs.
pub struct Machine {
    count: Counting,
    tmem: Option<TmemService>,
    transports: Vec<Arc<MmioTransport>>,
    threads: VcpuThreads,
    exit: Arc<ExitSlot>,
    /// Held while it changes, for as long as a disk may take to answer.
    phase: Mutex<Phase>,
    /// The same, for who only looks.
    shown: AtomicU8,
}

impl Machine {
    pub(super) fn new(
        count: Counting,
        tmem: Option<TmemService>,
        transports: Vec<Arc<MmioTransport>>,
        threads: VcpuThreads,
        exit: Arc<ExitSlot>,
    ) -> Self {
        Machine {
            count,
            tmem,
            transports,
            threads,
            exit,
            phase: Mutex::new(Phase::Running),
            shown: AtomicU8::new(Phase::Running as u8),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: &mut Phase, to: Phase) {
        *phase = to;
        self.shown.store(to as u8, Ordering::Release);
    }

    /// Whether its vCPUs run. Waits for nobody.
    pub fn phase(&self) -> Phase {
        let shown = self.shown.load(Ordering::Acquire);
        let all = [Phase::Running, Phase::Paused];
        let found = all.into_iter().find(|phase| *phase as u8 == shown);
        found.unwrap_or(Phase::Ended)
    }

    /// Stops every vCPU between two exits, then has every device answer what it has begun and hold still. When this
    /// returns, nothing reads or writes guest memory.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> Result<(), WrongPhase> {
        let mut phase = self.lock();
        if *phase != Phase::Running {
            return Err(WrongPhase(*phase));
        }
        // In this order: a vCPU may be waiting for a device, and no device waits for a vCPU.
        self.threads.pause();
        self.transports.iter().for_each(|device| device.pause());
        self.set(&mut phase, Phase::Paused);
        Ok(())
    }

    /// Has the devices and the vCPUs go on where they were.
    ///
    /// # Errors
    /// It is not paused.
    pub fn resume(&self) -> Result<(), WrongPhase> {
        let mut phase = self.lock();
        if *phase != Phase::Paused {
            return Err(WrongPhase(*phase));
        }
        self.transports.iter().for_each(|device| device.resume());
        self.threads.resume();
        self.set(&mut phase, Phase::Running);
        Ok(())
    }

    /// Ends it for `reason`, soon, unless it is ending already.
    pub fn end(&self, reason: Exit) {
        self.exit.set(reason);
    }

    /// What it counted so far.
    pub fn counters(&self) -> Counters {
        self.count.counters()
    }

    /// Its pool and its virtio-tmem device.
    pub fn tmem(&self) -> Option<&TmemService> {
        self.tmem.as_ref()
    }

    /// Waits for its end, and stops everything.
    pub(super) fn wait(&self) -> Exit {
        let reason = self.exit.wait();
        let mut phase = self.lock();
        self.threads.join();
        for transport in &self.transports {
            transport.shut_down();
        }
        self.set(&mut phase, Phase::Ended);
        reason
    }
}

#[cfg(test)]
#[path = "running_test.rs"]
pub(crate) mod tests;
