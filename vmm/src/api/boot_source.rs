//! `/boot-source`: what boots.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Json;
use super::{Problem, Vm};

/// The kernel's command line where none is given.
const CMDLINE: &str = "console=ttyS0 quiet";

/// What boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BootSourceSettings {
    /// Kernel on this host: a bzImage, or an ELF vmlinux with a PVH or 64-bit entry.
    #[schema(value_type = String)]
    pub kernel: PathBuf,
    /// Initial root file system on this host.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,
    /// Kernel command line.
    #[serde(default = "cmdline")]
    pub cmdline: String,
}

fn cmdline() -> String {
    CMDLINE.to_owned()
}

/// Sets what a machine that has not been started is to boot. The files are looked at when it starts.
#[utoipa::path(put, path = "/boot-source", request_body = BootSourceSettings, responses(
    (status = 204, description = "Set"),
    (status = "4XX", response = super::openapi::ProblemResponse)))]
pub async fn put(
    State(vm): State<Arc<Vm>>,
    Json(settings): Json<BootSourceSettings>,
) -> Result<StatusCode, Problem> {
    vm.configure(|config| {
        config.boot_source = Some(settings);
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT)
}
