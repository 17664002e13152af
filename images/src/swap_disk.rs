//! The swap disk: empty, and sparse where the file system allows.

use crate::error::{ImagesError, Result};
use std::fs::File;
use std::path::Path;

/// Creates a disk of `bytes` zeros at `path`.
///
/// # Errors
/// A file that cannot be created or does not fit.
pub fn create_swap_disk(path: &Path, bytes: u64) -> Result<()> {
    File::create(path)
        .and_then(|file| file.set_len(bytes.next_multiple_of(1 << 20)))
        .map_err(ImagesError::io("create", path))
}
