//! Requests over the control socket.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::api::Problem;
use crate::cli::CliError;

/// A client of one socket.
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// Connects with each request.
    pub fn new(socket: &Path) -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Ok(Client {
            socket: socket.to_owned(),
            runtime: builder.enable_io().build()?,
        })
    }

    async fn send(
        &self,
        method: Method,
        resource: &str,
        body: Body,
    ) -> Result<hyper::Response<Incoming>, CliError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            format!(
                "cannot connect to {}: {error}; is `vtmem run --api-socket` running there?",
                self.socket.display()
            )
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(resource)
            .header(HOST, "vm")
            .header(CONTENT_TYPE, "application/json")
            .body(body)?;
        let answer = sender.send_request(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let text = answer.into_body().collect().await?.to_bytes();
        Err(match serde_json::from_slice::<Problem>(&text) {
            Ok(problem) => problem.detail.into(),
            Err(_) => String::from_utf8_lossy(&text).into_owned().into(),
        })
    }

    /// The text of an answer.
    ///
    /// # Errors
    /// Nobody answers, or what was wrong with the request.
    pub fn request(
        &self,
        method: Method,
        resource: &str,
        body: Option<&impl Serialize>,
    ) -> Result<String, CliError> {
        let body = match body {
            Some(value) => Body::from(serde_json::to_string(value)?),
            None => Body::empty(),
        };
        self.runtime.block_on(async {
            let answer = self.send(method, resource, body).await?;
            let text = answer.into_body().collect().await?.to_bytes();
            Ok(String::from_utf8_lossy(&text).into_owned())
        })
    }

    /// The text of a resource.
    ///
    /// # Errors
    /// As for [`Client::request`].
    pub fn get(&self, resource: &str) -> Result<String, CliError> {
        self.request(Method::GET, resource, None::<&()>)
    }

    /// Hands pieces of an answer without end to `take`, as they come.
    ///
    /// # Errors
    /// As for [`Client::request`].
    pub fn follow(&self, resource: &str, mut take: impl FnMut(&[u8])) -> Result<(), CliError> {
        self.runtime.block_on(async {
            let answer = self.send(Method::GET, resource, Body::empty()).await?;
            let mut body = answer.into_body();
            while let Some(frame) = body.frame().await {
                if let Ok(bytes) = frame?.into_data() {
                    take(&bytes);
                }
            }
            Ok(())
        })
    }
}
