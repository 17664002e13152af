//! Where the pool puts what it has no room for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tmem_device::tier::disk::DiskConfig;
use utoipa::ToSchema;

use super::quantity::Bytes;
use crate::devices::virtio::tmem::SpillConfig;

/// A file or block device below the pool. Set before the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SpillSettings {
    /// The file, which is made and emptied in the end, or the block device.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Bytes of it that may be used, 8 MiB at least.
    #[schema(inline)]
    pub size: Bytes,
    /// Bytes of swapped pages that may be in memory alone. Without: half of the pool's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<Bytes>,
    /// Whether page cache that would be evicted is spilled too.
    #[serde(default)]
    pub cache: bool,
    /// Whether a block device that was not spilled to before may be overwritten.
    #[serde(default)]
    pub overwrite: bool,
}

impl From<&SpillSettings> for SpillConfig {
    fn from(settings: &SpillSettings) -> Self {
        SpillConfig {
            disk: DiskConfig {
                overwrite: settings.overwrite,
                ..DiskConfig::new(&settings.path, settings.size.0)
            },
            dirty: settings.dirty.map(|bytes| bytes.0),
            ephemeral: settings.cache,
        }
    }
}

impl From<&SpillConfig> for SpillSettings {
    fn from(config: &SpillConfig) -> Self {
        SpillSettings {
            path: config.disk.path.clone(),
            size: Bytes(config.disk.size),
            dirty: config.dirty.map(Bytes),
            cache: config.ephemeral,
            overwrite: config.disk.overwrite,
        }
    }
}
