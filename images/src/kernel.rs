//! The guest's kernel: Debian's cloud kernel, or one that the user names.

use crate::bzimage::{self, BzImageError};
use crate::cache::{Cache, KeyBuilder};
use crate::driver;
use crate::error::{ImagesError, Result};
use crate::packages::{Apt, Packages};
use crate::progress::Progress;
use std::fs;
use std::path::{Path, PathBuf};

const RECIPE: [&str; 2] = [include_str!("kernel.rs"), include_str!("bzimage.rs")];

/// Where the guest's kernel comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KernelSource {
    /// The newest cloud kernel of the Debian that this machine runs.
    #[default]
    Debian,
    /// Debian's sources, built with everything on that looks for mistakes: see `images/debug-kernel/config`.
    Debug,
    /// A kernel built elsewhere.
    Custom {
        /// vmlinux or bzImage.
        kernel: PathBuf,
        /// What modules for it are built against: the directory that `/lib/modules/RELEASE/build` leads to.
        headers: PathBuf,
        /// Its modules: the directory `lib/modules/RELEASE`. None when virtio-mmio and virtio-blk are built in.
        modules: Option<PathBuf>,
    },
}

/// A kernel that is ready for use.
pub(crate) struct Kernel {
    /// ELF where it could be had, else bzImage.
    pub bootable: PathBuf,
    /// The bzImage of Debian's package, which the lab boots.
    pub compressed: PathBuf,
    pub modules: Option<PathBuf>,
    /// For building modules.
    pub headers: PathBuf,
    /// Stands for all of the above in the keys of what is built from them.
    pub identity: String,
}

pub(crate) fn debian(
    cache: &Cache,
    apt: &mut Apt,
    packages: &Packages,
    progress: &mut dyn Progress,
) -> Result<Kernel> {
    let package = &packages.kernel;
    let key = KeyBuilder::new()
        .add_recipe(&RECIPE)
        .add("package", &package.sha256)
        .finish();
    let entry = cache.entry("kernel", &key, progress, |directory, progress| {
        let unpacked = directory.join("unpacked");
        apt.unpack(package, &unpacked, progress)?;
        progress.step("unpacking the kernel");
        let bzimage = only_file(&unpacked.join("boot"), "vmlinuz-")?;
        let content = fs::read(&bzimage).map_err(ImagesError::io("read", &bzimage))?;
        let elf = bzimage::vmlinux(&content).map_err(|error| not_usable(&bzimage, &error))?;
        let vmlinux = directory.join("vmlinux");
        fs::write(&vmlinux, elf).map_err(ImagesError::io("write", &vmlinux))?;
        let move_to = |from: &Path, name: &str| {
            fs::rename(from, directory.join(name)).map_err(ImagesError::io("rename", from))
        };
        move_to(&bzimage, "bzImage")?;
        let modules = ["lib/modules", "usr/lib/modules"]
            .map(|place| unpacked.join(place))
            .into_iter()
            .find(|place| place.is_dir())
            .ok_or_else(|| ImagesError::Other(format!("{} has no modules", package.name)))?;
        move_to(&only_file(&modules, "")?, "modules")?;
        fs::remove_dir_all(&unpacked).map_err(ImagesError::io("remove", &unpacked))
    })?;
    let headers = driver::debian_headers(cache, apt, packages, progress)?;
    Ok(Kernel {
        bootable: entry.join("vmlinux"),
        compressed: entry.join("bzImage"),
        modules: Some(entry.join("modules")),
        headers,
        identity: package.sha256.clone(),
    })
}

pub(crate) fn custom(
    cache: &Cache,
    kernel: &Path,
    headers: &Path,
    modules: Option<&Path>,
    progress: &mut dyn Progress,
) -> Result<Kernel> {
    let content = fs::read(kernel).map_err(ImagesError::io("read", kernel))?;
    let has = |directory: &Path, name: &str| {
        let there = directory.join(name).try_exists();
        there.map_err(ImagesError::io("look at", directory))
    };
    if !has(headers, "Makefile")? {
        return Err(ImagesError::Other(format!(
            "{}: no kernel headers here (no Makefile); give the directory that /lib/modules/RELEASE/build leads to",
            headers.display()
        )));
    }
    if let Some(modules) = modules
        && !has(modules, "kernel")?
    {
        return Err(ImagesError::Other(format!(
            "{}: no kernel modules here (no directory `kernel`); give lib/modules/RELEASE",
            modules.display()
        )));
    }
    let mut identity = KeyBuilder::new();
    identity.add_recipe(&RECIPE).add("kernel", &content);
    // The symbol versions stand for the whole of the headers: they change with every interface of the kernel.
    for file in ["Module.symvers", ".config", "include/config/kernel.release"] {
        identity.add(file, fs::read(headers.join(file)).unwrap_or_default());
    }
    let list = modules.map(|modules| fs::read(modules.join("modules.order")).unwrap_or_default());
    identity.add("modules", list.unwrap_or_default());
    let identity = identity.finish();
    let bootable = match bzimage::vmlinux(&content) {
        Ok(elf) => {
            let entry = cache.entry("kernel", &identity, progress, |directory, _| {
                let path = directory.join("vmlinux");
                fs::write(&path, elf).map_err(ImagesError::io("write", &path))
            })?;
            entry.join("vmlinux")
        }
        // Slower to boot, but it boots.
        Err(BzImageError::NotLz4) => absolute(kernel)?,
        Err(error) => return Err(not_usable(kernel, &error)),
    };
    Ok(Kernel {
        bootable,
        compressed: absolute(kernel)?,
        modules: modules.map(Path::to_owned),
        headers: absolute(headers)?,
        identity: identity.as_str().to_owned(),
    })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(ImagesError::io("find", path))
}

fn not_usable(path: &Path, error: &BzImageError) -> ImagesError {
    ImagesError::Kernel {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

/// The entry of `directory` whose name begins with `prefix`.
fn only_file(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).map_err(ImagesError::io("read", directory))?;
    entries
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .ok_or_else(|| ImagesError::Other(format!("{} has no {prefix}*", directory.display())))
}
