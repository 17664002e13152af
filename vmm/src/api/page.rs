//! `/`: a page that shows what the pool does, as it does it. One file, nothing from elsewhere.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// The whole page.
const PAGE: &str = include_str!("page.html");

/// Nothing but what is in the page, and this API.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";

/// A page with plots that move.
#[utoipa::path(get, path = "/", responses(
    (status = 200, description = "A page with plots that move", content_type = "text/html", body = String)))]
pub async fn get() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, PAGE).into_response()
}
