//! `misaligned`: direct writes to each file of a folder that fail before anything is written, as any user may ask for.

use crate::context::about;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Asks for one of each file; returns of how many.
///
/// # Errors
/// A file cannot be opened, or such a write does not fail as it should.
pub fn run(directory: &Path) -> io::Result<u64> {
    let mut files = 0;
    for entry in fs::read_dir(directory).map_err(about(directory.display()))? {
        let path = entry?.path();
        let mut options = OpenOptions::new();
        let options = options.write(true).custom_flags(libc::O_DIRECT);
        let file = options.open(&path).map_err(about(path.display()))?;
        match file.write_at(&[0; 100], 1) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => files += 1,
            other => {
                let what = format!("{}: a misaligned write: {other:?}", path.display());
                return Err(io::Error::other(what));
            }
        }
    }
    Ok(files)
}
