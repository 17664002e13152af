//! A machine's tmem: the pool, its governor, the device in front of it, and what may change while they work.

use std::io;
use std::sync::Arc;

use tmem_device::governor::{Event, Governor, Settings};
use tmem_device::pool::{HostPool, PoolConfig, Writer};
use tmem_device::tier::Tier;
use tmem_device::tier::disk::DiskTier;

use super::keeper::Keeper;
use super::{MachineError, host};
use crate::confine::{self, Thread};
use crate::devices::virtio::tmem::{Tmem, TmemConfig};

/// Pool, governor and device.
pub struct TmemService {
    pool: Arc<HostPool>,
    device: Arc<Tmem>,
    /// Without, the pool's size is fixed for good.
    governor: Option<Governor>,
    /// Without, whoever changes the size has the pool keep to it.
    keeper: Option<Keeper>,
    /// Where the pool spills.
    _writer: Option<Writer>,
}

impl TmemService {
    /// Opens what the pool spills to, and makes an empty pool above it, and the device of its guest. Where it is `controlled`, it
    /// may be changed from confined threads: all files are open and all threads there that it may then need.
    pub(crate) fn open(config: &TmemConfig, controlled: bool) -> Result<Self, MachineError> {
        let mut settings = PoolConfig::new(config.size).with_secret_seed();
        let mut tiers: Vec<Arc<dyn Tier>> = vec![];
        if let Some(spill) = &config.spill {
            let late = || confine::enter(Thread::SpillLate);
            tiers.push(Arc::new(DiskTier::open_with(&spill.disk, late)?));
            settings.dirty = spill.dirty;
            settings.spill_ephemeral = spill.ephemeral;
        }
        let spills = !tiers.is_empty();
        let pool = HostPool::with_tiers(settings, tiers);
        let writer = spills.then(|| Writer::start(pool.clone(), || confine::enter(Thread::Spill)));
        let settings = config.minimum.map(|minimum| Settings {
            minimum,
            ..Settings::new(config.size)
        });
        let governor = (controlled || settings.is_some())
            .then(|| Governor::start(pool.clone(), settings, || confine::enter(Thread::Governor)));
        let keeper = controlled.then(|| Keeper::start(pool.clone()));
        Ok(TmemService {
            device: Arc::new(Tmem::new(pool.clone(), config)?),
            pool,
            governor: host("a governor", governor.transpose())?,
            keeper: host("a thread that keeps to a size", keeper.transpose())?,
            _writer: host("a thread that spills", writer.transpose())?,
        })
    }

    /// The device.
    pub fn device(&self) -> &Arc<Tmem> {
        &self.device
    }

    /// The pool behind it.
    pub fn pool(&self) -> &HostPool {
        &self.pool
    }

    /// What the governor keeps to, if it governs.
    pub fn governed(&self) -> Option<Settings> {
        self.governor.as_ref().and_then(Governor::settings)
    }

    /// Has a governor keep to `settings` from now on; with `None`, there is none, and the size stays as it is.
    ///
    /// # Errors
    /// The service is not controlled, and was opened without a governor.
    pub fn govern(&self, settings: Option<Settings>) -> io::Result<()> {
        match (&self.governor, settings) {
            (Some(governor), settings) => governor.set_settings(settings),
            (None, None) => {}
            (None, Some(_)) => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(())
    }

    /// What the governor decided after its event number `after`.
    pub fn decisions(&self, after: u64) -> Vec<Event> {
        let events = self.governor.as_ref().map(Governor::events);
        events.map_or_else(Vec::new, |events| {
            events.after(after, std::time::Duration::ZERO)
        })
    }

    /// Has the pool take no more than `bytes` from now on. Of a service that is controlled, returns at once; what is too
    /// much is dropped by a thread of its own.
    pub fn resize(&self, bytes: u64) {
        self.pool.announce_size(bytes);
        match &self.keeper {
            Some(keeper) => keeper.keep_to_size(),
            None => self.pool.keep_to_size(),
        }
    }
}
