//! The pool behind a machine's virtio-tmem device, with its tiers, its governor and the thread that writes to the tiers.

use std::sync::Arc;

use tmem_device::governor::{Governor, Settings};
use tmem_device::pool::{HostPool, PoolConfig, Writer};
use tmem_device::tier::Tier;
use tmem_device::tier::disk::DiskTier;

use super::{MachineError, host};
use crate::confine::{self, Thread};
use crate::devices::virtio::tmem::TmemConfig;

/// A pool, and who looks after it.
pub struct MachinePool {
    /// The pool itself.
    pub host: Arc<HostPool>,
    /// Where its size is not fixed.
    _governor: Option<Governor>,
    /// Where it has tiers.
    _writer: Option<Writer>,
}

impl MachinePool {
    /// Opens the tiers, and makes an empty pool above them.
    pub fn open(config: &TmemConfig) -> Result<Self, MachineError> {
        let mut pool = PoolConfig::new(config.size);
        let mut tiers: Vec<Arc<dyn Tier>> = vec![];
        if let Some(spill) = &config.spill {
            tiers.push(Arc::new(DiskTier::open_with(&spill.disk, || {
                confine::enter(Thread::SpillLate)
            })?));
            pool.dirty = spill.dirty;
            pool.spill_ephemeral = spill.ephemeral;
        }
        let spills = !tiers.is_empty();
        let pool = HostPool::with_tiers(pool, tiers);
        let governor = match config.minimum {
            None => None,
            Some(minimum) => {
                let settings = Settings {
                    minimum,
                    ..Settings::new(config.size)
                };
                Some(host(
                    "a governor",
                    Governor::start(pool.clone(), settings, || confine::enter(Thread::Governor)),
                )?)
            }
        };
        let writer = match spills {
            false => None,
            true => Some(host(
                "a thread that writes to tiers",
                Writer::start(pool.clone(), || confine::enter(Thread::Spill)),
            )?),
        };
        Ok(MachinePool {
            host: pool,
            _governor: governor,
            _writer: writer,
        })
    }
}
