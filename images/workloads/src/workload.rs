//! The names and numbers of the workloads, and the line in which a guest reports a result.

use std::fmt;

/// What begins a line that says which workload starts.
pub const START_PREFIX: &str = "vtmem-start: ";
/// What begins a line with the result of one pass of a workload; JSON follows.
pub const PASS_PREFIX: &str = "vtmem-pass: ";
/// What begins a line with a result on the guest's console; JSON follows.
pub const RESULT_PREFIX: &str = "vtmem-result: ";
/// What begins a line that says why a workload did not finish.
pub const FAILURE_PREFIX: &str = "vtmem-failure: ";

/// A workload of `vtmem compare`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// Zipf-distributed random reads over files twice the guest's memory.
    Reread,
    /// One sequential pass over files that nobody reads again.
    Scan,
    /// An anonymous working set one and a half times the guest's memory, at random.
    Swap,
    /// `grep -r` through a source tree, twice.
    Source,
    /// Files and memory of the guest's size in order, several times.
    Sequential,
}

impl Workload {
    /// All workloads, in the order in which they run.
    pub const ALL: [Self; 5] = [
        Self::Reread,
        Self::Scan,
        Self::Swap,
        Self::Source,
        Self::Sequential,
    ];

    /// The name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reread => "reread",
            Self::Scan => "scan",
            Self::Swap => "swap",
            Self::Source => "source",
            Self::Sequential => "sequential",
        }
    }

    /// The workload called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|workload| workload.name() == name)
    }

    fn number(self) -> u8 {
        match self {
            Self::Reread => 0,
            Self::Scan => 1,
            Self::Swap => 2,
            Self::Source => 3,
            Self::Sequential => 4,
        }
    }

    /// The mark that a guest sets right before the workload.
    pub fn begin_mark(self) -> u8 {
        0x10 + self.number()
    }

    /// The names of the workload's passes, if it has more than one: what is read in the first is new, in the warm ones it
    /// is not.
    pub fn passes(self) -> &'static [&'static str] {
        match self {
            Self::Reread | Self::Source => &["cold", "warm"],
            Self::Sequential => &["cold", "again", "warm", "mapped", "swept"],
            Self::Scan | Self::Swap => &[],
        }
    }

    /// The mark that a guest sets right before pass number `pass`, below 8, of the workload.
    pub fn pass_mark(self, pass: usize) -> u8 {
        0x20 + self.number() * 8 + pass as u8
    }

    /// The mark at which pass number `pass` ends: where the next one begins, or the workload's.
    pub fn pass_end_mark(self, pass: usize) -> u8 {
        if pass + 1 < self.passes().len() {
            self.pass_mark(pass + 1)
        } else {
            self.end_mark()
        }
    }

    /// The mark that a guest sets right after the workload.
    pub fn end_mark(self) -> u8 {
        0x80 + self.number()
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a finished workload, or one of its passes, has to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Time between its two marks by the guest's monotonic clock.
    pub nanoseconds: u64,
    /// Reads, writes or searches done; the same for the same seed.
    pub operations: u64,
    /// Bytes compared with what they should be, in the workload and in the check after it.
    pub bytes_verified: u64,
    /// Bytes among them that were wrong.
    pub bytes_corrupt: u64,
}

impl Outcome {
    /// The console line that reports this outcome.
    pub fn line(&self, workload: &str) -> String {
        format!(
            "{RESULT_PREFIX}{{\"workload\":\"{workload}\",{}}}",
            self.fields()
        )
    }

    /// The console line that reports this outcome as that of a pass.
    pub fn pass_line(&self, workload: &str, pass: usize) -> String {
        format!(
            "{PASS_PREFIX}{{\"workload\":\"{workload}\",\"pass\":{pass},{}}}",
            self.fields()
        )
    }

    fn fields(&self) -> String {
        format!(
            "\"nanoseconds\":{},\"operations\":{},\"bytes_verified\":{},\"bytes_corrupt\":{}",
            self.nanoseconds, self.operations, self.bytes_verified, self.bytes_corrupt
        )
    }
}

/// A whole workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// All of it.
    pub total: Outcome,
    /// Its passes, as [`Workload::passes`] names them.
    pub passes: Vec<Outcome>,
}

impl From<Outcome> for Finished {
    fn from(total: Outcome) -> Self {
        Self {
            total,
            passes: Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "workload_test.rs"]
mod tests;
