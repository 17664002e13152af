//! A machine's tmem: the pool, its governor, the device in front of it, and what may change while they work.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tmem_device::governor::{Event, Events, Governor, Settings};
use tmem_device::pool::{HostPool, PoolConfig, Writer};
use tmem_device::tier::Tier;
use tmem_device::tier::disk::DiskTier;

use super::{MachineError, host};
use crate::confine::{self, Thread};
use crate::devices::virtio::tmem::{Tmem, TmemConfig};

/// Pool, governor and device.
pub struct TmemService {
    pool: Arc<HostPool>,
    device: Arc<Tmem>,
    /// Without, the pool's size is fixed.
    governor: Mutex<Option<Governor>>,
    /// Where the pool spills.
    _writer: Option<Writer>,
}

impl TmemService {
    /// Opens what the pool spills to, and makes an empty pool above it, and the device of its guest.
    pub(crate) fn open(config: &TmemConfig) -> Result<Self, MachineError> {
        let mut settings = PoolConfig::new(config.size);
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
        let service = TmemService {
            device: Arc::new(Tmem::new(pool.clone(), config)?),
            pool,
            governor: Mutex::default(),
            _writer: host("a thread that spills", writer.transpose())?,
        };
        if let Some(minimum) = config.minimum {
            let settings = Settings {
                minimum,
                ..Settings::new(config.size)
            };
            host("a governor", service.govern(Some(settings)))?;
        }
        Ok(service)
    }

    /// The device.
    pub fn device(&self) -> &Arc<Tmem> {
        &self.device
    }

    /// The pool behind it.
    pub fn pool(&self) -> &HostPool {
        &self.pool
    }

    fn governor(&self) -> MutexGuard<'_, Option<Governor>> {
        self.governor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the governor keeps to, if there is one.
    pub fn governed(&self) -> Option<Settings> {
        self.governor().as_ref().map(Governor::settings)
    }

    /// Has a governor keep to `settings` from now on; with `None`, there is none, and the size stays as it is.
    ///
    /// # Errors
    /// The process may not have another file or thread.
    pub fn govern(&self, settings: Option<Settings>) -> std::io::Result<()> {
        let mut slot = self.governor();
        match (slot.as_ref(), settings) {
            (Some(governor), Some(settings)) => governor.set_settings(settings),
            (None, Some(settings)) => {
                let enter = || confine::enter(Thread::Governor);
                *slot = Some(Governor::start(self.pool.clone(), settings, enter)?);
            }
            (_, None) => *slot = None,
        }
        Ok(())
    }

    /// What the governor decided after its event number `after`.
    pub fn decisions(&self, after: u64) -> Vec<Event> {
        let events = self.governor().as_ref().map(|g| g.events().clone());
        events.map_or_else(Vec::new, |events: Arc<Events>| {
            events.after(after, std::time::Duration::ZERO)
        })
    }

    /// Has the pool take no more than `bytes` from now on. Returns at once; what is too much is dropped by a thread of its
    /// own.
    ///
    /// # Errors
    /// The process may not have another thread.
    pub fn resize(&self, bytes: u64) -> std::io::Result<()> {
        self.pool.announce_size(bytes);
        let pool = self.pool.clone();
        // Several at once do no harm: each keeps to the size that was announced last.
        let thread = thread::Builder::new().name("tmem-resize".into());
        thread.spawn(move || pool.keep_to_size()).map(drop)
    }
}
