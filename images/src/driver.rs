//! The guest driver, built for the guest's kernel from the sources that this binary carries.

use crate::cache::{Cache, KeyBuilder};
use crate::error::{ImagesError, Result};
use crate::kbuild::Module;
use crate::kernel::Kernel;
use crate::packages::{Apt, Packages};
use crate::progress::Progress;
use std::fs;
use std::path::PathBuf;

/// Name and content of the files in guest-driver/ that take part in the build.
const SOURCES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/driver_sources.rs"));

/// Debian's kernel headers, unpacked where they need no root.
pub(crate) fn debian_headers(
    cache: &Cache,
    apt: &mut Apt,
    packages: &Packages,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    let mut key = KeyBuilder::new();
    key.add_recipe(&[include_str!("driver.rs")]);
    for package in &packages.headers {
        key.add("package", &package.sha256);
    }
    let [flavour, common, _] = &packages.headers[..] else {
        return Err(ImagesError::Other(
            "the kernel's headers are not three packages".to_owned(),
        ));
    };
    let entry = cache.entry("headers", &key.finish(), progress, |directory, progress| {
        for package in &packages.headers {
            apt.unpack(package, directory, progress)?;
        }
        // The package expects to lie in /usr/src; a path relative to its own Makefile holds anywhere.
        let makefile = directory
            .join("usr/src")
            .join(&flavour.name)
            .join("Makefile");
        let place = "$(dir $(lastword $(MAKEFILE_LIST)))";
        let text = format!("include {place}../{}/Makefile\n", common.name);
        fs::write(&makefile, text).map_err(ImagesError::io("write", &makefile))
    })?;
    Ok(entry.join("usr/src").join(&flavour.name))
}

/// `virtio_tmem.ko` for this kernel; with a `mutation`, without what that names.
pub(crate) fn build(
    cache: &Cache,
    kernel: &Kernel,
    mutation: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    let module = Module {
        kind: "driver",
        name: "virtio_tmem",
        sources: SOURCES,
        step: "building the guest driver",
        variable: mutation.map(|name| format!("VTMEM_MUTATE={name}")),
    };
    module.build(cache, kernel, progress)
}

/// Whether the driver's sources are there to be built.
pub(crate) fn has_sources() -> bool {
    SOURCES.iter().any(|(name, _)| *name == "Kbuild")
}
