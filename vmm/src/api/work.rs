//! What a request has to wait for: vCPUs, locks of the pool, files of the kernel's. It is done here, not where connections are
//! served.
//!
//! The threads are there, and confined, before the first connection: none of them is ever started by a request.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::Problem;
use crate::confine::{self, Thread};

/// So many requests are worked on at once; others wait.
const THREADS: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that work; they end when nobody has this any more, and have done what was asked for until then.
#[derive(Clone)]
pub struct Workers {
    jobs: Sender<Job>,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// The process may not have another thread.
    pub fn start() -> io::Result<Self> {
        let (jobs, todo) = channel();
        let todo = Arc::new(Mutex::new(todo));
        for _ in 0..THREADS {
            let todo = todo.clone();
            let thread = thread::Builder::new().name("api-work".into());
            // Not joined: nobody waits for what waits for a guest.
            drop(thread.spawn(move || {
                confine::enter(Thread::ApiWork);
                work(&todo);
            })?);
        }
        Ok(Workers { jobs })
    }

    /// Has one of them do `job`, and waits for what it returns.
    ///
    /// # Errors
    /// It panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (done, result) = oneshot::channel();
        let job = move || {
            // Nobody waits any more where the connection broke off.
            let _ = done.send(job());
        };
        let failed = "the VMM failed to do this; its standard error says more";
        if self.jobs.send(Box::new(job)).is_err() {
            return Err(Problem::unavailable(failed));
        }
        result.await.map_err(|_| Problem::unavailable(failed))
    }
}

fn work(todo: &Mutex<Receiver<Job>>) {
    loop {
        // Held while it waits: the next one is this thread's.
        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // A panic has been reported, and ends the job alone.
        drop(catch_unwind(AssertUnwindSafe(job)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer_and_the_threads_go_on() {
        let workers = Workers::start().expect("threads");
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(async {
            for _ in 0..2 * THREADS {
                let failed = workers.run(|| panic!("on purpose")).await;
                let problem: Problem = failed.map(|(): ()| ()).expect_err("a panic");
                assert_eq!(problem.status, 503);
            }
            assert_eq!(workers.run(|| 7).await, Ok(7));
        });
    }
}
