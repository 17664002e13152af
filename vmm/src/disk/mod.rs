//! Disks on the host's side: what `--disk` says, how a disk is opened, and how it is read and
//! written.
//!
//! [`DiskOptions`] is the text of `--disk`; [`Disk::open`] turns it into an open, locked and
//! measured disk, by kind a regular file ([`image_file`]) or a block device ([`block_device`]).
//! An [`engine::Engine`] carries transfers to it: [`uring`] with many in flight, or [`plain`] one
//! after the other where the host forbids io_uring.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::hint::hint;

mod block_device;
pub(crate) mod buffers;
pub(crate) mod engine;
mod image_file;
mod open;
pub(crate) mod plain;
pub(crate) mod uring;

pub(crate) use open::{Alignment, Disk};
pub use open::{DiskError, HostCounters};

/// Bytes of the sector that virtio-blk counts in, whatever the disk's own block size.
pub(crate) const SECTOR: u64 = 512;

/// How a disk uses the host's page cache, and what the guest is told about its write cache. The
/// modes mean what they mean in QEMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// O_DIRECT: the host's page cache is bypassed. The guest sees a write cache (the device's
    /// own); what it wrote is durable after FLUSH.
    None,
    /// Through the host's page cache, and every write is durable before it completes. The guest
    /// sees no write cache.
    Writethrough,
    /// Through the host's page cache; durable after FLUSH. The default, as in QEMU.
    #[default]
    Writeback,
}

impl Cache {
    /// Whether writes may be lost until the guest's next FLUSH.
    pub fn has_write_cache(self) -> bool {
        self != Cache::Writethrough
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cache::None => "none",
            Cache::Writethrough => "writethrough",
            Cache::Writeback => "writeback",
        })
    }
}

impl FromStr for Cache {
    type Err = DiskOptionsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Cache::None),
            "writethrough" => Ok(Cache::Writethrough),
            "writeback" => Ok(Cache::Writeback),
            _ => Err(DiskOptionsError::UnknownCache {
                value: text.to_owned(),
                hint: hint(text, &["none", "writethrough", "writeback"]),
            }),
        }
    }
}

/// One `--disk`: `path=P[,cache=none|writethrough|writeback][,readonly[=on|off]]`. A comma inside
/// the path is written twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// A regular file or a block device.
    pub path: PathBuf,
    /// The cache mode.
    pub cache: Cache,
    /// Whether the guest may only read.
    pub readonly: bool,
}

/// What is wrong with the text of a `--disk`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskOptionsError {
    /// There is no `path=`.
    #[error("no path given; write path=FILE[,cache=none|writethrough|writeback][,readonly]")]
    NoPath,
    /// A key that does not exist.
    #[error("unknown disk option '{key}'{hint}; known are path=, cache= and readonly")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The nearest known key, as a half sentence; or nothing.
        hint: String,
    },
    /// A key that needs a value has none.
    #[error("disk option '{0}' needs a value: {0}=…")]
    NoValue(String),
    /// A key is given twice.
    #[error("disk option '{0}' is given twice; write a comma that belongs to a path as ',,'")]
    Twice(String),
    /// A cache mode that does not exist.
    #[error("unknown cache mode '{value}'{hint}; use none, writethrough or writeback")]
    UnknownCache {
        /// The value as written.
        value: String,
        /// The nearest known mode, as a half sentence; or nothing.
        hint: String,
    },
    /// `readonly=` is neither on nor off.
    #[error("readonly is 'on' or 'off', not '{0}'")]
    Readonly(String),
}

impl FromStr for DiskOptions {
    type Err = DiskOptionsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut path, mut cache, mut readonly) = (None, None, None);
        for field in fields(text) {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field.as_str(), None),
            };
            let value_of_key = || match value {
                Some(value) if !value.is_empty() => Ok(value),
                _ => Err(DiskOptionsError::NoValue(key.to_owned())),
            };
            let again = match key {
                "path" => path.replace(PathBuf::from(value_of_key()?)).is_some(),
                "cache" => cache.replace(value_of_key()?.parse()?).is_some(),
                "readonly" => {
                    let on = match value {
                        None | Some("on") => true,
                        Some("off") => false,
                        Some(other) => return Err(DiskOptionsError::Readonly(other.to_owned())),
                    };
                    readonly.replace(on).is_some()
                }
                _ => {
                    return Err(DiskOptionsError::UnknownKey {
                        key: key.to_owned(),
                        hint: hint(key, &["path", "cache", "readonly"]),
                    });
                }
            };
            if again {
                return Err(DiskOptionsError::Twice(key.to_owned()));
            }
        }
        Ok(DiskOptions {
            path: path.ok_or(DiskOptionsError::NoPath)?,
            cache: cache.unwrap_or_default(),
            readonly: readonly.unwrap_or(false),
        })
    }
}

/// The text that parses back to these options (a path that is not UTF-8 excepted).
impl fmt::Display for DiskOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string_lossy().replace(',', ",,");
        write!(f, "path={path},cache={}", self.cache)?;
        if self.readonly {
            f.write_str(",readonly")?;
        }
        Ok(())
    }
}

/// Splits at single commas; a double one stands for the character.
fn fields(text: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != ',' {
            field.push(c);
        } else if chars.next_if_eq(&',').is_some() {
            field.push(',');
        } else {
            fields.push(std::mem::take(&mut field));
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
#[path = "options_test.rs"]
mod options_test;

#[cfg(test)]
#[path = "open_test.rs"]
mod open_test;

#[cfg(test)]
#[path = "block_device_test.rs"]
mod block_device_test;

#[cfg(test)]
#[path = "engine_test.rs"]
mod engine_test;
