//! Children that end when this process is told to.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Hears SIGINT and SIGTERM and passes them on as SIGTERM to the running children.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    signal: AtomicI32,
    children: Mutex<Vec<Arc<Mutex<Child>>>>,
}

/// A running child.
#[derive(Debug)]
pub struct Guarded {
    child: Arc<Mutex<Child>>,
    state: Arc<State>,
}

impl Stop {
    /// Begins to listen.
    ///
    /// # Errors
    /// Signal handlers cannot be installed.
    pub fn install() -> io::Result<Self> {
        let stop = Self::default();
        let state = Arc::clone(&stop.state);
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    state.signal.store(signal, Ordering::SeqCst);
                    for child in lock(&state.children).iter() {
                        terminate(child);
                    }
                }
            })?;
        Ok(stop)
    }

    /// The signal that was heard.
    pub fn signal(&self) -> Option<i32> {
        Some(self.state.signal.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }

    /// Starts a child. Should this process be killed, the kernel ends the child.
    ///
    /// # Errors
    /// It cannot be started, or a signal was heard before.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Guarded> {
        // SAFETY: between fork and exec this makes one system call that touches no memory.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, SIGTERM) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        // Under the lock, so that a signal finds either no child to come or this one.
        let mut children = lock(&self.state.children);
        if self.signal().is_some() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let child = Arc::new(Mutex::new(command.spawn()?));
        children.push(Arc::clone(&child));
        Ok(Guarded {
            child,
            state: Arc::clone(&self.state),
        })
    }
}

impl Guarded {
    /// The child, for its pipes.
    pub fn with<T>(&self, f: impl FnOnce(&mut Child) -> T) -> T {
        f(&mut lock(&self.child))
    }

    /// Asks the child to end.
    pub fn terminate(&self) {
        terminate(&self.child);
    }

    /// Waits for the end; to be called once the child's output has ended.
    ///
    /// # Errors
    /// The system call's.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            // Without blocking, for a signal's listener needs the lock too.
            if let Some(status) = lock(&self.child).try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        lock(&self.state.children).retain(|child| !Arc::ptr_eq(child, &self.child));
        let mut child = lock(&self.child);
        if !matches!(child.try_wait(), Ok(Some(_))) {
            // Whoever drops a running child gave up on it; a failure means that it is gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn terminate(child: &Mutex<Child>) {
    let mut child = lock(child);
    if let Ok(None) = child.try_wait() {
        // SAFETY: signals a child that was not waited for, so its id is still its own.
        unsafe { libc::kill(child.id() as i32, SIGTERM) };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "stop_test.rs"]
mod tests;
