//! `write` and `check`: files larger than the guest's memory, made once and compared with what they should hold as often as
//! a test likes.

use crate::context::about;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::time::Instant;
use vtmem_workloads::content::{PAGE_SIZE, corrupt_bytes};
use vtmem_workloads::dataset::{DataFile, FILE_PAGES};
use vtmem_workloads::workload::Outcome;

/// File numbers start here, apart from those of all other contents.
const FIRST: u32 = 1 << 30;

/// Which files.
#[derive(Debug)]
pub struct Options {
    /// Where they are; made when missing.
    pub directory: PathBuf,
    /// How many, of 1 MiB each.
    pub count: u32,
    /// What their content depends on.
    pub seed: u64,
}

impl Options {
    fn files(&self) -> impl Iterator<Item = DataFile> {
        (0..self.count).map(|index| DataFile {
            path: format!("{index:04}.dat"),
            file: FIRST + index,
            pages: FILE_PAGES,
        })
    }

    /// Writes the files, and waits until they are on the disk.
    ///
    /// # Errors
    /// Any file that cannot be written.
    pub fn write(&self) -> io::Result<Outcome> {
        let start = Instant::now();
        fs::create_dir_all(&self.directory).map_err(about(self.directory.display()))?;
        let mut outcome = Outcome::default();
        for file in self.files() {
            let path = self.directory.join(&file.path);
            let write = || {
                let mut out = BufWriter::new(File::create(&path)?);
                file.write_to(self.seed, &mut out)?;
                out.flush()?;
                out.get_ref().sync_all()
            };
            write().map_err(about(path.display()))?;
            outcome.operations += 1;
        }
        outcome.nanoseconds = start.elapsed().as_nanos() as u64;
        Ok(outcome)
    }

    /// Reads the files and compares every byte.
    ///
    /// # Errors
    /// Any file that cannot be read to its end.
    pub fn check(&self) -> io::Result<Outcome> {
        let start = Instant::now();
        let mut outcome = Outcome::default();
        let mut found = [0; PAGE_SIZE];
        for file in self.files() {
            let path = self.directory.join(&file.path);
            let mut from = File::open(&path).map_err(about(path.display()))?;
            for page in 0..file.pages {
                from.read_exact(&mut found).map_err(about(path.display()))?;
                outcome.bytes_corrupt += corrupt_bytes(self.seed, file.file, page, &found);
                outcome.bytes_verified += PAGE_SIZE as u64;
            }
            outcome.operations += 1;
        }
        outcome.nanoseconds = start.elapsed().as_nanos() as u64;
        Ok(outcome)
    }
}
