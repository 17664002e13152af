//! What of a machine's description cannot be meant at once. The API, files and the command line ask here, all of them before
//! anything is started.

use super::config::VmConfig;
use super::disks::NamedDisk;
use crate::boot::layout;
use crate::file_use::{self, FileUse};

impl VmConfig {
    /// Whether all of it can be meant at once.
    ///
    /// # Errors
    /// Two of the values contradict each other; names both.
    pub fn check(&self) -> Result<(), String> {
        self.check_with(&[])
    }

    /// The same, where files are used that are no part of the machine.
    ///
    /// # Errors
    /// Two of the values contradict each other; names both.
    pub fn check_with(&self, others: &[FileUse<'_>]) -> Result<(), String> {
        if let Some(tmem) = &self.tmem {
            tmem.check_new().map_err(|error| format!("tmem: {error}"))?;
        }
        let most = layout::MAX_VIRTIO;
        let disks = self.disks.len();
        match &self.tmem {
            Some(_) if disks + 1 > most => {
                return Err(format!(
                    "{most} devices fit, and {disks} disks and tmem are more; leave out a disk, or tmem"
                ));
            }
            None if disks > most => {
                return Err(format!(
                    "{most} devices fit, and {disks} disks are more; leave out some"
                ));
            }
            _ => {}
        }
        for (number, disk) in self.disks.iter().enumerate() {
            if self.disks[..number].iter().any(|other| other.id == disk.id) {
                return Err(format!("two disks have the id {:?}", disk.id.as_str()));
            }
        }
        let mut uses = self.files();
        uses.extend_from_slice(others);
        file_use::check(&uses)
    }

    /// The files that the machine uses.
    fn files(&self) -> Vec<FileUse<'_>> {
        let mut files = vec![];
        if let Some(boot) = &self.boot_source {
            files.push(FileUse::read("the kernel", &boot.kernel));
            let initrd = boot.initrd.as_deref();
            files.extend(initrd.map(|path| FileUse::read("the initrd", path)));
        }
        files.extend(self.disks.iter().map(|NamedDisk { id, disk }| FileUse {
            written: !disk.readonly,
            ..FileUse::read(format!("disk {}", id.as_str()), &disk.path)
        }));
        let spill = self.tmem.iter().flat_map(|tmem| &tmem.spill);
        files.extend(spill.map(|spill| FileUse::written("tmem's spill", &spill.path)));
        files
    }
}

#[cfg(test)]
#[path = "contradictions_test.rs"]
mod tests;
