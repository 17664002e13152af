//! `/metrics`: what the machine counts, for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::vm::VmState;
use super::work::Workers;
use super::{Problem, Vm};
use crate::metrics::{Exposition, Kind};

/// All counters and gauges.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "Prometheus' text format 0.0.4", content_type = "text/plain", body = String),
    (status = "4XX", response = super::openapi::ProblemResponse)))]
pub async fn get(
    State(vm): State<Arc<Vm>>,
    State(workers): State<Workers>,
) -> Result<Response, Problem> {
    let text = workers.run(move || render(&vm)).await?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn render(vm: &Vm) -> String {
    let mut to = Exposition::default();
    let version = env!("CARGO_PKG_VERSION");
    to.family(
        "vtmem_build_info",
        Kind::Gauge,
        "Always 1; its label is the version.",
    );
    to.sample(&[("version", version)], 1);
    let state = vm.state();
    let running = u64::from(state == VmState::Running);
    to.single(
        "vtmem_vm_running",
        Kind::Gauge,
        "1 while the vCPUs run.",
        running,
    );
    if let Some(machine) = vm.machine() {
        machine.counters().expose(&mut to);
        if let Some(service) = machine.tmem() {
            service.expose(&mut to);
        }
    }
    to.into_text()
}
