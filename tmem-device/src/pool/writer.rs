//! The thread that writes pages to the tiers, so that nobody else waits for them.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{HostPool, WriteBack};

/// After a refusal the thread waits for so long, and after each further one twice as long, up to the limit.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What the thread is to do.
#[derive(Default)]
struct Orders {
    /// Look whether something needs to be written.
    look: bool,
    /// End.
    stop: bool,
}

/// Wakes the thread.
#[derive(Default)]
pub(super) struct Signal {
    orders: Mutex<Orders>,
    changed: Condvar,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        // Two flags, which are right whatever happened.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, order: impl FnOnce(&mut Orders)) {
        order(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until there is something to look at; false when it is time to end.
    fn wait(&self) -> bool {
        let orders = self.lock();
        let waited = self
            .changed
            .wait_while(orders, |orders| !orders.look && !orders.stop);
        let mut orders = waited.unwrap_or_else(PoisonError::into_inner);
        orders.look = false;
        !orders.stop
    }

    /// Waits for a time; false when it is time to end.
    fn pause(&self, time: Duration) -> bool {
        let orders = self.lock();
        let waited = self
            .changed
            .wait_timeout_while(orders, time, |orders| !orders.stop);
        let (orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !orders.stop
    }

    fn stopped(&self) -> bool {
        self.lock().stop
    }
}

impl HostPool {
    /// Wakes the thread that writes to the tiers, if it has something to write.
    pub(super) fn wake_writer(&self) {
        if !self.tiers.is_empty() && (self.is_dirty() || self.runs_full()) {
            self.signal.give(|orders| orders.look = true);
        }
    }
}

/// A thread that keeps what memory alone has within its limit, for a pool with tiers. It ends when this is dropped, after the
/// write that it is at.
pub struct Writer {
    pool: Arc<HostPool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, which calls `enter` first; one for a pool is enough.
    ///
    /// # Errors
    /// The host gives no thread.
    pub fn start(pool: Arc<HostPool>, enter: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let writing = pool.clone();
        let thread = thread::Builder::new()
            .name("tmem-writer".into())
            .spawn(move || {
                enter();
                write(&writing);
            })?;
        Ok(Writer {
            pool,
            thread: Some(thread),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.pool.signal.give(|orders| orders.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes to the pool's tiers panicked");
        }
        // Another one may follow.
        self.pool.signal.give(|orders| orders.stop = false);
    }
}

fn write(pool: &HostPool) {
    while pool.signal.wait() {
        let mut wait = FIRST_WAIT;
        loop {
            match pool.write_back() {
                WriteBack::Idle => break,
                WriteBack::Wrote(_) => wait = FIRST_WAIT,
                WriteBack::Refused(error) => {
                    if wait == FIRST_WAIT {
                        tracing::warn!(%error, "pages stay in memory, and guests will be refused more");
                    }
                    if !pool.signal.pause(wait) {
                        return;
                    }
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
            if pool.signal.stopped() {
                return;
            }
        }
    }
}
