//! The lab's root file system: what an emulated host needs to offer a `/dev/kvm` and disks of a given latency.

use crate::cache::{Cache, KeyBuilder};
use crate::error::{ImagesError, Result};
use crate::guest::{RECIPE, find, write};
use crate::kbuild::Module;
use crate::kernel::Kernel;
use crate::lab_clock;
use crate::modules::Modules;
use crate::packages::{Apt, Packages};
use crate::progress::Progress;
use std::fs;
use std::path::PathBuf;

/// What the lab runs as its first process.
const INIT: &str = include_str!("../lab/init");
/// The modules that it loads, after those that these depend on.
const MODULES: [&str; 8] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "nfit",
    "nd_pmem",
    "configfs",
    "null_blk",
    "kvm-amd",
];
/// Without this, null_blk begins with a disk of its own making.
const PARAMETERS: [(&str, &str); 1] = [("null_blk.ko", "nr_devices=0")];

/// Our own module, loaded after them: see its source.
const MODULE: Module = Module {
    kind: "lab-module",
    name: "vtmem_lab",
    sources: &[
        ("Kbuild", include_bytes!("../lab/module/Kbuild")),
        ("vtmem_lab.c", include_bytes!("../lab/module/vtmem_lab.c")),
    ],
    step: "building the lab's module",
    variable: None,
};

/// What a lab boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabImage {
    /// The kernel, a bzImage.
    pub kernel: PathBuf,
    /// The root file system; archives appended to it add files.
    pub initrd: PathBuf,
    /// Library to preload into QEMU under the virtual clock.
    pub clock: PathBuf,
}

pub(crate) fn build(
    cache: &Cache,
    apt: &mut Apt,
    packages: &Packages,
    kernel: &Kernel,
    progress: &mut dyn Progress,
) -> Result<LabImage> {
    let module = MODULE.build(cache, kernel, progress)?;
    let key = KeyBuilder::new()
        .add_recipe(&RECIPE)
        .add_recipe(&[include_str!("lab.rs")])
        .add("init", INIT)
        .add("kernel", &kernel.identity)
        .add("busybox", &packages.busybox.sha256)
        .add_file("module", &module)?
        .finish();
    let entry = cache.entry("lab", &key, progress, |directory, progress| {
        let unpacked = directory.join("unpacked");
        apt.unpack(&packages.busybox, &unpacked, progress)?;
        progress.step("writing the lab's root file system");
        let mut modules = match &kernel.modules {
            Some(modules) => Modules::open(modules)?.load_order(&MODULES)?,
            None => Vec::new(),
        };
        modules.push(module);
        write(&directory.join("initrd"), |archive| {
            archive.add_base(INIT)?;
            archive.add_file("bin/busybox", 0o755, &find(&unpacked, "busybox")?)?;
            archive.add_modules(&modules, &PARAMETERS)
        })?;
        fs::remove_dir_all(&unpacked).map_err(ImagesError::io("remove", &unpacked))
    })?;
    Ok(LabImage {
        kernel: kernel.compressed.clone(),
        initrd: entry.join("initrd"),
        clock: lab_clock::build(cache, progress)?,
    })
}
