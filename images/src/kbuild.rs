//! Kernel modules, built from sources that this binary carries, as the kernel's own build system does it.

use crate::cache::{Cache, KeyBuilder};
use crate::command::{own_make, run};
use crate::error::{ImagesError, Result};
use crate::kernel::Kernel;
use crate::packages::ensure_programs;
use crate::progress::Progress;
use std::fs;
use std::path::{Path, PathBuf};

/// A module to build.
pub(crate) struct Module<'a> {
    /// What its entries in the cache are called.
    pub kind: &'a str,
    /// Its name, without `.ko`.
    pub name: &'a str,
    /// Names and contents of its files, the Kbuild file among them.
    pub sources: &'a [(&'a str, &'a [u8])],
    /// What the user is told meanwhile.
    pub step: &'a str,
    /// `NAME=VALUE` for make, if the Kbuild file asks for it.
    pub variable: Option<String>,
}

impl Module<'_> {
    /// The module's file for this kernel.
    pub fn build(
        &self,
        cache: &Cache,
        kernel: &Kernel,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf> {
        let file = format!("{}.ko", self.name);
        let mut key = KeyBuilder::new();
        key.add_recipe(&[include_str!("kbuild.rs")])
            .add("kernel", &kernel.identity);
        for (name, content) in self.sources {
            key.add(name, content);
        }
        if let Some(variable) = &self.variable {
            key.add("variable", variable);
        }
        let key = key.finish();
        let entry = cache.entry(self.kind, &key, progress, |directory, progress| {
            let compiler = compiler(&kernel.headers);
            ensure_programs(&[(&compiler, &compiler), ("make", "make")], progress)?;
            progress.step(self.step);
            let build = directory.join("build");
            for (name, content) in self.sources {
                let path = build.join(name);
                let parent = path.parent().unwrap_or(&build);
                fs::create_dir_all(parent).map_err(ImagesError::io("create", parent))?;
                fs::write(&path, content).map_err(ImagesError::io("write", &path))?;
            }
            let mut make = own_make(&kernel.headers);
            // No debug information, and no paths of this machine: equal sources make equal modules.
            let flags = format!("KCFLAGS=-g0 -ffile-prefix-map={}=.", build.display());
            make.arg(format!("M={}", build.display()))
                .arg(flags)
                .args(&self.variable);
            run(make.args(["-j2", "modules"]))?;
            let built = build.join(&file);
            fs::rename(&built, directory.join(&file)).map_err(ImagesError::io("rename", &built))?;
            fs::remove_dir_all(&build).map_err(ImagesError::io("remove", &build))
        })?;
        Ok(entry.join(file))
    }
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
