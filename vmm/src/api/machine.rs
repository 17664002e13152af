//! `/machine`: memory and vCPUs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

use super::body::Json;
use super::quantity::Memory;
use super::{Problem, Vm};

/// vCPUs at most.
const MAX_CPUS: u8 = 8;

/// Memory and vCPUs of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MachineSettings {
    /// Guest memory.
    #[schema(inline)]
    pub memory: Memory,
    /// Number of vCPUs.
    #[schema(minimum = 1, maximum = 8)]
    #[serde(deserialize_with = "cpus")]
    pub cpus: u8,
}

impl Default for MachineSettings {
    fn default() -> Self {
        MachineSettings {
            memory: Memory(256 << 20),
            cpus: 1,
        }
    }
}

fn cpus<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let cpus = u8::deserialize(from)?;
    if (1..=MAX_CPUS).contains(&cpus) {
        Ok(cpus)
    } else {
        Err(de::Error::custom(format!(
            "{cpus} vCPUs are not possible; give 1 to {MAX_CPUS}"
        )))
    }
}

/// Sets memory and vCPUs of a machine that has not been started.
#[utoipa::path(put, path = "/machine", request_body = MachineSettings, responses(
    (status = 204, description = "Set"),
    (status = "4XX", response = super::openapi::ProblemResponse)))]
pub async fn put(
    State(vm): State<Arc<Vm>>,
    Json(settings): Json<MachineSettings>,
) -> Result<StatusCode, Problem> {
    vm.configure(|config| {
        config.machine = settings;
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT)
}
