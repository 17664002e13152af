//! A whole machine's description: what the resources are put together from, and what `--config` reads.

use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::boot_source::BootSourceSettings;
use super::disks::NamedDisk;
use super::machine::MachineSettings;
use super::tmem_settings::TmemSettings;
use crate::hint::with_hint;

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VmConfig {
    /// Memory and vCPUs.
    #[serde(default)]
    pub machine: MachineSettings,
    /// What boots. Without, the machine cannot be started; in a file, it is the guest of `vtmem images`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_source: Option<BootSourceSettings>,
    /// `/dev/vda`, `/dev/vdb`, … in this order.
    #[serde(default)]
    #[schema(value_type = Vec<super::disks::FlatDisk>)]
    pub disks: Vec<NamedDisk>,
    /// Without, the guest has no tmem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmem: Option<TmemSettings>,
}

impl VmConfig {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// It cannot be read, or says something else than a machine; in one message that names the place.
    pub fn read(path: &Path) -> Result<Self, String> {
        let about = |error: &str| format!("{}: {}", path.display(), error.trim_end());
        let text = std::fs::read_to_string(path).map_err(|error| about(&error.to_string()))?;
        VmConfig::parse(&text).map_err(|error| about(&error))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: VmConfig =
            toml::from_str(text).map_err(|error| with_hint(&error.to_string()))?;
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
