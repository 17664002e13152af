//! How a device's worker is made to hold still, to go on, and to end.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// How often it is looked whether a worker that should hold has ended instead.
const LOOK: Duration = Duration::from_millis(20);

/// What a worker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Serve.
    Run,
    /// Bring to an end what is in flight, then call [`Reins::hold_here`].
    Hold,
    /// Return.
    End,
}

impl Order {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Order::Run,
            1 => Order::Hold,
            _ => Order::End,
        }
    }
}

/// Held by a device and its worker. The descriptor is readable when there is a new order.
#[derive(Debug)]
pub struct Reins {
    /// Written under the lock of `holding`, read without.
    order: AtomicU8,
    holding: Mutex<bool>,
    changed: Condvar,
    event: EventFd,
}

impl Reins {
    /// For a worker that is to run.
    pub fn new() -> io::Result<Self> {
        Ok(Reins {
            order: AtomicU8::new(Order::Run as u8),
            holding: Mutex::new(false),
            changed: Condvar::new(),
            event: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    /// What the worker is to do.
    pub fn order(&self) -> Order {
        Order::from_number(self.order.load(Ordering::Acquire))
    }

    fn holding(&self) -> MutexGuard<'_, bool> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an order; nothing comes after [`Order::End`].
    fn give(&self, order: Order) {
        let _holding = self.holding();
        if self.order() != Order::End {
            self.order.store(order as u8, Ordering::Release);
            // Fails only when the counter is full, and then it is readable.
            let _ = self.event.write(1);
            self.changed.notify_all();
        }
    }

    /// Makes the worker return, soon.
    pub fn end(&self) {
        self.give(Order::End);
    }

    /// Makes the worker hold still. It does when this returns, or `has_ended` says that it has ended.
    pub fn hold(&self, has_ended: impl Fn() -> bool) {
        self.give(Order::Hold);
        let mut holding = self.holding();
        while !*holding && !has_ended() {
            let waited = self.changed.wait_timeout(holding, LOOK);
            holding = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has the worker look for something to serve, though no doorbell rings.
    pub fn nudge(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = self.event.write(1);
    }

    /// For the worker: it has seen that the descriptor was readable, and will look at the order, and for something to serve.
    pub fn seen(&self) {
        let _ = self.event.read();
    }

    /// Lets the worker go on.
    pub fn release(&self) {
        self.give(Order::Run);
    }

    /// For the worker: stays here for as long as the order is to hold.
    pub fn hold_here(&self) {
        let mut holding = self.holding();
        // Empty or not: orders that come from here on are seen below.
        let _ = self.event.read();
        while self.order() == Order::Hold {
            *holding = true;
            self.changed.notify_all();
            let woken = self.changed.wait(holding);
            holding = woken.unwrap_or_else(PoisonError::into_inner);
        }
        *holding = false;
    }
}

impl AsRawFd for Reins {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

#[cfg(test)]
#[path = "reins_test.rs"]
mod tests;
