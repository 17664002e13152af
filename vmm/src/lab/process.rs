//! QEMU's process, which whoever hears a signal may kill while another thread waits for it.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long the lock is left to others between two looks at the child.
const PAUSE: Duration = Duration::from_millis(5);

/// A child; when nobody needs it any more, it is killed.
#[derive(Debug)]
pub struct Process(Mutex<Child>);

impl Process {
    /// Takes the child over.
    pub fn new(child: Child) -> Self {
        Process(Mutex::new(child))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills it, if it has not been waited for.
    pub fn kill(&self) {
        // Fails when it has ended by itself.
        let _ = self.child().kill();
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The system call's.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            // Not waited for under the lock: a signal may have to kill it.
            if let Some(status) = self.child().try_wait()? {
                return Ok(status);
            }
            thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;
    use std::sync::Arc;

    #[test]
    fn it_can_be_killed_while_it_is_waited_for() {
        let child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let process = Arc::new(Process::new(child));
        let waiting = thread::spawn({
            let process = process.clone();
            move || process.wait()
        });
        process.kill();
        let status = waiting.join().expect("a thread").expect("a status");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
        // By now the number may be somebody else's.
        process.kill();
    }
}
