//! Bodies of requests and answers: JSON, bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::{self, DeserializeOwned};
use serde_json::Value;

use super::Problem;
use crate::hint::with_hint;

/// Bytes of a body at most; the largest that makes sense has some hundred.
pub const LIMIT: usize = 64 << 10;

/// How long a body may take to arrive.
pub const TIME: Duration = Duration::from_secs(5);

/// Up to this, a float has every whole number.
const LARGEST_EXACT: f64 = (1_u64 << 53) as f64;

/// JSON, in and out. No resource takes a list.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        if let Some(kind) = kind {
            let essence = kind.to_str().unwrap_or_default().split(';').next();
            let essence = essence.unwrap_or_default().trim();
            if !essence.eq_ignore_ascii_case("application/json") {
                let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                let detail = "the body must be application/json; with curl, use --json";
                return Err(Problem::new(status, detail));
            }
        }
        let bytes = read(request.into_body()).await?;
        parse(&bytes).map(Json).map_err(|error| {
            Problem::bad_request(format!("the body: {}", with_hint(&error.to_string())))
        })
    }
}

/// Reads a structure by the names of its fields; serde would take a list of their values, too. A whole number may be written
/// with a point, as JSON Schema has it.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    let mut value = serde_json::from_slice(bytes)?;
    if has_list(&value) {
        return Err(de::Error::custom(
            "a list where none belongs; name the fields",
        ));
    }
    if make_whole(&mut value) {
        return serde_json::from_value(value);
    }
    serde_json::from_slice(bytes)
}

/// Writes whole numbers without a point; whether there was one with.
fn make_whole(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            // All of them: not as `any` has it.
            let made = members.values_mut().map(make_whole);
            made.filter(|made| *made).count() > 0
        }
        Value::Number(number) if number.is_f64() => {
            let exact = number
                .as_f64()
                .filter(|float| float.fract() == 0.0 && (0.0..=LARGEST_EXACT).contains(float));
            exact.is_some_and(|float| {
                *value = Value::from(float as u64);
                true
            })
        }
        _ => false,
    }
}

fn has_list(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::Object(members) => members.values().any(has_list),
        _ => false,
    }
}

/// Reads a body to its end.
///
/// # Errors
/// It is too long, takes too long, or breaks off.
pub async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let whole = Limited::new(body, LIMIT).collect();
    match tokio::time::timeout(TIME, whole).await {
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} s", TIME.as_secs()),
        )),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a body has {LIMIT} bytes at most"),
        )),
        Ok(Err(error)) => Err(Problem::bad_request(format!("the body broke off: {error}"))),
        Ok(Ok(body)) => Ok(body.to_bytes().into()),
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.0) {
            Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
            Err(error) => {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::machine::MachineSettings;
    use crate::api::tmem_settings::TmemPatch;

    #[test]
    fn whole_numbers_may_have_a_point_and_no_field_may_come_twice() {
        let machine = parse::<MachineSettings>(br#"{"cpus": 2.0, "memory": 33554432.0}"#);
        assert_eq!(machine.expect("whole numbers").cpus, 2);
        let patch = parse::<TmemPatch>(br#"{"governor": {"pressure_percent": 5.0}}"#);
        let governor = patch.expect("a float").governor.flatten();
        assert_eq!(governor.expect("a governor").pressure_percent, Some(5.0));
        for wrong in [
            r#"{"cpus": 2.5}"#,
            r#"{"cpus": -0.5}"#,
            r#"{"cpus": 1e300}"#,
            r#"{"cpus": 1, "cpus": 2}"#,
            "[]",
            "[33554432, 1]",
        ] {
            assert!(
                parse::<MachineSettings>(wrong.as_bytes()).is_err(),
                "{wrong}"
            );
        }
    }
}
