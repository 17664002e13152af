//! The guest's root file system: an initramfs with busybox, GNU grep, the workloads, the driver, and an init script.

use crate::cache::{Cache, KeyBuilder};
use crate::cpio::Writer;
use crate::driver;
use crate::error::{ImagesError, Result};
use crate::kernel::Kernel;
use crate::modules::Modules;
use crate::packages::{Apt, Package, Packages};
use crate::progress::Progress;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// What the guest runs as its first process.
const INIT: &str = include_str!("../guest/init");
/// The modules that every guest loads, in this order.
const MODULES: [&str; 4] = ["virtio_ring", "virtio", "virtio_mmio", "virtio_blk"];
/// The programs' shared libraries.
const LIBRARIES: [&str; 3] = ["ld-linux-x86-64.so.2", "libc.so.6", "libpcre2-8.so.0"];
/// Where the C library looks for libraries on Debian.
const LIBRARY_DIR: &str = "lib/x86_64-linux-gnu";

/// What the content of every initramfs depends on.
pub(crate) const RECIPE: [&str; 3] = [
    include_str!("guest.rs"),
    include_str!("cpio.rs"),
    include_str!("modules.rs"),
];

/// What a guest boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestImage {
    /// The kernel: an ELF file with a PVH entry point where it could be had, else a bzImage.
    pub kernel: PathBuf,
    /// The root file system.
    pub initrd: PathBuf,
}

/// The workloads' program: the one named, or the one beside this executable.
pub(crate) fn find_work(named: Option<&Path>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => {
            let own = std::env::current_exe().map_err(ImagesError::io("find", "/proc/self/exe"))?;
            own.with_file_name("vtmem-work")
        }
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(ImagesError::Other(format!(
        "{} is not there; build it with `cargo build --release --workspace`, or name it with --work",
        path.display()
    )))
}

/// What a guest's image is made from.
pub(crate) struct Inputs<'a> {
    pub packages: &'a Packages,
    pub kernel: &'a Kernel,
    /// The workloads' program.
    pub work: &'a Path,
    /// Modules to load besides those of every guest.
    pub modules: &'a [String],
    /// What the driver is to be built without.
    pub mutation: Option<&'a str>,
}

pub(crate) fn build(
    cache: &Cache,
    apt: &mut Apt,
    inputs: &Inputs<'_>,
    progress: &mut dyn Progress,
) -> Result<GuestImage> {
    let &Inputs {
        packages,
        kernel,
        work,
        ..
    } = inputs;
    let driver = if driver::has_sources() {
        Some(driver::build(cache, kernel, inputs.mutation, progress)?)
    } else {
        None
    };
    let mut key = KeyBuilder::new();
    key.add_recipe(&RECIPE)
        .add("init", INIT)
        .add("kernel", &kernel.identity)
        .add("busybox", &packages.busybox.sha256);
    for package in &packages.grep {
        key.add("grep", &package.sha256);
    }
    if let Some(driver) = &driver {
        key.add_file("driver", driver)?;
    }
    for module in inputs.modules {
        key.add("module", module);
    }
    let key = key.add_file("work", work)?.finish();
    let entry = cache.entry("guest", &key, progress, |directory, progress| {
        let unpacked = directory.join("unpacked");
        let mut unpack = |package: &Package| apt.unpack(package, &unpacked, progress);
        unpack(&packages.busybox)?;
        packages.grep.iter().try_for_each(&mut unpack)?;
        progress.step("writing the guest's root file system");
        let path = directory.join("initrd");
        write(&path, |archive| {
            archive.add_base(INIT)?;
            archive.add_file("bin/busybox", 0o755, &find(&unpacked, "busybox")?)?;
            archive.add_file("usr/bin/grep", 0o755, &find(&unpacked, "grep")?)?;
            for library in LIBRARIES {
                let file = find(&unpacked, library)?;
                archive.add_file(&format!("{LIBRARY_DIR}/{library}"), 0o755, &file)?;
            }
            let loader = format!("/{LIBRARY_DIR}/{}", LIBRARIES[0]);
            archive.put(|cpio| cpio.symlink("lib64/ld-linux-x86-64.so.2", &loader))?;
            archive.add_file("bin/vtmem-work", 0o755, work)?;
            let mut wanted = MODULES.to_vec();
            wanted.extend(inputs.modules.iter().map(String::as_str));
            let modules = match &kernel.modules {
                Some(modules) => Modules::open(modules)?.load_order(&wanted)?,
                None => Vec::new(),
            };
            archive.add_modules(&modules, &[])?;
            match &driver {
                Some(driver) => archive.add_file("modules/virtio_tmem.ko", 0o644, driver),
                None => Ok(()),
            }
        })?;
        fs::remove_dir_all(&unpacked).map_err(ImagesError::io("remove", &unpacked))
    })?;
    Ok(GuestImage {
        kernel: kernel.bootable.clone(),
        initrd: entry.join("initrd"),
    })
}

/// Writes an initramfs; errors name the archive.
pub(crate) fn write(path: &Path, fill: impl FnOnce(&mut Archive) -> Result<()>) -> Result<()> {
    let file = File::create(path).map_err(ImagesError::io("create", path))?;
    let mut archive = Archive {
        path,
        cpio: Writer::new(BufWriter::new(file)),
    };
    fill(&mut archive)?;
    let flushed = archive.cpio.finish().and_then(|mut out| out.flush());
    flushed.map_err(ImagesError::io("write", path))
}

/// An initramfs that is being written.
pub(crate) struct Archive<'a> {
    path: &'a Path,
    cpio: Writer<BufWriter<File>>,
}

impl Archive<'_> {
    /// Adds through the archive's own interface.
    pub fn put(
        &mut self,
        add: impl FnOnce(&mut Writer<BufWriter<File>>) -> io::Result<()>,
    ) -> Result<()> {
        add(&mut self.cpio).map_err(ImagesError::io("write", self.path))
    }

    /// What every root file system has: mount points, the console, the init script.
    pub fn add_base(&mut self, init: &str) -> Result<()> {
        self.put(|cpio| {
            for directory in [
                "bin", "dev", "proc", "sys", "tmp", "data", "mnt", "etc", "root", "run",
            ] {
                cpio.directory(directory)?;
            }
            // The first process's standard input and output, before anything is mounted.
            cpio.character_device("dev/console", 5, 1)?;
            cpio.file("init", 0o755, init.as_bytes())
        })
    }

    /// Adds a copy of a file of this machine.
    pub fn add_file(&mut self, name: &str, permissions: u32, from: &Path) -> Result<()> {
        let content = fs::read(from).map_err(ImagesError::io("read", from))?;
        self.put(|cpio| cpio.file(name, permissions, &content))
    }

    /// Adds modules, and `modules/order` that lists them as they are to be loaded, with their parameters.
    pub fn add_modules(&mut self, modules: &[PathBuf], parameters: &[(&str, &str)]) -> Result<()> {
        let mut order = String::new();
        for module in modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            self.add_file(&format!("modules/{name}"), 0o644, module)?;
            let its = parameters.iter().find(|(module, _)| *module == name);
            order += &format!("{name} {}\n", its.map_or("", |(_, parameters)| parameters));
        }
        self.put(|cpio| cpio.file("modules/order", 0o644, order.as_bytes()))
    }
}

/// The file called `name` in one of the usual places below `root`.
pub(crate) fn find(root: &Path, name: &str) -> Result<PathBuf> {
    ["bin", "usr/bin", LIBRARY_DIR, "usr/lib/x86_64-linux-gnu"]
        .into_iter()
        .map(|directory| root.join(directory).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| ImagesError::Other(format!("Debian's packages have no {name}")))
}
