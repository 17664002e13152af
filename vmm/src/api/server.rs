//! Connections, and what they may cost: a small runtime on a thread of its own, confined before it serves the first one.
//!
//! A client may be slow, silent, or many. Each connection has a time for its header, its body and for taking an answer;
//! there are so many at most, and who comes then is told so and sent away.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRef, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::channel;
use super::forward::Forward;
use super::port::Port;
use super::socket::{Name, Socket};
use super::stall::Impatient;
use super::work::Workers;
use super::{
    Problem, Vm, actions, boot_source, disks, events, machine, metrics, openapi, page, tmem, vm,
};
use crate::confine::{self, Thread};

/// Connections at most.
pub const CONNECTIONS: usize = 128;

/// How long a header may take to arrive, from the first moment that it may.
pub const HEADER_TIME: Duration = Duration::from_secs(5);

/// How long a client may take to make room for a piece of an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Bytes that a connection buffers of a header.
const HEADER_BYTES: usize = 16 << 10;

/// How long answers under way may take when the server ends.
const GRACE: Duration = Duration::from_millis(500);

/// What to say to a connection too many. Not read by hyper, so written out.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
    retry-after: 1\r\ncontent-length: 99\r\nconnection: close\r\n\r\n\
    {\"status\":503,\"title\":\"Service Unavailable\",\"detail\":\"too many connections; close some, try again\"}";

/// Where requests come from.
pub enum Source {
    /// A socket of this host.
    Socket(Socket),
    /// The other end of a lab's channel.
    Channel(OwnedFd),
}

/// The API; ends when dropped.
pub struct Server {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _name: Option<Name>,
}

impl Server {
    /// Serves `vm` to who comes by `source`. How the process is confined must have been said by then ([`confine::begin`]).
    ///
    /// # Errors
    /// The process may not have another thread or file.
    pub fn start(source: Source, vm: Arc<Vm>) -> io::Result<Self> {
        let workers = Workers::start()?;
        Server::serve(source, routes(Api { vm, workers }))
    }

    fn serve(source: Source, routes: Router) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (name, serve) = {
            let _inside = runtime.enter();
            match source {
                Source::Socket(socket) => {
                    let (listener, name) = socket.into_parts();
                    (Some(name), Serve::Socket(UnixListener::from_std(listener)?))
                }
                Source::Channel(port) => (None, Serve::Channel(Port::new(port)?)),
            }
        };
        let thread = thread::Builder::new().name("api".into()).spawn(move || {
            confine::enter(Thread::Api);
            runtime.block_on(serve.run(routes, stopped));
        })?;
        Ok(Server {
            handle,
            stop: Some(stop),
            thread: Some(thread),
            _name: name,
        })
    }

    /// A way to the VMM at the other end of `line`.
    ///
    /// # Errors
    /// The socket cannot be used so.
    pub fn forward(&self, line: StdStream) -> io::Result<Forward> {
        line.set_nonblocking(true)?;
        let _inside = self.handle.enter();
        let line = tokio::net::UnixStream::from_std(line)?;
        let (streams, opened) = mpsc::channel(1);
        self.handle.spawn(channel::open_over(line, opened));
        Ok(Forward::new(streams))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Fails when the thread has ended.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the API's thread has panicked");
        }
    }
}

/// What resources act on, and by whom.
#[derive(Clone)]
struct Api {
    vm: Arc<Vm>,
    workers: Workers,
}

impl FromRef<Api> for Arc<Vm> {
    fn from_ref(api: &Api) -> Self {
        api.vm.clone()
    }
}

impl FromRef<Api> for Workers {
    fn from_ref(api: &Api) -> Self {
        api.workers.clone()
    }
}

/// The resources.
fn routes(api: Api) -> Router {
    let listeners = Arc::new(Semaphore::new(events::LISTENERS));
    let events = Router::new()
        .route("/tmem/events", get(events::get))
        .layer(Extension(listeners));
    // What a machine in the lab answers itself.
    let live = Router::new()
        .route("/tmem", get(tmem::get).put(tmem::put).patch(tmem::patch))
        .route("/tmem/flush", post(tmem::flush))
        .route("/metrics", get(metrics::get))
        .merge(events)
        .route_layer(middleware::from_fn_with_state(api.clone(), to_lab));
    Router::new()
        .route("/", get(page::get))
        .route("/openapi.json", get(openapi::get))
        .route("/vm", get(vm::get))
        .route("/machine", put(machine::put))
        .route("/boot-source", put(boot_source::put))
        .route("/disks/{id}", put(disks::put))
        .route("/actions", put(actions::put))
        .merge(live)
        .with_state(api)
        .fallback(no_such_resource)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::disable())
}

async fn no_such_resource() -> Problem {
    Problem::not_found("no such resource; GET /openapi.json lists them")
}

async fn wrong_method() -> Problem {
    let detail = "the resource does not have this method; the header Allow lists those it has";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

async fn to_lab(State(vm): State<Arc<Vm>>, request: Request, next: Next) -> Response {
    match vm.forward() {
        Some(forward) => match forward.pass(request).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        },
        None => next.run(request).await,
    }
}

enum Serve {
    Socket(UnixListener),
    Channel(Port),
}

impl Serve {
    async fn run(self, routes: Router, stopped: oneshot::Receiver<()>) {
        match self {
            Serve::Socket(listener) => listen(listener, routes, stopped).await,
            Serve::Channel(port) => take_up(port, routes, stopped).await,
        }
    }
}

async fn listen(listener: UnixListener, routes: Router, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) if connections.len() < CONNECTIONS => {
                connections.spawn(converse(stream, routes.clone()));
            }
            // As much as its buffer takes at once.
            Ok((stream, _)) => drop(stream.try_write(TOO_MANY)),
            Err(error) => {
                // No descriptors left, for one: they come back as connections end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    end(connections).await;
}

/// Serves the streams of a lab's channel. The VMM outside has counted them.
async fn take_up(port: Port, routes: Router, mut stopped: oneshot::Receiver<()>) {
    let (streams, mut incoming) = mpsc::channel(1);
    let channel = tokio::spawn(channel::accept_over(port, streams));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = incoming.recv() => stream,
            _ = &mut stopped => break,
        };
        let Some(stream) = stream else { break };
        while connections.try_join_next().is_some() {}
        connections.spawn(converse(stream, routes.clone()));
    }
    end(connections).await;
    drop(incoming);
    let _ = tokio::time::timeout(GRACE, channel).await;
}

/// Lets answers under way be sent.
async fn end(mut connections: JoinSet<()>) {
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
}

/// Serves one connection to its end.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, routes: Router) {
    let stream = TokioIo::new(Impatient::new(stream, ANSWER_TIME));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .half_close(true)
        .serve_connection(stream, TowerToHyperService::new(routes))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke off");
    }
}

#[cfg(test)]
#[path = "server_test.rs"]
mod tests;
