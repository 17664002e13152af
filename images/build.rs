//! Embeds the guest driver's sources, so that the binary can build the module for whatever kernel the guests get.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Whether a file of the driver's directory takes part in its build.
fn is_source(name: &str) -> bool {
    name == "Kbuild" || name.ends_with(".h") || (name.ends_with(".c") && !name.ends_with(".mod.c"))
}

/// All source files below `directory`, relative to `root`.
fn collect(root: &Path, directory: &Path, found: &mut Vec<String>) {
    println!("cargo::rerun-if-changed={}", directory.display());
    for entry in fs::read_dir(directory).expect("read the driver's directory") {
        let entry = entry.expect("read the driver's directory");
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if is_source(&entry.file_name().to_string_lossy()) {
            let relative = path.strip_prefix(root).expect("below the root");
            found.push(relative.to_str().expect("names are ASCII").to_owned());
        }
    }
}

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let root = manifest
        .join("../guest-driver")
        .canonicalize()
        .expect("guest-driver lies beside images");
    let mut files = Vec::new();
    collect(&root, &root, &mut files);
    files.sort();

    let mut table = String::from("&[\n");
    for file in &files {
        writeln!(table, "({file:?}, include_bytes!({:?})),", root.join(file))
            .expect("writing to a string");
    }
    table.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    fs::write(out.join("driver_sources.rs"), table).expect("write the table");
}
