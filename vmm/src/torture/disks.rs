//! The disks of a tortured guest: files in memory, or in a temporary directory. Nobody needs them to survive, and every write
//! that the guest waits for would wait for this machine's disk.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use vtmem_images::{Silent, create_swap_disk, ensure_programs, find_program};

use super::FileSystem;

/// More than the files' size together needs; the least that mkfs.xfs makes is 300 MiB.
const DATA: u64 = 1 << 30;
/// What is not whole blocks the guest does not see.
const BLOCK: usize = 4096;

/// Data, swap, the guest's shell script, and operations to replay.
#[derive(Debug)]
pub struct Disks {
    directory: TempDir,
    replay: bool,
}

impl Disks {
    /// Makes them: `swap` bytes to swap to, `shell` for the guest's shell, and `replay` for the exerciser.
    ///
    /// # Errors
    /// A program that is missing or fails, a file that cannot be read or made, in one line.
    pub fn create(
        fs: FileSystem,
        swap: u64,
        shell: &str,
        replay: Option<&Path>,
    ) -> Result<Self, String> {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let directory = directory.map_err(|e| format!("no temporary directory: {e}"))?;
        let disks = Self {
            directory,
            replay: replay.is_some(),
        };
        let data = disks.path("data");
        File::create(&data)
            .and_then(|file| file.set_len(DATA))
            .map_err(|e| format!("{}: {e}", data.display()))?;
        let (program, package, options): (_, _, &[&str]) = match fs {
            FileSystem::Ext4 => (
                "mke2fs",
                "e2fsprogs",
                &["-q", "-F", "-t", "ext4", "-b", "4096"],
            ),
            FileSystem::Xfs => ("mkfs.xfs", "xfsprogs", &["-q", "-f"]),
        };
        ensure_programs(&[(program, package)], &mut Silent).map_err(|e| e.to_string())?;
        let path = find_program(program).unwrap_or_else(|| program.into());
        let made = Command::new(path).args(options).arg(&data).output();
        match made {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(format!("{program} failed: {}", said.trim()));
            }
            Err(error) => return Err(format!("{program}: {error}")),
        }
        create_swap_disk(&disks.path("swap"), swap).map_err(|e| e.to_string())?;
        disks.text("shell", shell.as_bytes().to_vec())?;
        if let Some(replay) = replay {
            let text = fs::read(replay).map_err(|e| format!("{}: {e}", replay.display()))?;
            disks.text("replay", text)?;
        }
        Ok(disks)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str, mut text: Vec<u8>) -> Result<(), String> {
        text.resize(text.len().next_multiple_of(BLOCK), b'\n');
        let path = self.path(name);
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Values of `vtmem run --disk`, in order.
    pub fn options(&self) -> Vec<String> {
        let mut disks = vec![
            format!("path={},cache=writeback", self.path("data").display()),
            format!("path={},cache=writeback", self.path("swap").display()),
            format!("path={},readonly", self.path("shell").display()),
        ];
        if self.replay {
            disks.push(format!("path={},readonly", self.path("replay").display()));
        }
        disks
    }
}
