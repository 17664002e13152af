//! The thread of a device: there for as long as the device is, at work while the driver has it active.
//!
//! A driver starts and resets devices from vCPUs' threads, which may not start threads ([`crate::confine`]).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::confine::{self, Thread};

type Job<T> = Box<dyn FnOnce() -> T + Send>;

/// A thread that does one job after the other.
pub(super) struct WorkerThread<T> {
    /// `None` once the thread is to end.
    jobs: Option<Sender<Job<T>>>,
    done: Receiver<thread::Result<T>>,
    /// It has a job that it has not done.
    busy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> WorkerThread<T> {
    /// Starts the thread, confined as `kind`.
    pub fn start(name: String, kind: Thread) -> io::Result<Self> {
        let (jobs, todo) = channel::<Job<T>>();
        let (finished, done) = channel();
        let busy = Arc::new(AtomicBool::new(false));
        let at_work = busy.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            confine::enter(kind);
            for job in todo {
                // A panic ends the job; the driver can reset the device and start it again.
                let result = catch_unwind(AssertUnwindSafe(job));
                at_work.store(false, Ordering::Release);
                if finished.send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(WorkerThread {
            jobs: Some(jobs),
            done,
            busy,
            thread: Some(thread),
        })
    }

    /// Has the thread do `job`; the one before must have been waited for.
    pub fn run(&self, job: impl FnOnce() -> T + Send + 'static) {
        let jobs = self.jobs.as_ref().expect("the thread ends with this");
        self.busy.store(true, Ordering::Release);
        // It only fails when the thread has ended, and that it does with this.
        let sent = jobs.send(Box::new(job));
        debug_assert!(sent.is_ok(), "the thread has ended");
    }

    /// Whether it has done all that it was given.
    pub fn is_idle(&self) -> bool {
        !self.busy.load(Ordering::Acquire)
    }

    /// Waits until the job is done; `None` when it panicked.
    pub fn wait(&self) -> Option<T> {
        self.done.recv().ok()?.ok()
    }
}

impl<T> Drop for WorkerThread<T> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a device's thread panicked");
        }
    }
}
