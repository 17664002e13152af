//! `/tmem`: what the pool holds and for whom, and what of it changes at run time.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tmem_device::pool::{FlushError, PoolKind};
use utoipa::ToSchema;

use super::body::Json;
use super::tmem_settings::{TmemPatch, TmemSettings};
use super::vm::no_tmem;
use super::work::Workers;
use super::{Problem, Vm};
use crate::machine::running::Machine;
use crate::machine::tmem::TmemService;

/// Everything that is known of tmem.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TmemView {
    /// What was asked for.
    pub settings: TmemSettings,
    /// What is there; none before the machine is started.
    pub now: Option<TmemNow>,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TmemNow {
    /// Bytes that the pool may take now; less than its size while the governor says so.
    pub size_bytes: u64,
    /// Bytes that it takes, metadata included.
    pub used_bytes: u64,
    /// Of these, bytes that the host can have back at once: those of ephemeral pages.
    pub freeable_bytes: u64,
    /// Where pages are, from the fastest place to the slowest.
    pub tiers: Vec<Tier>,
    /// Who has them.
    pub guests: Vec<GuestView>,
    /// What the pool counts.
    #[schema(inline)]
    pub pool: BTreeMap<String, u64>,
    /// What the device counts.
    #[schema(inline)]
    pub device: BTreeMap<String, u64>,
}

/// A place that holds pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Tier {
    /// `ram`, or `disk` for what the pool spills to.
    pub kind: &'static str,
    /// Bytes that it may take.
    pub size_bytes: u64,
    /// Bytes that it takes.
    pub used_bytes: u64,
    /// Pages that it holds. What was spilled may be in memory too.
    pub pages: u64,
    /// Bytes of their data, as stored.
    pub data_bytes: u64,
    /// What a disk counts.
    #[schema(inline)]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
}

/// A guest of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct GuestView {
    /// Whether its puts are refused.
    pub frozen: bool,
    /// Its weight.
    pub weight: u32,
    /// Bytes charged for its ephemeral pages.
    pub ephemeral_bytes: u64,
    /// Bytes charged for its persistent pages.
    pub persistent_bytes: u64,
    /// Persistent puts promised to it.
    pub promised_pages: u32,
    /// Its pools.
    pub pools: Vec<PoolView>,
}

/// A guest's pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PoolView {
    /// As the guest knows it.
    pub id: u32,
    /// `ephemeral`: one file system's clean pages; `persistent`: swap.
    pub kind: &'static str,
    /// Pages that it has.
    pub pages: u64,
}

/// The figures of a structure of numbers.
fn figures(of: &impl Serialize) -> BTreeMap<String, u64> {
    let value = serde_json::to_value(of).and_then(serde_json::from_value);
    value.unwrap_or_default()
}

impl TmemNow {
    fn of(service: &TmemService) -> Self {
        let (stats, device) = (service.pool().stats(), service.device().stats());
        let guest = service.device().guest();
        let holding = guest.holding();
        let pools = guest.pools().into_iter().map(|pool| PoolView {
            id: pool.id,
            kind: match pool.kind {
                PoolKind::Ephemeral => "ephemeral",
                PoolKind::Persistent => "persistent",
            },
            pages: pool.pages,
        });
        let size_bytes = service.pool().size();
        let memory = Tier {
            kind: "ram",
            size_bytes,
            used_bytes: stats.used_bytes,
            pages: stats.stored_pages.saturating_sub(stats.below_pages),
            data_bytes: stats.stored_bytes,
            counts: BTreeMap::new(),
        };
        let disks = service.pool().tier_stats().into_iter().map(|tier| Tier {
            kind: "disk",
            size_bytes: tier.capacity_bytes,
            used_bytes: tier.used_bytes,
            pages: tier.records,
            data_bytes: tier.live_bytes,
            counts: figures(&tier),
        });
        TmemNow {
            size_bytes,
            used_bytes: stats.used_bytes,
            freeable_bytes: stats.ephemeral_bytes,
            tiers: std::iter::once(memory).chain(disks).collect(),
            guests: vec![GuestView {
                frozen: guest.is_frozen(),
                weight: holding.share.weight,
                ephemeral_bytes: holding.ephemeral_bytes,
                persistent_bytes: holding.persistent_bytes,
                promised_pages: holding.promised_pages,
                pools: pools.collect(),
            }],
            pool: figures(&stats),
            device: figures(&device),
        }
    }
}

fn view(vm: &Vm) -> Result<TmemView, Problem> {
    let settings = vm.tmem_settings().ok_or_else(no_tmem)?;
    let machine = vm.machine();
    let service = machine.as_deref().and_then(Machine::tmem);
    Ok(TmemView {
        settings,
        now: service.map(TmemNow::of),
    })
}

/// What tmem was asked to be, and what is there.
#[utoipa::path(get, path = "/tmem", responses(
    (status = 200, description = "Everything that is known of tmem", body = TmemView),
    (status = "4XX", response = super::openapi::ProblemResponse)))]
pub async fn get(
    State(vm): State<Arc<Vm>>,
    State(workers): State<Workers>,
) -> Result<Json<TmemView>, Problem> {
    // Takes the locks of the pool, for which vCPUs may have to be waited for; so do those below.
    workers.run(move || view(&vm)).await?.map(Json)
}

/// Gives a machine that has not been started tmem.
#[utoipa::path(put, path = "/tmem", request_body = TmemSettings, responses(
    (status = 204, description = "Set"),
    (status = "4XX", response = super::openapi::ProblemResponse)))]
pub async fn put(
    State(vm): State<Arc<Vm>>,
    Json(settings): Json<TmemSettings>,
) -> Result<StatusCode, Problem> {
    vm.configure(|config| {
        config.tmem = Some(settings);
        Ok(())
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes tmem, before the machine is started or while it runs. A smaller size holds at once; what is too much is
/// dropped soon after.
#[utoipa::path(patch, path = "/tmem", request_body = TmemPatch, responses(
    (status = 200, description = "Changed; as by GET", body = TmemView),
    (status = "4XX", response = super::openapi::ProblemResponse)))]
pub async fn patch(
    State(vm): State<Arc<Vm>>,
    State(workers): State<Workers>,
    Json(patch): Json<TmemPatch>,
) -> Result<Json<TmemView>, Problem> {
    let changed = workers.run(move || {
        vm.change_tmem(&patch)?;
        view(&vm)
    });
    changed.await?.map(Json)
}

/// What to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FlushRequest {
    /// `"ephemeral"`, all that may be dropped; or the id of one ephemeral pool.
    #[schema(inline)]
    pub target: FlushTarget,
}

/// What to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "target is \"ephemeral\" or the id of a pool")]
pub enum FlushTarget {
    /// By kind.
    Kind(FlushKind),
    /// One pool.
    Pool(u32),
}

/// A kind of pools whose pages may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlushKind {
    /// Those with page cache.
    Ephemeral,
}

/// Drops ephemeral pages. Persistent ones are the only copy of what the guest swapped out, and stay.
#[utoipa::path(post, path = "/tmem/flush", request_body = FlushRequest, responses(
    (status = 200, description = "Dropped; as by GET", body = TmemView),
    (status = "4XX", response = super::openapi::ProblemResponse)))]
pub async fn flush(
    State(vm): State<Arc<Vm>>,
    State(workers): State<Workers>,
    Json(FlushRequest { target }): Json<FlushRequest>,
) -> Result<Json<TmemView>, Problem> {
    let flushed = workers.run(move || {
        let machine = vm
            .machine()
            .ok_or_else(|| Problem::conflict("the machine does not run"))?;
        let guest = machine.tmem().ok_or_else(no_tmem)?.device().guest();
        match target {
            FlushTarget::Kind(FlushKind::Ephemeral) => guest.evict_all(),
            FlushTarget::Pool(pool) => guest.flush_pool(pool).map_err(|error| match error {
                FlushError::NoSuchPool(_) => Problem::not_found(error.to_string()),
                FlushError::Persistent(_) => Problem::conflict(error.to_string()),
            })?,
        }
        view(&vm)
    });
    flushed.await?.map(Json)
}

#[cfg(test)]
#[path = "tmem_test.rs"]
pub(super) mod tests;
