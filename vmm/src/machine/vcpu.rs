//! vCPU threads: each runs its vCPU until the machine ends, and stands while it is paused.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::bus::Bus;
use super::exit::{Exit, ExitSlot};
use super::gate::Gate;
use crate::confine::{self, Thread};
use crate::hypervisor::{ExitHandler, Vcpu, VcpuStop};

/// The devices, as exits see them.
pub struct Buses {
    /// I/O ports.
    pub io: Bus,
    /// Memory-mapped devices.
    pub mmio: Bus,
}

impl ExitHandler for Buses {
    fn io_read(&self, port: u16, data: &mut [u8]) {
        self.io.read(u64::from(port), data);
    }

    fn io_write(&self, port: u16, data: &[u8]) {
        self.io.write(u64::from(port), data);
    }

    fn mmio_read(&self, address: u64, data: &mut [u8]) {
        self.mmio.read(address, data);
    }

    fn mmio_write(&self, address: u64, data: &[u8]) {
        self.mmio.write(address, data);
    }
}

/// The signal that makes a vCPU leave the guest.
fn kick_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Installs a handler that does nothing, so that the signal interrupts KVM_RUN and no more.
fn install_kick_handler() {
    extern "C" fn nothing(_: libc::c_int) {}
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        // SAFETY: all-zero bytes are a valid sigaction (no flags, empty mask).
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler is async-signal-safe (it does nothing), the structure is initialized.
        let rc = unsafe { libc::sigaction(kick_signal(), &raw const action, std::ptr::null_mut()) };
        assert_eq!(rc, 0, "SIGRTMIN is a valid signal");
    });
}

/// How often a thread that has not left the guest yet is told again.
const AGAIN: Duration = Duration::from_millis(1);

/// The running vCPUs.
pub struct VcpuThreads {
    threads: Mutex<Vec<JoinHandle<()>>>,
    gate: Arc<Gate>,
}

impl VcpuThreads {
    /// Starts one thread for each of `vcpus`, each confined as `kind`.
    pub fn start(
        vcpus: Vec<Box<dyn Vcpu>>,
        buses: &Arc<Buses>,
        exit: &Arc<ExitSlot>,
        kind: Thread,
    ) -> io::Result<Self> {
        install_kick_handler();
        let started = VcpuThreads {
            threads: Mutex::default(),
            gate: Arc::default(),
        };
        for (id, mut vcpu) in vcpus.into_iter().enumerate() {
            let (buses, ending, gate) = (buses.clone(), exit.clone(), started.gate.clone());
            let thread = thread::Builder::new()
                .name(format!("vcpu{id}"))
                .spawn(move || {
                    confine::enter(kind);
                    while !ending.is_set() {
                        if let VcpuStop::Failed(why) = vcpu.run(buses.as_ref()) {
                            ending.set(Exit::Failed(format!("vCPU {id}: {why}")));
                        }
                        gate.pass();
                    }
                });
            match thread {
                Ok(thread) => started.threads().push(thread),
                Err(error) => {
                    // The vCPUs that run already must end before the error is reported.
                    exit.set(Exit::Failed(format!("no thread for vCPU {id}: {error}")));
                    started.join();
                    return Err(error);
                }
            }
        }
        Ok(started)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every vCPU leave the guest, between two exits; none executes an instruction when this returns.
    pub fn pause(&self) {
        let threads = self.threads();
        self.gate.close();
        loop {
            threads.iter().for_each(kick);
            let running = threads.iter().filter(|thread| !thread.is_finished());
            if self.gate.wait_standing(running.count(), AGAIN) {
                return;
            }
        }
    }

    /// Lets the vCPUs go on.
    pub fn resume(&self) {
        self.gate.open();
    }

    /// Makes every vCPU leave the guest and joins its thread. The machine's exit must be set.
    pub fn join(&self) {
        self.gate.open();
        for thread in self.threads().drain(..) {
            while !thread.is_finished() {
                kick(&thread);
                thread::sleep(AGAIN);
            }
            if thread.join().is_err() {
                tracing::error!("a vCPU thread panicked");
            }
        }
    }
}

/// Interrupts KVM_RUN. A signal that comes just before it interrupts nothing, so it has to be sent again until the
/// thread has seen why.
fn kick(thread: &JoinHandle<()>) {
    // SAFETY: the thread has not been joined, so its id is valid.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), kick_signal()) };
}

#[cfg(test)]
#[path = "vcpu_test.rs"]
mod tests;
