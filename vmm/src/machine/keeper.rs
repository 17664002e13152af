//! The thread that has a pool keep to a size that it was told; who told it need not wait.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use tmem_device::pool::HostPool;

use crate::confine::{self, Thread};

/// There from the start: who changes sizes may not start threads ([`crate::confine`]).
pub(super) struct Keeper {
    /// `None` once the thread is to end.
    orders: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Of `pool`.
    ///
    /// # Errors
    /// The process may not have another thread.
    pub fn start(pool: Arc<HostPool>) -> io::Result<Self> {
        let (orders, given) = sync_channel(1);
        let thread = thread::Builder::new().name("tmem-resize".into());
        let thread = thread.spawn(move || {
            confine::enter(Thread::Resize);
            while given.recv().is_ok() {
                pool.keep_to_size();
            }
        })?;
        Ok(Keeper {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Has the pool keep to the size that was announced last, soon.
    pub fn keep_to_size(&self) {
        if let Some(orders) = &self.orders {
            // Where an order waits already, that one is for this size, too.
            let _ = orders.try_send(());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that keeps the pool to its size has panicked");
        }
    }
}
