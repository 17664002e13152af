//! What a job left: its status, and the files that were asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use vtmem_images::cpio;

use super::error::{LabError, host};

/// Bytes that a job's output files may have together.
const BYTES: u64 = 64 << 20;
/// Where images/lab/init writes the status.
const STATUS: &str = "lab/status";

/// What a job left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabOutcome {
    /// Its exit status, or 128 + the signal that ended it.
    pub status: u8,
    /// Output files by absolute path.
    pub outputs: BTreeMap<String, Vec<u8>>,
}

/// The file that the lab writes the outcome to. It has no name.
#[derive(Debug)]
pub struct OutcomeFile(File);

impl OutcomeFile {
    /// An empty one.
    ///
    /// # Errors
    /// No room in the directory for temporary files.
    pub fn create() -> Result<Self, LabError> {
        let file = host("make a temporary file", tempfile::tempfile())?;
        host("make the output disk", file.set_len(BYTES))?;
        Ok(OutcomeFile(file))
    }

    /// The file, and its size in bytes.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn share(&self) -> Result<(File, u64), LabError> {
        Ok((host("share a file", self.0.try_clone())?, BYTES))
    }

    /// The outcome; `None` when the lab did not get that far.
    pub fn read(&self) -> Option<LabOutcome> {
        let mut bytes = vec![0; BYTES as usize];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        parse(&bytes).ok()?
    }
}

fn parse(archive: &[u8]) -> io::Result<Option<LabOutcome>> {
    let mut status = None;
    let mut outputs = BTreeMap::new();
    for member in cpio::read(archive)? {
        if member.path == STATUS {
            let text = String::from_utf8_lossy(member.data);
            status = text.trim().parse().ok();
        } else {
            outputs.insert(format!("/{}", member.path), member.data.to_vec());
        }
    }
    Ok(status.map(|status| LabOutcome { status, outputs }))
}

#[cfg(test)]
#[path = "outcome_test.rs"]
mod tests;
