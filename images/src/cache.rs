//! The cache of everything that is built: one directory an entry, named after what went into it.
//!
//! An entry is built in a directory beside its final place, stamped with the sizes of its files, made durable, and then
//! renamed. Whatever is found without a stamp, or differs from it, is what an interrupted build left: it is built anew.

use crate::error::{ImagesError, Result};
use crate::progress::Progress;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The file that a complete entry has.
const STAMP: &str = ".complete";
/// First line of a stamp; part of every key too, so that another layout means other entries.
const FORMAT: &str = "vtmem-image 1";
/// What a directory that is still being built is called.
const PARTIAL: &str = "partial-";

/// Identifies an entry: a digest of everything that the build reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The digest in hexadecimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Collects the inputs of a build.
pub struct KeyBuilder(Sha256);

impl KeyBuilder {
    /// No inputs yet but this package's version and layout.
    pub fn new() -> Self {
        let mut builder = Self(Sha256::new());
        builder
            .add("format", FORMAT)
            .add("version", env!("CARGO_PKG_VERSION"));
        builder
    }

    /// Adds an input.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        // Lengths go in first: no two lists of inputs may yield the same bytes.
        for part in [name.as_bytes(), value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds the content of a file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn add_file(&mut self, name: &str, path: &Path) -> Result<&mut Self> {
        let digest = Self::file_digest(path)?;
        Ok(self.add(name, digest))
    }

    /// SHA-256 of a file, in hexadecimal.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn file_digest(path: &Path) -> Result<String> {
        let mut digest = Sha256::new();
        let mut file = File::open(path).map_err(ImagesError::io("open", path))?;
        std::io::copy(&mut file, &mut digest).map_err(ImagesError::io("read", path))?;
        Ok(hexadecimal(digest.finalize()))
    }

    /// The key.
    pub fn finish(&mut self) -> Key {
        Key(hexadecimal(self.0.finalize_reset()))
    }
}

fn hexadecimal(bytes: impl IntoIterator<Item = u8>) -> String {
    let mut hex = String::new();
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

impl Default for KeyBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// What [`Cache::list`] reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryInfo {
    /// Kind and key.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Whether it can be used; otherwise an interrupted build left it.
    pub complete: bool,
}

/// A directory of entries.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in `root`, or in the user's cache directory (`$XDG_CACHE_HOME/vtmem`, else `~/.cache/vtmem`).
    ///
    /// # Errors
    /// Neither variable is set, or the directory cannot be made.
    pub fn open(root: Option<PathBuf>) -> Result<Self> {
        let root = match root {
            Some(root) => root,
            None => default_root(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))?,
        };
        fs::create_dir_all(&root).map_err(ImagesError::io("create", &root))?;
        let root = root
            .canonicalize()
            .map_err(ImagesError::io("find", &root))?;
        Ok(Self { root })
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of entry `kind`-`key`; `build` makes it, in the directory it is given, when there is none yet.
    ///
    /// # Errors
    /// What `build` reports; files that cannot be written.
    pub fn entry(
        &self,
        kind: &str,
        key: &Key,
        progress: &mut dyn Progress,
        build: impl FnOnce(&Path, &mut dyn Progress) -> Result<()>,
    ) -> Result<PathBuf> {
        let name = format!("{kind}-{}", &key.as_str()[..20]);
        let place = self.root.join(&name);
        if is_complete(&place) {
            return Ok(place);
        }
        let _lock = self.lock(&name, progress)?;
        // Another process may have built it while this one waited for the lock.
        if is_complete(&place) {
            return Ok(place);
        }
        remove(&place)?;
        // The lock is ours, so whoever made this directory is gone.
        let partial = self.root.join(format!("{PARTIAL}{name}"));
        remove(&partial)?;
        fs::create_dir(&partial).map_err(ImagesError::io("create", &partial))?;
        let built = build(&partial, progress)
            .and_then(|()| stamp(&partial))
            .and_then(|()| {
                fs::rename(&partial, &place).map_err(ImagesError::io("rename", &partial))
            });
        if let Err(error) = built {
            // The build's own error says more than a failure to clean up, and the next build cleans up anyway.
            let _ = remove(&partial);
            return Err(error);
        }
        sync_directory(&self.root)?;
        Ok(place)
    }

    /// Waits until no other process builds `name`, and keeps others from it until the file is dropped.
    fn lock(&self, name: &str, progress: &mut dyn Progress) -> Result<File> {
        let directory = self.root.join("locks");
        fs::create_dir_all(&directory).map_err(ImagesError::io("create", &directory))?;
        let path = directory.join(name);
        let file = File::create(&path).map_err(ImagesError::io("create", &path))?;
        if file.try_lock().is_err() {
            progress.note(&format!("waiting for another vtmem that builds {name}"));
            file.lock().map_err(ImagesError::io("lock", &path))?;
        }
        Ok(file)
    }

    /// All entries, by name.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn list(&self) -> Result<Vec<EntryInfo>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(ImagesError::io("read", &self.root))? {
            let entry = entry.map_err(ImagesError::io("read", &self.root))?;
            let path = entry.path();
            if entry.file_name() == "locks" || !path.is_dir() {
                continue;
            }
            entries.push(EntryInfo {
                name: entry.file_name().to_string_lossy().into_owned(),
                bytes: disk_usage(&path)?,
                complete: is_complete(&path),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Removes every entry that nobody is building; returns how many bytes that freed.
    ///
    /// # Errors
    /// An entry that cannot be removed.
    pub fn clean(&self) -> Result<u64> {
        let mut freed = 0;
        for entry in self.list()? {
            let name = entry.name.strip_prefix(PARTIAL).unwrap_or(&entry.name);
            let locks = self.root.join("locks");
            fs::create_dir_all(&locks).map_err(ImagesError::io("create", &locks))?;
            let lock_path = locks.join(name);
            let lock = File::create(&lock_path).map_err(ImagesError::io("create", &lock_path))?;
            if lock.try_lock().is_err() {
                continue;
            }
            let path = self.root.join(&entry.name);
            // Without its stamp it is no longer an entry, whatever becomes of the rest.
            let _ = fs::remove_file(path.join(STAMP));
            remove(&path)?;
            freed += entry.bytes;
        }
        Ok(freed)
    }
}

fn default_root(xdg: Option<OsString>, home: Option<OsString>) -> Result<PathBuf> {
    // The XDG specification has relative paths ignored.
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    xdg.and_then(absolute)
        .or_else(|| home.and_then(absolute).map(|home| home.join(".cache")))
        .map(|cache| cache.join("vtmem"))
        .ok_or_else(|| {
            ImagesError::Other(
                "no place for the images: set XDG_CACHE_HOME or HOME to an absolute path"
                    .to_owned(),
            )
        })
}

/// Files below `directory`, relative to it, with their lengths; symbolic links are left out.
fn files(directory: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path = directory.join(&relative);
        for entry in fs::read_dir(&path).map_err(ImagesError::io("read", &path))? {
            let entry = entry.map_err(ImagesError::io("read", &path))?;
            let kind = entry.file_type().map_err(ImagesError::io("read", &path))?;
            let name = relative.join(entry.file_name());
            if kind.is_dir() {
                pending.push(name);
            } else if kind.is_file() {
                let metadata = entry.metadata().map_err(ImagesError::io("read", &path))?;
                found.push((name, metadata.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Makes all files durable and then records them as complete.
fn stamp(directory: &Path) -> Result<()> {
    let mut text = format!("{FORMAT}\n").into_bytes();
    for (name, length) in files(directory)? {
        let path = directory.join(&name);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(ImagesError::io("sync", &path))?;
        text.extend_from_slice(format!("{length} ").as_bytes());
        text.extend_from_slice(name.as_os_str().as_bytes());
        text.push(0);
    }
    let path = directory.join(STAMP);
    fs::write(&path, text).map_err(ImagesError::io("write", &path))?;
    File::open(&path)
        .and_then(|file| file.sync_all())
        .map_err(ImagesError::io("sync", &path))?;
    sync_directory(directory)
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(ImagesError::io("sync", path))
}

/// Whether the directory has a stamp, and every file that the stamp names, at its length.
fn is_complete(directory: &Path) -> bool {
    let Ok(text) = fs::read(directory.join(STAMP)) else {
        return false;
    };
    let Some(list) = text.strip_prefix(format!("{FORMAT}\n").as_bytes()) else {
        return false;
    };
    list.split(|byte| *byte == 0)
        .filter(|line| !line.is_empty())
        .all(|line| {
            let Some(space) = line.iter().position(|byte| *byte == b' ') else {
                return false;
            };
            let length = std::str::from_utf8(&line[..space])
                .ok()
                .and_then(|n| n.parse::<u64>().ok());
            let name = OsString::from_vec(line[space + 1..].to_vec());
            fs::symlink_metadata(directory.join(name))
                .is_ok_and(|metadata| metadata.is_file() && Some(metadata.len()) == length)
        })
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ImagesError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn disk_usage(directory: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for (name, _) in files(directory)? {
        // A file that vanished meanwhile takes no space.
        bytes += fs::symlink_metadata(directory.join(name)).map_or(0, |m| m.blocks() * 512);
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "cache_test.rs"]
mod tests;
