//! `/actions`: start, pause, resume, shut down, reset.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Json;
use super::work::Workers;
use super::{Problem, Vm};
use crate::machine::exit::Exit;
use crate::machine::running::Machine;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Start the machine that was configured. Answered when its guest runs.
    Start,
    /// Stop every vCPU, and have the devices answer what they have begun. Answered when nothing touches guest memory.
    Pause,
    /// Go on.
    Resume,
    /// End the machine at once, without asking the guest; the VMM ends with status 0.
    Shutdown,
    /// Start the machine anew from its boot source, as by a reset button; tmem begins empty.
    Reset,
}

/// An action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionRequest {
    /// What to do.
    #[schema(inline)]
    pub action: Action,
}

/// Starts, pauses, resumes, shuts down or resets the machine.
#[utoipa::path(put, path = "/actions", request_body = ActionRequest, responses(
    (status = 204, description = "Done"),
    (status = "4XX", response = super::openapi::ProblemResponse)))]
pub async fn put(
    State(vm): State<Arc<Vm>>,
    State(workers): State<Workers>,
    Json(ActionRequest { action }): Json<ActionRequest>,
) -> Result<StatusCode, Problem> {
    if action == Action::Start {
        start(&vm).await?;
    } else if let Some(forward) = vm.forward() {
        forward
            .put_json("/actions", &ActionRequest { action })
            .await?;
    } else {
        let machine = vm.machine().ok_or_else(|| {
            Problem::conflict("the machine does not run; PUT /actions {\"action\": \"start\"}")
        })?;
        // Waits for vCPUs and for disks.
        workers.run(move || act(&machine, action)).await??;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn start(vm: &Vm) -> Result<(), Problem> {
    match vm.ask_start()?.await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return Err(Problem::conflict(format!("not started: {why}"))),
        Err(_) => return Err(Problem::conflict("the VMM is ending")),
    }
    if let Some(forward) = vm.forward() {
        // Answered when the lab has booted and its guest runs.
        forward.get_json("/vm").await?;
    }
    Ok(())
}

fn act(machine: &Machine, action: Action) -> Result<(), Problem> {
    let wrong_phase =
        |error: crate::machine::running::WrongPhase| Problem::conflict(error.to_string());
    match action {
        Action::Start => {}
        Action::Pause => machine.pause().map_err(wrong_phase)?,
        Action::Resume => machine.resume().map_err(wrong_phase)?,
        Action::Shutdown => machine.end(Exit::ShutDown),
        Action::Reset => machine.end(Exit::Restart),
    }
    Ok(())
}
