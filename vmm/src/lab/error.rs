//! What keeps a lab from running, or from running to its end.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use super::qemu::PROGRAM;

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// QEMU is not installed.
    #[error("{program} is not installed; run: sudo apt-get install --no-install-recommends {package}", program = PROGRAM.0, package = PROGRAM.1)]
    NoEmulator,
    /// The configuration describes no lab.
    #[error("{0}")]
    Config(String),
    /// This host refused something.
    #[error("cannot {what} for the lab: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The emulated host ended without saying how the job did.
    #[error("the lab ended before its job did ({status}){said}")]
    Died {
        /// QEMU's exit status.
        status: ExitStatus,
        /// What QEMU and the emulated host said last, on lines of their own.
        said: String,
    },
    /// The emulated host did not get as far as its job.
    #[error("the lab was not ready after {} s and was ended{said}", limit.as_secs())]
    NotReady {
        /// How long it had.
        limit: Duration,
        /// As for [`LabError::Died`].
        said: String,
    },
    /// A signal stopped it.
    #[error("stopped by signal {0}")]
    Stopped(i32),
}

/// Names what was tried, for the error.
pub(super) fn host<T>(what: &'static str, result: io::Result<T>) -> Result<T, LabError> {
    result.map_err(|source| LabError::Host { what, source })
}
