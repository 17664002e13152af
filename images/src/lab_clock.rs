//! The library that stops the emulator's clock: see its source.

use crate::cache::{Cache, KeyBuilder};
use crate::command::{program, run};
use crate::error::{ImagesError, Result};
use crate::packages::ensure_programs;
use crate::progress::Progress;
use std::fs;
use std::path::PathBuf;

const SOURCE: &str = include_str!("../lab/clock/clock.c");
const COMPILER: &str = "gcc";
const FILE: &str = "clock.so";

/// A shared library to preload into QEMU.
pub(crate) fn build(cache: &Cache, progress: &mut dyn Progress) -> Result<PathBuf> {
    let key = KeyBuilder::new()
        .add_recipe(&[include_str!("lab_clock.rs")])
        .add("source", SOURCE)
        .finish();
    let entry = cache.entry("lab-clock", &key, progress, |directory, progress| {
        ensure_programs(&[(COMPILER, COMPILER)], progress)?;
        progress.step("building the lab's clock");
        let source = directory.join("clock.c");
        fs::write(&source, SOURCE).map_err(ImagesError::io("write", &source))?;
        let mut compile = program(COMPILER);
        compile
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror"])
            .arg("-o")
            .arg(directory.join(FILE))
            .arg(&source);
        run(&mut compile)?;
        fs::remove_file(&source).map_err(ImagesError::io("remove", &source))
    })?;
    Ok(entry.join(FILE))
}
