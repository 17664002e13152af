//! A file of `/proc` that is open from the start, and read again and again.
//!
//! To Landlock such a file is another one when the kernel has dropped its caches: a confined process that could open it before may
//! not do so any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// More than any of them has; the kernel makes the text anew for each read from its start.
const LONGEST: usize = 16 << 10;

/// An open file whose text changes.
pub(super) struct Kept(File);

impl Kept {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, or may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Kept)
    }

    /// What it says now.
    ///
    /// # Errors
    /// It cannot be read: the kernel has it, and does not keep these figures.
    pub fn read(&self) -> io::Result<String> {
        let mut bytes = vec![0; LONGEST];
        let length = self.0.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        String::from_utf8(bytes).map_err(io::Error::other)
    }
}
