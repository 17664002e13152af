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
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file that a complete entry has.
const STAMP: &str = ".complete";
/// First line of a stamp; part of every key too, so that another layout means other entries.
const FORMAT: &str = "vtmem-image 1";
/// What a directory that is still being built is called.
const PARTIAL: &str = "partial-";
/// Where the files lie that keep two processes from building the same entry.
const LOCKS: &str = "locks";
/// As much of a key as goes into an entry's name: 80 bits tell any two apart.
const KEY_DIGITS: usize = 20;

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

    /// Adds the sources of the code that builds the entry: changed code makes another entry.
    pub fn add_recipe(&mut self, sources: &[&str]) -> &mut Self {
        for source in sources {
            self.add("recipe", source);
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
        let name = format!("{kind}-{}", &key.as_str()[..KEY_DIGITS]);
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
        let prefix = format!("{PARTIAL}{name}-");
        for leftover in self.names()?.iter().filter(|n| n.starts_with(&prefix)) {
            // The lock is ours, so its builder is gone. A program that the builder ran may still be writing there,
            // which is why every build has a directory of its own, and why this may fail.
            let _ = remove(&self.root.join(leftover));
        }
        // Removed again when the build fails.
        let partial = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(&self.root)
            .map_err(ImagesError::io("create a directory in", &self.root))?;
        build(partial.path(), progress)
            .and_then(|()| stamp(partial.path()))
            .map_err(|error| error.or_disk_full(&self.root))?;
        let partial = partial.keep();
        fs::rename(&partial, &place).map_err(ImagesError::io("rename", &partial))?;
        sync_directory(&self.root)?;
        Ok(place)
    }

    /// Waits until no other process builds `name`, and keeps others from it until the file is dropped.
    pub(crate) fn lock(&self, name: &str, progress: &mut dyn Progress) -> Result<File> {
        let file = self.lock_file(name)?;
        if file.try_lock().is_err() {
            progress.note(&format!("waiting for another vtmem that builds {name}"));
            file.lock()
                .map_err(ImagesError::io("lock", self.root.join(LOCKS).join(name)))?;
        }
        Ok(file)
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let directory = self.root.join(LOCKS);
        fs::create_dir_all(&directory).map_err(ImagesError::io("create", &directory))?;
        let path = directory.join(name);
        File::create(&path).map_err(ImagesError::io("create", &path))
    }

    /// What lies in the cache's directory.
    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(ImagesError::io("read", &self.root))? {
            let entry = entry.map_err(ImagesError::io("read", &self.root))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// All entries, by name.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn list(&self) -> Result<Vec<EntryInfo>> {
        let mut entries = Vec::new();
        for name in self.names()? {
            let path = self.root.join(&name);
            if lock_name(&name).is_some() && path.is_dir() {
                entries.push(EntryInfo {
                    bytes: disk_usage(&path),
                    complete: is_complete(&path),
                    name,
                });
            }
        }
        Ok(entries)
    }

    /// Removes every entry that nobody is building; returns how many bytes that freed.
    ///
    /// # Errors
    /// An entry that cannot be removed.
    pub fn clean(&self) -> Result<u64> {
        let mut freed = 0;
        for entry in self.list()? {
            let lock = self.lock_file(lock_name(&entry.name).unwrap_or(&entry.name))?;
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

/// The lock of the entry called `name`, complete or not; `None` for what is no entry.
fn lock_name(name: &str) -> Option<&str> {
    let entry = match name.strip_prefix(PARTIAL) {
        Some(partial) => partial.rsplit_once('-')?.0,
        None => name,
    };
    let (_, key) = entry.rsplit_once('-')?;
    (key.len() == KEY_DIGITS && key.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(entry)
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
    // At once for all: one by one, the thousands of files of a kernel's headers take a minute.
    File::open(directory)
        .and_then(|file| Ok(rustix::fs::syncfs(file)?))
        .map_err(ImagesError::io("sync", directory))?;
    for (name, length) in files(directory)? {
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

/// Bytes that the files below `directory` take. What vanishes meanwhile, because another process builds, takes none.
fn disk_usage(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_usage(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
#[path = "cache_test.rs"]
mod tests;
