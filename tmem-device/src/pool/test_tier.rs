//! A tier for tests: records in a map, and failures on demand.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::tier::{Handle, Load, LoadError, StoreError, Tier, TierStats};

/// What fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    Nothing,
    /// Stores.
    Full,
    /// Stores, after so many.
    SlowAfter(u32),
    /// Loads.
    Unreadable,
}

#[derive(Default)]
struct State {
    records: BTreeMap<u64, Vec<u8>>,
    last: u64,
    fault: Fault,
    stats: TierStats,
}

/// The tier, which takes `room` records.
pub(super) struct TestTier {
    room: usize,
    state: Mutex<State>,
    /// Called with each batch that is stored, before it returns.
    pub stored: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl TestTier {
    pub fn new(room: usize) -> Self {
        TestTier {
            room,
            state: Mutex::default(),
            stored: Mutex::default(),
        }
    }

    pub fn set_fault(&self, fault: Fault) {
        self.lock().fault = fault;
    }

    /// What no checksum has noticed.
    pub fn damage(&self) {
        for record in self.lock().records.values_mut() {
            record.truncate(record.len() - 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with the lock")
    }
}

impl Tier for TestTier {
    fn store(&self, records: &[&[u8]]) -> Result<Vec<Handle>, StoreError> {
        let mut state = self.lock();
        match state.fault {
            Fault::Full => return Err(StoreError::Full),
            Fault::SlowAfter(0) => return Err(StoreError::Slow),
            Fault::SlowAfter(rest) => state.fault = Fault::SlowAfter(rest - 1),
            Fault::Nothing | Fault::Unreadable => {}
        }
        if state.records.len() + records.len() > self.room {
            return Err(StoreError::Full);
        }
        let handles = records.iter().map(|record| {
            state.last += 1;
            let last = state.last;
            state.records.insert(last, record.to_vec());
            Handle::from_bits(last).expect("not as many")
        });
        let handles = handles.collect();
        drop(state);
        if let Some(stored) = &*self.stored.lock().expect("no thread panics with the lock") {
            stored();
        }
        Ok(handles)
    }

    fn load(&self, wanted: &mut [Load<'_>]) {
        let mut state = self.lock();
        for load in wanted {
            load.result = match state.records.get(&load.handle.bits()) {
                None => Err(LoadError::Unknown),
                Some(_) if state.fault == Fault::Unreadable => Err(LoadError::Damaged),
                Some(record) => {
                    load.buffer[..record.len()].copy_from_slice(record);
                    Ok(record.len())
                }
            };
            state.stats.loaded += u64::from(load.result.is_ok());
        }
    }

    fn discard(&self, handles: &[Handle]) {
        let mut state = self.lock();
        for handle in handles {
            let known = state.records.remove(&handle.bits());
            assert!(known.is_some(), "{handle:?} is discarded twice");
        }
    }

    fn stats(&self) -> TierStats {
        let state = self.lock();
        TierStats {
            records: state.records.len() as u64,
            ..state.stats
        }
    }
}
