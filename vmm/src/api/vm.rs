//! What the control socket controls: a machine that waits for its configuration, runs, or has ended.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::Problem;
use super::body::Json;
use super::config::VmConfig;
use super::forward::Forward;
use super::tmem_settings::{TmemPatch, TmemSettings};
use crate::machine::running::{Machine, Phase};

/// What the thread that runs machines hears of while there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Start one.
    Start,
    /// End, by this signal.
    Signal(i32),
}

/// How far the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VmState {
    /// It can be configured, and started.
    Waiting,
    /// It is being started.
    Starting,
    /// Its vCPUs run.
    Running,
    /// Its vCPUs stand.
    Paused,
    /// It has ended; so does the VMM.
    Ended,
}

/// Where the machine is.
enum Stage {
    Waiting,
    Starting,
    Here(Arc<Machine>),
    InLab(Forward),
    Ended,
}

struct Inner {
    config: VmConfig,
    stage: Stage,
    /// Who asked for the start, and waits to hear how it went.
    starter: Option<oneshot::Sender<Result<(), String>>>,
    calls: Sender<Call>,
}

/// The machine towards the control socket and the thread that runs it.
pub struct Vm {
    inner: Mutex<Inner>,
    /// Held while tmem is changed, so that what was asked for last holds. That takes locks of the pool, for which vCPUs may
    /// have to be waited for; who only looks does not wait for it. Taken before `inner`.
    changes: Mutex<()>,
}

/// The answer to `GET /vm`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VmView {
    /// How far it is.
    pub state: VmState,
    /// Of this VMM.
    pub version: &'static str,
    /// What it is made of.
    pub config: VmConfig,
}

impl Vm {
    /// One that waits; `calls` is how the thread that runs machines hears of a start.
    pub fn new(config: VmConfig, calls: Sender<Call>) -> Arc<Self> {
        Arc::new(Vm {
            inner: Mutex::new(Inner {
                config,
                stage: Stage::Waiting,
                starter: None,
                calls,
            }),
            changes: Mutex::new(()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the machine is made of.
    pub fn config(&self) -> VmConfig {
        self.lock().config.clone()
    }

    /// The machine, if it is one of this process.
    pub fn machine(&self) -> Option<Arc<Machine>> {
        match &self.lock().stage {
            Stage::Here(machine) => Some(machine.clone()),
            _ => None,
        }
    }

    /// The way to the machine, if it is in the lab.
    pub fn forward(&self) -> Option<Forward> {
        match &self.lock().stage {
            Stage::InLab(forward) => Some(forward.clone()),
            _ => None,
        }
    }

    /// How far it is; of a machine in the lab, no more than that it was started.
    pub fn state(&self) -> VmState {
        match &self.lock().stage {
            Stage::Waiting => VmState::Waiting,
            Stage::Starting => VmState::Starting,
            Stage::InLab(_) => VmState::Running,
            Stage::Ended => VmState::Ended,
            Stage::Here(machine) => match machine.phase() {
                Phase::Running => VmState::Running,
                Phase::Paused => VmState::Paused,
                Phase::Ended => VmState::Ended,
            },
        }
    }

    /// Changes the configuration of a machine that waits.
    ///
    /// # Errors
    /// It does not wait any more, `change` says so, or what comes out cannot be meant.
    pub fn configure(
        &self,
        change: impl FnOnce(&mut VmConfig) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut inner = self.lock();
        if !matches!(inner.stage, Stage::Waiting) {
            return Err(Problem::conflict(
                "the machine has been started; only tmem can be changed now (PATCH /tmem)",
            ));
        }
        let mut config = inner.config.clone();
        change(&mut config)?;
        config.check().map_err(Problem::conflict)?;
        inner.config = config;
        Ok(())
    }

    /// Changes tmem: of a machine that waits, its configuration; of one that runs, itself.
    ///
    /// # Errors
    /// There is no tmem, the values contradict each other, or there is no thread for what is to change.
    pub fn change_tmem(&self, patch: &TmemPatch) -> Result<(), Problem> {
        let _change = self.change();
        let mut inner = self.lock();
        let mut config = inner.config.clone();
        let settings = config.tmem.as_ref().ok_or_else(no_tmem)?.patched(patch);
        config.tmem = Some(settings.clone());
        let checked = match inner.stage {
            Stage::Waiting => config.check(),
            // Of a pool that is there, less may be dirty than was asked for.
            _ => settings.check(),
        };
        checked.map_err(Problem::conflict)?;
        if let Stage::Here(machine) = &inner.stage {
            let machine = machine.clone();
            drop(inner);
            let service = machine.tmem().ok_or_else(no_tmem)?;
            settings.apply(service).map_err(|error| {
                Problem::unavailable(format!("this machine has no governor's thread: {error}"))
            })?;
            inner = self.lock();
        }
        inner.config.tmem = Some(settings);
        Ok(())
    }

    /// Asks for the start of a machine that waits; the receiver hears how it went.
    ///
    /// # Errors
    /// It does not wait, or nobody said what to boot.
    pub fn ask_start(&self) -> Result<oneshot::Receiver<Result<(), String>>, Problem> {
        let mut inner = self.lock();
        if !matches!(inner.stage, Stage::Waiting) {
            return Err(Problem::conflict("the machine has been started already"));
        }
        if inner.config.boot_source.is_none() {
            return Err(Problem::conflict("nothing to boot; PUT /boot-source first"));
        }
        let (starter, started) = oneshot::channel();
        inner
            .calls
            .send(Call::Start)
            .map_err(|_| Problem::conflict("the VMM is ending"))?;
        inner.stage = Stage::Starting;
        inner.starter = Some(starter);
        Ok(started)
    }

    /// For the thread that runs machines: one is being started, asked for or not.
    pub fn starting(&self) {
        self.lock().stage = Stage::Starting;
    }

    /// For the thread that runs machines: the machine runs here.
    pub fn started(&self, machine: &Arc<Machine>) {
        let _change = self.change();
        if let (Some(settings), Some(service)) = (self.tmem_settings(), machine.tmem())
            && let Err(error) = settings.apply(service)
        {
            tracing::warn!(%error, "tmem is not as it was configured");
        }
        let mut inner = self.lock();
        inner.stage = Stage::Here(machine.clone());
        if let Some(starter) = inner.starter.take() {
            // Nobody waits any more: that is no error.
            let _ = starter.send(Ok(()));
        }
    }

    /// For the thread that runs machines: the machine runs in a lab, or soon will.
    pub fn in_lab(&self, forward: Forward) {
        let mut inner = self.lock();
        inner.stage = Stage::InLab(forward);
        if let Some(starter) = inner.starter.take() {
            let _ = starter.send(Ok(()));
        }
    }

    /// For the thread that runs machines: the machine could not be started, and waits again.
    pub fn failed(&self, why: String) {
        let mut inner = self.lock();
        inner.stage = Stage::Waiting;
        if let Some(starter) = inner.starter.take() {
            let _ = starter.send(Err(why));
        }
    }

    /// For the thread that runs machines: there is no machine any more.
    pub fn ended(&self) {
        let mut inner = self.lock();
        inner.stage = Stage::Ended;
        inner.starter = None;
    }

    fn view(&self) -> VmView {
        VmView {
            state: self.state(),
            version: env!("CARGO_PKG_VERSION"),
            config: self.config(),
        }
    }

    /// What tmem was asked to be.
    pub fn tmem_settings(&self) -> Option<TmemSettings> {
        self.lock().config.tmem.clone()
    }
}

/// The answer where there is no tmem.
pub fn no_tmem() -> Problem {
    Problem::not_found("this machine has no tmem; PUT /tmem before it is started")
}

/// How far the machine is, and what it is made of.
#[utoipa::path(get, path = "/vm", responses(
    (status = 200, description = "The machine", body = VmView),
    (status = "4XX", response = super::openapi::ProblemResponse)))]
pub async fn get(State(vm): State<Arc<Vm>>) -> Result<Json<serde_json::Value>, Problem> {
    let mut view = serde_json::to_value(vm.view()).unwrap_or_default();
    if let Some(forward) = vm.forward() {
        // Files have other names inside the lab: those are the lab's business.
        let inside = forward.get_json("/vm").await?;
        view["state"] = inside["state"].clone();
        view["config"]["tmem"] = inside["config"]["tmem"].clone();
    }
    Ok(Json(view))
}
