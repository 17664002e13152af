//! The way in: what to build from, and what can be had.

use crate::cache::{Cache, EntryInfo};
use crate::data_disk::{self, DataDisk, DataDiskSpec};
use crate::debug_kernel;
use crate::error::Result;
use crate::guest::{self, GuestImage};
use crate::kernel::{self, KernelSource};
use crate::lab::{self, LabImage};
use crate::packages::{Apt, Packages};
use crate::progress::Progress;
use std::path::PathBuf;

/// What images are made from.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The guest's kernel.
    pub kernel: KernelSource,
    /// The `vtmem-work` program; by default the one beside the running executable.
    pub work: Option<PathBuf>,
    /// The cache's directory; by default `vtmem` in the user's cache directory.
    pub cache: Option<PathBuf>,
    /// Take Debian's newest packages instead of those of the last build.
    pub update: bool,
    /// Modules of the kernel that the guest loads besides those that every guest needs.
    pub modules: Vec<String>,
    /// Have the driver built without one of the things that keep it coherent, to see that a test finds that.
    pub mutation: Option<String>,
}

/// Builds images, or finds them in the cache.
pub struct Images {
    options: Options,
    cache: Cache,
    packages: Option<Packages>,
}

impl Images {
    /// Opens the cache; builds nothing yet.
    ///
    /// # Errors
    /// The cache's directory cannot be made.
    pub fn open(options: Options) -> Result<Self> {
        let cache = Cache::open(options.cache.clone())?;
        Ok(Self {
            options,
            cache,
            packages: None,
        })
    }

    /// The guest's kernel and root file system, the driver in it.
    ///
    /// # Errors
    /// A package, program or file that is missing, a kernel that does not fit, a build that fails.
    pub fn guest(&mut self, progress: &mut dyn Progress) -> Result<GuestImage> {
        let packages = self.packages(progress)?;
        let mut apt = Apt::new(&self.cache);
        let kernel = match &self.options.kernel {
            KernelSource::Debian => kernel::debian(&self.cache, &mut apt, &packages, progress)?,
            KernelSource::Debug => debug_kernel::build(&self.cache, &mut apt, &packages, progress)?,
            KernelSource::Custom {
                kernel,
                headers,
                modules,
            } => kernel::custom(&self.cache, kernel, headers, modules.as_deref(), progress)?,
        };
        let work = guest::find_work(self.options.work.as_deref())?;
        let inputs = guest::Inputs {
            packages: &packages,
            kernel: &kernel,
            work: &work,
            modules: &self.options.modules,
            mutation: self.options.mutation.as_deref(),
        };
        guest::build(&self.cache, &mut apt, &inputs, progress)
    }

    /// The lab's kernel and root file system.
    ///
    /// # Errors
    /// As for [`Images::guest`].
    pub fn lab(&mut self, progress: &mut dyn Progress) -> Result<LabImage> {
        let packages = self.packages(progress)?;
        let mut apt = Apt::new(&self.cache);
        let kernel = kernel::debian(&self.cache, &mut apt, &packages, progress)?;
        lab::build(&self.cache, &mut apt, &packages, &kernel, progress)
    }

    /// The disk with the data of the workloads.
    ///
    /// # Errors
    /// As for [`Images::guest`]; a source tree that is too small for a guest of this size.
    pub fn data_disk(
        &mut self,
        spec: &DataDiskSpec,
        progress: &mut dyn Progress,
    ) -> Result<DataDisk> {
        let packages = self.packages(progress)?;
        let mut apt = Apt::new(&self.cache);
        data_disk::build(&self.cache, &mut apt, &packages, spec, progress)
    }

    fn packages(&mut self, progress: &mut dyn Progress) -> Result<Packages> {
        if let Some(packages) = &self.packages {
            return Ok(packages.clone());
        }
        let packages = Apt::new(&self.cache).packages(self.options.update, progress)?;
        self.packages = Some(packages.clone());
        Ok(packages)
    }

    /// What the cache holds.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn list(&self) -> Result<Vec<EntryInfo>> {
        self.cache.list()
    }

    /// Where the cache lies.
    pub fn root(&self) -> &std::path::Path {
        self.cache.root()
    }

    /// Removes what the cache holds, but for what another process is building; returns the bytes that this freed.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn clean(&mut self) -> Result<u64> {
        self.packages = None;
        Apt::new(&self.cache).forget()?;
        self.cache.clean()
    }
}
