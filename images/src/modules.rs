//! Kernel modules: where they are, and what must be loaded before them.

use crate::error::{ImagesError, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of one kernel, below its `lib/modules/RELEASE`.
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Lists the modules below `directory`.
    pub fn open(directory: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut pending = vec![directory.to_owned()];
        while let Some(path) = pending.pop() {
            for entry in fs::read_dir(&path).map_err(ImagesError::io("read", &path))? {
                let entry = entry.map_err(ImagesError::io("read", &path))?;
                let kind = entry.file_type().map_err(ImagesError::io("read", &path))?;
                if kind.is_dir() {
                    pending.push(entry.path());
                } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
                    files.insert(name, entry.path());
                }
            }
        }
        let list = fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
        let builtin = list
            .lines()
            .filter_map(|line| module_name(line.rsplit('/').next().unwrap_or(line)))
            .collect();
        Ok(Self { files, builtin })
    }

    /// The files to load for `wanted`, each after those it depends on. What is built into the kernel needs no file.
    pub fn load_order(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.visit(name, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let name = name.replace('-', "_");
        // Marked before its dependencies are visited: a circle ends here.
        if !seen.insert(name.clone()) || self.builtin.contains(&name) {
            return Ok(());
        }
        let path = self.files.get(&name).ok_or_else(|| {
            ImagesError::Other(format!(
                "the kernel has no module {name}, neither as a file nor built in"
            ))
        })?;
        let content = fs::read(path).map_err(ImagesError::io("read", path))?;
        for dependency in dependencies(&content) {
            self.visit(&dependency, seen, order)?;
        }
        order.push(path.clone());
        Ok(())
    }
}

/// `virtio_blk` for `virtio-blk.ko`: the kernel takes both characters for the same.
fn module_name(file: &str) -> Option<String> {
    file.strip_suffix(".ko").map(|name| name.replace('-', "_"))
}

/// The names in a module's own `depends=` (section .modinfo, zero-terminated strings).
fn dependencies(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(place) = module
        .windows(FIELD.len())
        .position(|window| window == FIELD)
    else {
        return Vec::new();
    };
    let value = module[place + FIELD.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
#[path = "modules_test.rs"]
mod tests;
