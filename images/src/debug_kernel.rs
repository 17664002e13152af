//! The debug guest's kernel: Debian's sources with everything on that looks for mistakes (KASAN, lockdep, checks of
//! sleeping, of lists, of memory management), and with allocations and disks that fail when told to.

use crate::cache::{Cache, KeyBuilder};
use crate::command::{own_make, program, run, run_counting_lines};
use crate::error::{ImagesError, Result};
use crate::kernel::Kernel;
use crate::packages::{Apt, Package, Packages, ensure_programs};
use crate::progress::Progress;
use std::fs;
use std::path::Path;

/// What the kernel has; everything else is off.
const CONFIG: &str = include_str!("../debug-kernel/config");
const RECIPE: [&str; 2] = [include_str!("debug_kernel.rs"), CONFIG];
/// Programs that the kernel's build runs, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 8] = [
    ("make", "make"),
    ("gcc", "gcc"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("pahole", "dwarves"),
    ("xz", "xz-utils"),
    ("tar", "tar"),
];
/// A header that its own tools include, and the package that has it.
const HEADER: (&str, &str) = ("/usr/include/libelf.h", "libelf-dev");
/// What of the sources is not needed, and takes most of the time to unpack.
const LEFT_IN_PACKAGE: [&str; 2] = ["Documentation/*/*", "drivers/gpu/drm/amd/include"];
/// Kconfig leaves this out on x86-64, for unwinding was not reliable there in 2007. With frame pointers it is.
const STACK_FILTER: (&str, &str) = (
    "config FAULT_INJECTION_STACKTRACE_FILTER\n",
    "\tdepends on !X86_64\n",
);
/// Lines that the build prints, for the progress bar.
const BUILD_LINES: u64 = 1900;
/// Where modules look for what they may link to, and what the build calls it as long as there is no module.
const SYMBOLS: &str = "Module.symvers";
const SYMBOLS_OF_KERNEL: &str = "vmlinux.symvers";
/// What of the tree modules are built against.
const HEADERS: [&str; 7] = [
    ".config",
    "Makefile",
    SYMBOLS,
    "arch/x86",
    "include",
    "scripts",
    "tools/objtool",
];

/// The kernel and its headers, from the cache or built: that takes a quarter of an hour on two cores.
pub(crate) fn build(
    cache: &Cache,
    apt: &mut Apt,
    packages: &Packages,
    progress: &mut dyn Progress,
) -> Result<Kernel> {
    let package = &packages.source;
    let key = KeyBuilder::new()
        .add_recipe(&RECIPE)
        .add("package", &package.sha256)
        .finish();
    let entry = cache.entry("debug-kernel", &key, progress, |directory, progress| {
        ensure_programs(&PROGRAMS, progress)?;
        if !Path::new(HEADER.0).is_file() {
            return Err(ImagesError::MissingPackages {
                packages: vec![HEADER.1.to_owned()],
                command: format!("sudo apt-get install --no-install-recommends {}", HEADER.1),
            });
        }
        let tree = directory.join("tree");
        unpack(apt, package, &tree, progress)?;
        configure(&tree, progress)?;
        progress.step("building the debug kernel (minutes, once)");
        let mut make = own_make(&tree);
        make.args(["-j2", "vmlinux", "modules_prepare"]);
        run_counting_lines(&mut make, |lines| {
            progress.position(lines.min(BUILD_LINES), BUILD_LINES);
        })?;
        progress.step("keeping what the debug guest needs");
        // Debug information has become BTF; the rest of it is most of the file.
        run(program("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(directory.join("vmlinux"))
            .arg(tree.join("vmlinux")))?;
        let (from, to) = (tree.join(SYMBOLS_OF_KERNEL), tree.join(SYMBOLS));
        fs::rename(&from, &to).map_err(ImagesError::io("rename", &from))?;
        for part in HEADERS {
            let (from, to) = (tree.join(part), directory.join("headers").join(part));
            let parent = to.parent().unwrap_or(directory);
            fs::create_dir_all(parent).map_err(ImagesError::io("create", parent))?;
            fs::rename(&from, &to).map_err(ImagesError::io("rename", &from))?;
        }
        fs::remove_dir_all(&tree).map_err(ImagesError::io("remove", &tree))
    })?;
    let vmlinux = entry.join("vmlinux");
    Ok(Kernel {
        bootable: vmlinux.clone(),
        compressed: vmlinux,
        // Everything is built in.
        modules: None,
        headers: entry.join("headers"),
        identity: key.as_str().to_owned(),
    })
}

fn unpack(
    apt: &mut Apt,
    package: &Package,
    tree: &Path,
    progress: &mut dyn Progress,
) -> Result<()> {
    let outer = tree.with_extension("package");
    apt.unpack(package, &outer, progress)?;
    progress.step("unpacking the kernel's sources");
    fs::create_dir_all(tree).map_err(ImagesError::io("create", tree))?;
    let mut tar = program("tar");
    // The package is compressed in blocks, which all CPUs can unpack.
    tar.args(["--use-compress-program=xz -dT0", "-xf"])
        .arg(outer.join(format!("usr/src/{}.tar.xz", package.name)))
        .arg("-C")
        .arg(tree)
        .args(["--strip-components=1", "--no-same-owner"])
        .args(LEFT_IN_PACKAGE.map(|part| format!("--exclude={}/{part}", package.name)));
    run(&mut tar)?;
    fs::remove_dir_all(&outer).map_err(ImagesError::io("remove", &outer))
}

fn configure(tree: &Path, progress: &mut dyn Progress) -> Result<()> {
    progress.step("configuring the debug kernel");
    let path = tree.join("lib/Kconfig.debug");
    let text = fs::read_to_string(&path).map_err(ImagesError::io("read", &path))?;
    let text = without_line_after(&text, STACK_FILTER.0, STACK_FILTER.1);
    fs::write(&path, text).map_err(ImagesError::io("write", &path))?;
    let path = tree.join("debug.config");
    fs::write(&path, CONFIG).map_err(ImagesError::io("write", &path))?;
    let mut make = own_make(tree);
    make.arg("KCONFIG_ALLCONFIG=debug.config")
        .arg("allnoconfig");
    run(&mut make)?;
    let path = tree.join(".config");
    let config = fs::read_to_string(&path).map_err(ImagesError::io("read", &path))?;
    match refused(CONFIG, &config)[..] {
        [] => Ok(()),
        // Kconfig drops what depends on something that is off, and says nothing.
        ref options => Err(ImagesError::Other(format!(
            "the kernel's sources do not take these options of images/debug-kernel/config: {}",
            options.join(", ")
        ))),
    }
}

/// `text` without the first `line` behind `mark`, if there is one.
fn without_line_after(text: &str, mark: &str, line: &str) -> String {
    let found = text.find(mark).and_then(|mark| {
        let line = text[mark..].find(line)?;
        Some(mark + line)
    });
    match found {
        Some(at) => format!("{}{}", &text[..at], &text[at + line.len()..]),
        None => text.to_owned(),
    }
}

/// The options of `wanted` that `config` has not, or has otherwise.
fn refused<'a>(wanted: &'a str, config: &str) -> Vec<&'a str> {
    let lines: std::collections::BTreeSet<_> = config.lines().collect();
    wanted
        .lines()
        .filter(|line| line.starts_with("CONFIG_") && !lines.contains(line))
        .collect()
}

#[cfg(test)]
#[path = "debug_kernel_test.rs"]
mod tests;
