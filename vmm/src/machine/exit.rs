//! How a machine ends: the first reason wins, and everyone waiting hears of it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

/// Why a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest powered off: exit status 0.
    PoweredOff,
    /// The guest asked for a reset: exit status 3.
    Reset,
    /// Shut down by whoever runs it, through the control socket: exit status 0.
    ShutDown,
    /// To be started again, as the control socket was told.
    Restart,
    /// The guest, or the VMM, cannot go on: exit status 4.
    Failed(String),
    /// Stopped from the console: exit status 130.
    Stopped,
    /// Stopped by this signal: exit status 128 + signal.
    Signal(i32),
}

impl Exit {
    /// The exit status of `vtmem run`.
    pub fn status(&self) -> u8 {
        match self {
            Exit::PoweredOff | Exit::ShutDown => 0,
            Exit::Reset | Exit::Restart => 3,
            Exit::Failed(_) => 4,
            Exit::Stopped => 130,
            Exit::Signal(signal) => 128_u8.wrapping_add(*signal as u8),
        }
    }
}

/// Where the reason is put, and waited for.
#[derive(Debug)]
pub struct ExitSlot {
    reason: Mutex<Option<Exit>>,
    /// Set with the reason; vCPUs look at it between any two exits.
    ending: AtomicBool,
    event: EventFd,
}

impl ExitSlot {
    /// An empty slot.
    pub fn new() -> io::Result<Self> {
        Ok(ExitSlot {
            reason: Mutex::new(None),
            ending: AtomicBool::new(false),
            event: EventFd::new(libc::EFD_NONBLOCK)?,
        })
    }

    /// Ends the machine for `reason`, unless it is ending already.
    pub fn set(&self, reason: Exit) {
        let mut slot = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(reason);
            self.ending.store(true, Ordering::Release);
            // The counter starts at zero and is written once, so it cannot overflow.
            let _ = self.event.write(1);
        }
    }

    /// Whether the machine is ending.
    pub fn is_set(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// The reason, once there is one.
    pub fn get(&self) -> Option<Exit> {
        self.reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for a reason.
    pub fn wait(&self) -> Exit {
        loop {
            if let Some(reason) = self.get() {
                return reason;
            }
            let mut fd = libc::pollfd {
                fd: self.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one pollfd, which outlives the call.
            if unsafe { libc::poll(&raw mut fd, 1, -1) } < 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Readable from the moment on at which the reason is set.
impl AsRawFd for ExitSlot {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}
