//! The files on the data disk.

use crate::content::{PAGE_SIZE, fill_page};
use std::io::{self, Write};

/// Where the source tree of the `source` workload lies, relative to the data disk's root.
pub const SOURCE_DIR: &str = "source";
/// What searching the source tree must find ([`crate::source::Expectation`]), relative to the data disk's root.
pub const SOURCE_EXPECT: &str = "source.expect";

/// Pages of one generated file: 1 MiB.
pub const FILE_PAGES: u32 = 256;
/// File numbers of the scan set start here; the reread set's start at 0.
const SCAN_FIRST: u32 = 1 << 20;

/// Which workload reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Read at random: twice the guest's memory.
    Reread,
    /// Read once from end to end: one and a half times the guest's memory.
    Scan,
}

impl Set {
    /// The directory of the set, relative to the data disk's root.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Reread => "reread",
            Self::Scan => "scan",
        }
    }

    /// Number of files of the set for a guest with `guest_mem` bytes.
    pub fn file_count(self, guest_mem: u64) -> u32 {
        let half_files = guest_mem.div_ceil(u64::from(FILE_PAGES) * PAGE_SIZE as u64 / 2);
        let halves = match self {
            Self::Reread => half_files * 2,
            Self::Scan => half_files * 3 / 2,
        };
        u32::try_from(halves.div_ceil(2))
            .unwrap_or(SCAN_FIRST)
            .clamp(1, SCAN_FIRST)
    }

    /// The set's file number `index`.
    pub fn file(self, index: u32) -> DataFile {
        let first = match self {
            Self::Reread => 0,
            Self::Scan => SCAN_FIRST,
        };
        DataFile {
            path: format!("{}/{:02}/{:04}.dat", self.directory(), index / 64, index),
            file: first + index,
            pages: FILE_PAGES,
        }
    }
}

/// One generated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Relative to the data disk's root.
    pub path: String,
    /// The file's number for [`fill_page`].
    pub file: u32,
    /// Length in pages.
    pub pages: u32,
}

impl DataFile {
    /// Writes the whole file's content.
    ///
    /// # Errors
    /// What `out` reports.
    pub fn write_to(&self, seed: u64, out: &mut impl Write) -> io::Result<()> {
        let mut buffer = [0; PAGE_SIZE];
        for page in 0..self.pages {
            fill_page(seed, self.file, page, &mut buffer);
            out.write_all(&buffer)?;
        }
        Ok(())
    }
}

/// All generated files for a guest with `guest_mem` bytes of memory. Their content depends on the seed, the list does not.
pub fn files(guest_mem: u64) -> impl Iterator<Item = DataFile> {
    [Set::Reread, Set::Scan]
        .into_iter()
        .flat_map(move |set| (0..set.file_count(guest_mem)).map(move |index| set.file(index)))
}

#[cfg(test)]
#[path = "dataset_test.rs"]
mod tests;
