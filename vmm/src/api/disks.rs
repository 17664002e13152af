//! `/disks/{id}`: the guest's disks.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Json;
use super::{Problem, Vm};
use crate::disk::{Cache, DiskOptions};

/// Characters of an id at most.
const LONGEST_ID: usize = 20;

/// The name of a disk towards this API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(pattern = "^[a-z0-9-]{1,20}$")]
#[serde(try_from = "String")]
pub struct DiskId(String);

impl DiskId {
    /// As a text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DiskId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=LONGEST_ID).contains(&text.len()) && text.chars().all(allowed) {
            Ok(DiskId(text))
        } else {
            Err(format!(
                "{text:?} is no disk's id; give 1 to {LONGEST_ID} of a-z, 0-9 and -"
            ))
        }
    }
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskSettings {
    /// A regular file or a block device of this host.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// How the host caches it.
    #[serde(default)]
    #[schema(inline)]
    pub cache: Cache,
    /// Whether the guest may only read.
    #[serde(default)]
    pub readonly: bool,
}

/// A disk with its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FlatDisk", into = "FlatDisk")]
pub struct NamedDisk {
    /// Its id.
    pub id: DiskId,
    /// What it is.
    pub disk: DiskSettings,
}

/// As it is written: flattened structures know no unknown keys, so the fields are listed.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NamedDisk)]
pub(super) struct FlatDisk {
    /// The disk's name towards this API.
    id: DiskId,
    /// A regular file or a block device of this host.
    #[schema(value_type = String)]
    path: PathBuf,
    /// How the host caches it.
    #[serde(default)]
    #[schema(inline)]
    cache: Cache,
    /// Whether the guest may only read.
    #[serde(default)]
    readonly: bool,
}

impl From<FlatDisk> for NamedDisk {
    fn from(flat: FlatDisk) -> Self {
        NamedDisk {
            id: flat.id,
            disk: DiskSettings {
                path: flat.path,
                cache: flat.cache,
                readonly: flat.readonly,
            },
        }
    }
}

impl From<NamedDisk> for FlatDisk {
    fn from(NamedDisk { id, disk }: NamedDisk) -> Self {
        FlatDisk {
            id,
            path: disk.path,
            cache: disk.cache,
            readonly: disk.readonly,
        }
    }
}

impl From<&NamedDisk> for DiskOptions {
    fn from(NamedDisk { disk, .. }: &NamedDisk) -> Self {
        DiskOptions {
            path: disk.path.clone(),
            cache: disk.cache,
            readonly: disk.readonly,
        }
    }
}

impl NamedDisk {
    /// The disk that the guest sees as `/dev/vda` and so on, by that name.
    pub fn numbered(number: u8, options: &DiskOptions) -> Self {
        NamedDisk {
            id: DiskId(format!("vd{}", char::from(b'a' + number % 26))),
            disk: DiskSettings {
                path: options.path.clone(),
                cache: options.cache,
                readonly: options.readonly,
            },
        }
    }
}

/// Adds a disk to a machine that has not been started, after those it has, or changes the one of this id. The file is
/// looked at when the machine starts.
#[utoipa::path(put, path = "/disks/{id}", request_body = DiskSettings,
    params(("id" = DiskId, Path, description = "The disk's name here; the guest's names follow the order of disks")),
    responses(
    (status = 204, description = "Set"),
    (status = "4XX", response = super::openapi::ProblemResponse)))]
pub async fn put(
    State(vm): State<Arc<Vm>>,
    id: Result<Path<String>, PathRejection>,
    Json(disk): Json<DiskSettings>,
) -> Result<StatusCode, Problem> {
    let Path(id) = id.map_err(|error| Problem::bad_request(error.body_text()))?;
    let id = DiskId::try_from(id).map_err(Problem::bad_request)?;
    vm.configure(|config| {
        if let Some(known) = config.disks.iter_mut().find(|known| known.id == id) {
            known.disk = disk;
        } else {
            config.disks.push(NamedDisk { id, disk });
        }
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT)
}
