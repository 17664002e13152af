//! All guests on this host, one after the other.

use std::path::Path;

use tempfile::{NamedTempFile, TempPath};
use vtmem_images::create_swap_disk;

use super::Settings;
use super::guest::{self, Parts};
use super::progress::Bars;
use super::result::Comparison;
use super::stop::Stop;

/// An empty file to swap to, removed when dropped.
#[derive(Debug)]
pub struct SwapFile {
    path: TempPath,
    bytes: u64,
}

impl SwapFile {
    /// Makes one of `bytes` in `directory`.
    ///
    /// # Errors
    /// No file can be made there, in one line.
    pub fn create(directory: &Path, bytes: u64) -> Result<Self, String> {
        let file = NamedTempFile::with_prefix_in("swap-", directory).map_err(|error| {
            format!("{}: no swap disk can be made: {error}", directory.display())
        })?;
        let path = file.into_temp_path();
        let swap = Self { path, bytes };
        swap.empty()?;
        Ok(swap)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it as it was at first.
    fn empty(&self) -> Result<(), String> {
        create_swap_disk(&self.path, self.bytes).map_err(|error| error.to_string())
    }
}

/// Runs every variant in a guest of its own, each with the swap disk as empty as it was for the first if that is `own_swap`.
///
/// # Errors
/// The host lacks something, in one line; whatever befalls a guest is part of the comparison.
pub fn run(
    settings: &Settings,
    parts: &Parts,
    own_swap: Option<&SwapFile>,
    stop: &Stop,
    bars: &Bars,
) -> Result<Comparison, String> {
    let mut comparison = settings.empty_comparison("kvm", None);
    let waiting: Vec<_> = settings
        .variants
        .iter()
        .map(|&variant| (variant, bars.add(variant, settings.workloads.len())))
        .collect();
    for (variant, bar) in waiting {
        if stop.signal().is_some() {
            break;
        }
        if let Some(swap) = own_swap {
            swap.empty()?;
        }
        bar.stage("booting");
        let outcome = guest::run(settings, variant, parts, stop, |event| bar.event(event))?;
        bar.end(outcome.problems.is_empty());
        comparison.runs.extend(outcome.runs);
        comparison.problems.extend(outcome.problems);
    }
    comparison.sort();
    Ok(comparison)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_file_can_be_emptied_and_goes_away() {
        let directory = tempfile::tempdir().unwrap();
        let swap = SwapFile::create(directory.path(), 1 << 20).unwrap();
        let path = swap.path().to_owned();
        std::fs::write(&path, "used").unwrap();
        swap.empty().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), vec![0; 1 << 20]);
        drop(swap);
        assert!(!path.exists());
        assert!(SwapFile::create(Path::new("/no/such"), 1).is_err());
    }
}
