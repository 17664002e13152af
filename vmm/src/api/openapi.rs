//! `/openapi.json`: this API's description, made of the code that serves it.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::{OpenApi, ToResponse};

use super::{Problem, actions, boot_source, disks, events, machine, metrics, page, tmem, vm};

/// Why the request was not served.
#[derive(ToResponse)]
#[response(
    description = "Not served; why, and what to do next",
    content_type = "application/problem+json"
)]
#[expect(dead_code, reason = "names a schema")]
pub struct ProblemResponse(Problem);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "vtmem control socket",
        description = "Launch, watch and steer a guest and its transcendent memory.",
        license(name = "Apache-2.0 OR MIT")
    ),
    servers((url = "/")),
    paths(
        page::get, get, vm::get, machine::put, boot_source::put, disks::put, actions::put, tmem::get, tmem::put, tmem::patch,
        tmem::flush, events::get, metrics::get
    ),
    components(schemas(Problem), responses(ProblemResponse))
)]
struct Document;

/// The description, in JSON.
pub fn document() -> String {
    // A structure of strings, lists and maps always has a JSON form.
    Document::openapi().to_pretty_json().unwrap_or_default()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses(
    (status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)))]
pub async fn get() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document()).into_response()
}
