//! `/tmem/events`: what happens to the pool, as it happens (server-sent events).

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde::Serialize;
use tmem_device::governor::Event as Decision;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::vm::no_tmem;
use super::work::Workers;
use super::{Problem, Vm};
use crate::machine::running::{Machine, Phase};

/// How often it is looked what has happened.
const INTERVAL: Duration = Duration::from_millis(250);

/// Who listens at most.
pub const LISTENERS: usize = 16;

/// A look at the pool: what grew since the last one is told.
#[derive(Clone, Copy, Default)]
struct Seen {
    decision: u64,
    evictions: u64,
    taken: u64,
    refused: u64,
}

#[derive(Serialize)]
struct Pages {
    pages: u64,
}

fn json(name: &str, data: &impl Serialize) -> Event {
    // Structures of numbers always have a JSON form.
    let text = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).data(text)
}

fn decision(decision: &Decision) -> Event {
    json("governor", decision).id(decision.number.to_string())
}

/// What has happened since `seen`, which becomes the present.
fn news(machine: &Machine, seen: &mut Seen) -> Vec<Event> {
    let Some(service) = machine.tmem() else {
        return vec![];
    };
    let decisions = service.decisions(seen.decision);
    seen.decision = decisions.last().map_or(seen.decision, |last| last.number);
    let mut events: Vec<_> = decisions.iter().map(decision).collect();
    let (pool, device) = (service.pool().stats(), service.device().stats());
    let mut bulk = |name: &str, seen: &mut u64, now: u64| {
        let pages = now.saturating_sub(std::mem::replace(seen, now));
        if pages > 0 {
            events.push(json(name, &Pages { pages }));
        }
    };
    bulk("evictions", &mut seen.evictions, pool.evictions);
    bulk("taken", &mut seen.taken, pool.taken_pages);
    bulk("refusals", &mut seen.refused, device.puts_refused);
    events
}

/// A listener: holds no machine, so that one can end meanwhile.
struct Listener {
    machine: Weak<Machine>,
    workers: Workers,
    seen: Seen,
    waiting: std::vec::IntoIter<Event>,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(event) = self.waiting.next() {
                return Some((Ok(event), self));
            }
            tokio::time::sleep(INTERVAL).await;
            let machine = self.machine.upgrade()?;
            if machine.phase() == Phase::Ended {
                return None;
            }
            let mut seen = self.seen;
            let look = move || (news(&machine, &mut seen), seen);
            let (events, seen) = self.workers.run(look).await.ok()?;
            (self.waiting, self.seen) = (events.into_iter(), seen);
        }
    }
}

/// Governor decisions with their reasons (`governor`), and in bulk, pages evicted to make room (`evictions`), pages that the
/// kernel took (`taken`), puts refused (`refusals`). With `Last-Event-ID`, decisions go on from there, as far as they are
/// kept.
#[utoipa::path(get, path = "/tmem/events", responses(
    (status = 200, description = "Events without end", content_type = "text/event-stream", body = String),
    (status = "4XX", response = super::openapi::ProblemResponse),
    (status = 503, response = super::openapi::ProblemResponse)))]
pub async fn get(
    State(vm): State<Arc<Vm>>,
    State(workers): State<Workers>,
    Extension(places): Extension<Arc<Semaphore>>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let machine = vm
        .machine()
        .ok_or_else(|| Problem::conflict("the machine does not run; start it first"))?;
    let service = machine.tmem().ok_or_else(no_tmem)?;
    let place = places.try_acquire_owned().map_err(|_| {
        Problem::unavailable(format!("{LISTENERS} listen already; end one of them"))
    })?;
    let last = headers.get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()?.parse().ok());
    let (pool, device) = (service.pool().stats(), service.device().stats());
    let listener = Listener {
        machine: Arc::downgrade(&machine),
        workers,
        seen: Seen {
            decision: last.unwrap_or(0),
            evictions: pool.evictions,
            taken: pool.taken_pages,
            refused: device.puts_refused,
        },
        waiting: vec![].into_iter(),
        _place: place,
    };
    let stream = stream::unfold(listener, Listener::next);
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}
