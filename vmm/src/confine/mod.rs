//! What is left to a VMM that a guest has broken into: nothing that its threads do not do anyway.
//!
//! [`begin`] comes before the first thread: no new privileges. Each thread then calls [`enter`] as the first thing that it
//! does, and the main thread when the guest starts, from when on there is no core dump. That leaves it files to open
//! ([`files`], Landlock) and system calls to make ([`filter`], seccomp); [`threads`] is the table of both. All that a machine
//! needs is open by then, and its threads have been started: none can start another.
//!
//! With a control socket each machine has a main thread of its own, and the one that starts them stays as it is. Threads that serve the
//! socket are confined before there is a machine.

mod files;
mod filter;
pub mod threads;

use std::fmt;
use std::io;
use std::sync::{Once, OnceLock};

pub use threads::Thread;

/// How a process is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Confinement {
    /// What is forbidden ends the process.
    #[default]
    On,
    /// Forbidden system calls are written to the kernel's log, and made all the same. Files stay closed, as with `on`.
    Log,
    /// Nothing is forbidden, for debuggers and core dumps.
    Off,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Confinement::On => "on",
            Confinement::Log => "log",
            Confinement::Off => "off",
        })
    }
}

/// Why a process cannot be confined.
#[derive(Debug, thiserror::Error)]
#[error("the host refuses {what} ({source}); --confinement off runs the guest without")]
pub struct ConfineError {
    what: &'static str,
    source: io::Error,
}

/// How this process is confined, once it is.
static CONFINEMENT: OnceLock<Confinement> = OnceLock::new();

/// Confines the process as a whole, and decides for all of its threads. The first call counts.
///
/// # Errors
/// The host has no system call filters.
pub fn begin(confinement: Confinement) -> Result<(), ConfineError> {
    let confinement = *CONFINEMENT.get_or_init(|| confinement);
    if confinement == Confinement::Off {
        return Ok(());
    }
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(refused("PR_SET_NO_NEW_PRIVS"))?;
    filter::check(confinement).map_err(refused("system call filters (seccomp)"))?;
    filter::report_forbidden_calls().map_err(refused("a handler for SIGSYS"))
}

/// Confines the calling thread to what `thread` says. Nothing happens in a process that is not confined.
///
/// A thread that cannot be confined must not run: the process ends, with status 4.
pub fn enter(thread: Thread) {
    if !matches!(thread, Thread::Main | Thread::Signals) {
        leave_signals_to_main();
    }
    let confinement = match CONFINEMENT.get() {
        None | Some(Confinement::Off) => return,
        Some(confinement) => *confinement,
    };
    if thread == Thread::Main {
        // Guest memory must not end up in a core dump, and no other process of this user may read it. Not before: it also closes
        // files of /proc/self that are the user's own.
        if let Err(error) = prctl(libc::PR_SET_DUMPABLE, 0) {
            give_up(thread, &error);
        }
    }
    match files::restrict(thread) {
        Ok(true) => {}
        Ok(false) => without_landlock("this kernel has no Landlock"),
        Err(error) => without_landlock(&error.to_string()),
    }
    if let Err(error) = filter::install(thread, confinement) {
        give_up(thread, &error);
    }
}

fn give_up(thread: Thread, error: &io::Error) -> ! {
    tracing::error!(%error, %thread, "a thread cannot be confined");
    std::process::exit(4);
}

/// Says once that files are not restricted.
fn without_landlock(why: &str) {
    static WARN: Once = Once::new();
    WARN.call_once(|| {
        tracing::warn!("files are not restricted ({why}); system call filters are in place");
    });
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> ConfineError {
    move |source| ConfineError { what, source }
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    let zero: libc::c_ulong = 0;
    // SAFETY: both options take numbers alone.
    if unsafe { libc::prctl(option, value, zero, zero, zero) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Signals that stop the machine are handled by the main thread, whose filter lets it.
fn leave_signals_to_main() {
    // SAFETY: all-zero bytes are a valid signal set, which sigemptyset initializes; the calls read and write that alone.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

#[cfg(test)]
#[path = "confine_test.rs"]
mod tests;
