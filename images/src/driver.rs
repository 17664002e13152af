//! The guest driver, built for the guest's kernel from the sources that this binary carries.

use crate::cache::{Cache, KeyBuilder};
use crate::command::{program, run};
use crate::error::{ImagesError, Result};
use crate::kernel::Kernel;
use crate::packages::{Apt, Packages, ensure_programs};
use crate::progress::Progress;
use std::fs;
use std::path::{Path, PathBuf};

/// Name and content of the files in guest-driver/ that take part in the build.
const SOURCES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/driver_sources.rs"));
/// What the build makes.
const MODULE: &str = "virtio_tmem.ko";

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

/// `virtio_tmem.ko` for this kernel.
pub(crate) fn build(
    cache: &Cache,
    kernel: &Kernel,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    let mut key = KeyBuilder::new();
    key.add_recipe(&[include_str!("driver.rs")])
        .add("kernel", &kernel.identity);
    for (name, content) in SOURCES {
        key.add(name, content);
    }
    let entry = cache.entry("driver", &key.finish(), progress, |directory, progress| {
        let compiler = compiler(&kernel.headers);
        ensure_programs(
            &[
                (&compiler, &compiler),
                ("make", "make"),
                ("strip", "binutils"),
            ],
            progress,
        )?;
        progress.step("building the guest driver");
        let build = directory.join("build");
        for (name, content) in SOURCES {
            let path = build.join(name);
            let parent = path.parent().unwrap_or(&build);
            fs::create_dir_all(parent).map_err(ImagesError::io("create", parent))?;
            fs::write(&path, content).map_err(ImagesError::io("write", &path))?;
        }
        let mut make = program("make");
        // A make that runs us would otherwise hand on its own options and job server.
        for variable in [
            "MAKEFLAGS",
            "MFLAGS",
            "MAKELEVEL",
            "MAKEOVERRIDES",
            "ARCH",
            "CROSS_COMPILE",
        ] {
            make.env_remove(variable);
        }
        make.arg("-C")
            .arg(&kernel.headers)
            .arg(format!("M={}", build.display()));
        run(make.args(["-j2", "modules"]))?;
        let module = directory.join(MODULE);
        let built = build.join(MODULE);
        run(program("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(&module)
            .arg(&built))?;
        fs::remove_dir_all(&build).map_err(ImagesError::io("remove", &build))
    })?;
    Ok(entry.join(MODULE))
}

/// The compiler that the kernel was built with; modules must be built with the same.
fn compiler(headers: &Path) -> String {
    let config = fs::read_to_string(headers.join(".config")).unwrap_or_default();
    config
        .lines()
        .find_map(|line| line.strip_prefix("CONFIG_CC_VERSION_TEXT=\""))
        .and_then(|text| text.split_whitespace().next())
        .and_then(|name| name.rsplit("linux-gnu-").next())
        .filter(|name| name.starts_with("gcc-"))
        .unwrap_or("gcc")
        .to_owned()
}

/// Whether the driver's sources are there to be built.
pub(crate) fn has_sources() -> bool {
    SOURCES.iter().any(|(name, _)| *name == "Kbuild")
}
