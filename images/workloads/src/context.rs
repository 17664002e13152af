//! What every workload is given: its parameters, and the way to have itself measured.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use vtmem_workloads::driver::Counters;
use vtmem_workloads::mark::Marker;
use vtmem_workloads::workload::{Finished, Outcome, Workload};

/// What dropping the caches sets off, in the guest and in its host, is over after this.
const SETTLE: Duration = Duration::from_millis(500);

/// Parameters of a run.
#[derive(Debug)]
pub struct Context {
    /// What all content and all choices depend on.
    pub seed: u64,
    /// The guest's memory in bytes, from which the sizes of all sets follow.
    pub guest_mem: u64,
    /// Where the data disk is mounted.
    pub data: PathBuf,
    /// Where the host's counters and the driver's are noted.
    pub ledger: Ledger,
}

/// The way to the counters of both sides: the VMM's are noted by itself, at a mark, the driver's kept here, since to print
/// them costs exits.
#[derive(Debug, Default)]
pub struct Ledger {
    marker: Marker,
    driver: RefCell<Vec<(u8, Counters)>>,
}

impl Ledger {
    /// Notes the counters before what begins with this mark.
    fn begin(&self, mark: u8) {
        self.note_driver(mark);
        self.marker.mark(mark);
    }

    /// Notes the counters after what ends with this mark.
    fn end(&self, mark: u8) {
        self.marker.mark(mark);
        self.note_driver(mark);
    }

    fn note_driver(&self, mark: u8) {
        let counters = Counters::read();
        self.driver
            .borrow_mut()
            .extend(counters.map(|counters| (mark, counters)));
    }

    /// The driver's counters since the last call, each with the mark they were noted at.
    pub fn take_driver(&self) -> Vec<(u8, Counters)> {
        self.driver.take()
    }
}

impl Context {
    /// Drops the caches, lets that come to rest, and runs `work` between the workload's marks.
    /// Returns the time it took in nanoseconds, and what it returned.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn measure<T>(
        &self,
        workload: Workload,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(u64, T)> {
        drop_caches();
        std::thread::sleep(SETTLE);
        self.ledger.begin(workload.begin_mark());
        let start = Instant::now();
        let result = work();
        let nanoseconds = start.elapsed().as_nanos() as u64;
        self.ledger.end(workload.end_mark());
        Ok((nanoseconds, result?))
    }

    /// As [`Context::measure`], for a workload of passes: calls `pass` with the number of each. Bytes that are verified
    /// in none of them, and their time, are for the caller to add.
    ///
    /// # Errors
    /// Those of `pass`.
    pub fn measure_passes(
        &self,
        workload: Workload,
        mut pass: impl FnMut(usize) -> io::Result<Outcome>,
    ) -> io::Result<Finished> {
        let mut passes = Vec::with_capacity(workload.passes().len());
        let (nanoseconds, ()) = self.measure(workload, || {
            for number in 0..workload.passes().len() {
                self.ledger.begin(workload.pass_mark(number));
                let start = Instant::now();
                let mut outcome = pass(number)?;
                outcome.nanoseconds = start.elapsed().as_nanos() as u64;
                passes.push(outcome);
            }
            Ok(())
        })?;
        Ok(Finished {
            total: Outcome {
                nanoseconds,
                operations: passes.iter().map(|pass| pass.operations).sum(),
                bytes_verified: passes.iter().map(|pass| pass.bytes_verified).sum(),
                bytes_corrupt: passes.iter().map(|pass| pass.bytes_corrupt).sum(),
            },
            passes,
        })
    }
}

/// Writes dirty data out and empties the kernel's caches, as far as we may.
pub fn drop_caches() {
    // SAFETY: takes no argument and cannot fail.
    unsafe { libc::sync() };
    // Only root may; everything is as right without, only from warm caches.
    let _ = fs::write("/proc/sys/vm/drop_caches", "3");
}

/// Adds to an error what it happened to.
pub fn about(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Runs a program to its end.
///
/// # Errors
/// It is not there, or failed: what it said.
pub fn command(program: &str, arguments: &[&str]) -> io::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(about(program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{program} {arguments:?}: {said}")))
}
