//! Where vCPUs stand while their machine is paused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Open at first.
#[derive(Debug, Default)]
pub struct Gate {
    /// The state's `closed`, for who passes.
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    standing: usize,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, closed: bool) {
        let mut state = self.state();
        state.closed = closed;
        self.closed.store(closed, Ordering::Release);
        self.changed.notify_all();
    }

    /// From now on nobody passes.
    pub fn close(&self) {
        self.set(true);
    }

    /// Lets everybody pass.
    pub fn open(&self) {
        self.set(false);
    }

    /// Passes, once the gate is open. While it is, this costs one load.
    pub fn pass(&self) {
        if !self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state();
        state.standing += 1;
        self.changed.notify_all();
        while state.closed {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.standing -= 1;
    }

    /// Waits until `count` stand before the closed gate, for `timeout` at most; whether they do.
    pub fn wait_standing(&self, count: usize, timeout: Duration) -> bool {
        let state = self.state();
        let fewer = |state: &mut State| state.standing < count;
        let waited = self.changed.wait_timeout_while(state, timeout, fewer);
        waited.unwrap_or_else(PoisonError::into_inner).0.standing >= count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use super::*;

    #[test]
    fn nobody_passes_a_closed_gate() {
        let (gate, passed) = (Arc::new(Gate::default()), Arc::new(AtomicU64::new(0)));
        gate.pass();
        gate.close();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (gate, passed) = (gate.clone(), passed.clone());
                thread::spawn(move || {
                    gate.pass();
                    passed.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        assert!(gate.wait_standing(3, Duration::from_secs(60)));
        assert!(!gate.wait_standing(4, Duration::ZERO));
        assert_eq!(passed.load(Ordering::SeqCst), 0);
        gate.open();
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("no panic"));
        assert_eq!(passed.load(Ordering::SeqCst), 3);
    }
}
