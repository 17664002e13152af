//! Requests to a machine in the lab: passed on to the VMM inside, answers brought back.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_TYPE, HOST};
use axum::http::{HeaderValue, Method};
use axum::response::Response;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::{Problem, body};

/// How long the VMM inside may take to begin an answer: the lab has to boot first, and it emulates.
const ANSWER_TIME: Duration = Duration::from_secs(600);

/// A way to the VMM inside.
#[derive(Clone)]
pub struct Forward {
    streams: mpsc::Sender<DuplexStream>,
}

impl Forward {
    /// By streams that are taken up at the other end of `streams`.
    pub(super) fn new(streams: mpsc::Sender<DuplexStream>) -> Self {
        Forward { streams }
    }

    /// Passes a request on; the answer's body comes as it is sent.
    ///
    /// # Errors
    /// The lab has ended, or its VMM does not answer.
    pub async fn pass(&self, request: Request) -> Result<Response, Problem> {
        let (mut parts, sent) = request.into_parts();
        let sent = body::read(sent).await?;
        parts.headers.remove(CONNECTION);
        parts.headers.insert(HOST, HeaderValue::from_static("lab"));
        let gone = |_| Problem::unavailable("the lab has ended");
        let (near, far) = tokio::io::duplex(super::channel::PIECE);
        self.streams.send(far).await.map_err(gone)?;
        let failed = |error: hyper::Error| {
            Problem::unavailable(format!("the VMM in the lab does not answer: {error}"))
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(near)).await.map_err(failed)?;
        tokio::spawn(connection);
        let answer = sender.send_request(Request::from_parts(parts, Body::from(sent)));
        match tokio::time::timeout(ANSWER_TIME, answer).await {
            Ok(answer) => Ok(answer.map_err(failed)?.map(Body::new)),
            Err(_) => Err(Problem::unavailable("the VMM in the lab does not answer")),
        }
    }

    async fn exchange(&self, method: Method, path: &str, sent: Body) -> Result<Vec<u8>, Problem> {
        let mut request = Request::new(sent);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| Problem::not_found(path))?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let answer = self.pass(request).await?;
        let status = answer.status();
        let answer = body::read(answer.into_body()).await?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(serde_json::from_slice(&answer)
            .unwrap_or_else(|_| Problem::new(status, String::from_utf8_lossy(&answer))))
    }

    /// The JSON of a resource.
    ///
    /// # Errors
    /// As for [`Forward::pass`], or what the VMM inside answers.
    pub async fn get_json(&self, path: &str) -> Result<serde_json::Value, Problem> {
        let answer = self.exchange(Method::GET, path, Body::empty()).await?;
        serde_json::from_slice(&answer).map_err(|error| Problem::unavailable(error.to_string()))
    }

    /// Puts JSON to a resource.
    ///
    /// # Errors
    /// As for [`Forward::get_json`].
    pub async fn put_json(&self, path: &str, value: &impl Serialize) -> Result<(), Problem> {
        // What was read as JSON can be written so.
        let text = serde_json::to_string(value).unwrap_or_default();
        let answer = self.exchange(Method::PUT, path, Body::from(text)).await;
        answer.map(drop)
    }
}
