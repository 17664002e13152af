//! Pages that a tier alone has, when they are asked for.

use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;

use super::below::Spot;
use super::books;
use super::filled::Data;
use super::key::Key;
use super::shard::Fetched;
use super::store::Store;
use super::{BATCH, HostPool, Page, PoolError, PoolKind, change, codec, work};
use crate::tier::{Load, LoadError, MAX_RECORD};
use crate::wire::PAGE_SIZE;

/// A page that is to come from a tier.
pub(super) struct Wanted {
    /// Which of those that were asked for.
    pub at: usize,
    pub spot: Spot,
}

thread_local! {
    /// Records as the tier returns them.
    static RECORDS: RefCell<Vec<[u8; MAX_RECORD]>> = RefCell::new(vec![[0; MAX_RECORD]; BATCH]);
}

impl HostPool {
    /// Gets pages from their tiers, [`BATCH`] at most, and sets the results of these. Persistent ones come back to memory if there
    /// is room; ephemeral ones have left the pool already, and leave their tier.
    pub(super) fn reload(
        &self,
        store: &Store,
        kind: PoolKind,
        keys: &[Key],
        pages: &mut [Page],
        results: &mut [Result<bool, PoolError>],
        mut wanted: Vec<Wanted>,
    ) {
        let exclusive = kind == PoolKind::Ephemeral;
        RECORDS.with_borrow_mut(|records| {
            while !wanted.is_empty() {
                work::add(wanted.len() as u64 * work::RECORD);
                let loaded = self.load(&wanted, records);
                let mut again = Vec::new();
                for ((wanted, length), record) in wanted.iter().zip(loaded).zip(records.iter()) {
                    let Wanted { at, spot } = *wanted;
                    let (key, page) = (&keys[at], &mut pages[at]);
                    let kept = length.map(|length| &record[..length]);
                    results[at] = match kept {
                        Ok(kept) if expand(kept, page) => {
                            change(&self.counters.reloaded_pages, 0, 1);
                            if exclusive {
                                self.ghosts.add(store.guest, key);
                            } else {
                                self.come_back(store, key, spot, kept);
                            }
                            Ok(true)
                        }
                        // It was put again or flushed since it was looked up, or written anew.
                        Err(LoadError::Unknown) if !exclusive => {
                            match self.look_again(store, key, page, spot) {
                                Again::Result(result) => result,
                                Again::Elsewhere(spot) => {
                                    again.push(Wanted { at, spot });
                                    continue;
                                }
                            }
                        }
                        failed => self.unreadable(kind, failed.err()),
                    };
                }
                if exclusive {
                    self.discard(wanted.iter().map(|wanted| wanted.spot).collect());
                }
                wanted = again;
            }
        });
    }

    /// Loads records, each to its own buffer; their lengths.
    fn load(
        &self,
        wanted: &[Wanted],
        records: &mut [[u8; MAX_RECORD]],
    ) -> Vec<Result<usize, LoadError>> {
        let mut loaded = vec![Err(LoadError::Unknown); wanted.len()];
        for (number, tier) in self.tiers.iter().enumerate() {
            let here = wanted.iter().zip(records.iter_mut()).enumerate();
            let here = here.filter(|(_, (wanted, _))| usize::from(wanted.spot.tier) == number);
            let (places, mut loads): (Vec<_>, Vec<_>) = here
                .map(|(place, (wanted, record))| (place, Load::new(wanted.spot.handle, record)))
                .unzip();
            if loads.is_empty() {
                continue;
            }
            tier.load(&mut loads);
            for (place, load) in places.into_iter().zip(loads) {
                loaded[place] = load.result;
            }
        }
        loaded
    }

    /// Keeps a persistent page in memory besides, as its tier has it, if the pool has room or makes some.
    fn come_back(&self, store: &Store, key: &Key, spot: Spot, kept: &[u8]) {
        let data = Data::settled(kept);
        let booked = books::clean_cost(data.length());
        if !self.make_room(store.guest, PoolKind::Ephemeral, booked) {
            return;
        }
        let (number, age) = (store.shard_of(&key.object), store.next_age());
        let charge = self.with(store, number, PoolKind::Persistent, |shard, _| {
            shard.page_comes_back(key, spot, age, data)
        });
        let charge = charge.unwrap_or_default();
        change(&self.counters.stored_bytes, 0, charge.bytes);
        if charge.cost < booked {
            let surplus = booked - charge.cost;
            self.books
                .release(store.guest, PoolKind::Ephemeral, surplus);
        }
    }

    /// Looks a persistent page up again that its tier did not know.
    fn look_again(&self, store: &Store, key: &Key, page: &mut Page, old: Spot) -> Again {
        let shard = store.shard_of(&key.object);
        let mut data = [0; PAGE_SIZE];
        let found = self.with(store, shard, PoolKind::Persistent, |shard, left| {
            shard.fetch(key, false, page, &mut data, left)
        });
        Again::Result(match found {
            Fetched::Absent => Ok(false),
            Fetched::Page => Ok(true),
            Fetched::Data(length) if expand(&data[..length], page) => Ok(true),
            Fetched::Data(_) => Err(PoolError::Lost),
            Fetched::Below(spot) if spot != old => return Again::Elsewhere(spot),
            Fetched::Below(_) => self.unreadable(PoolKind::Persistent, Some(LoadError::Unknown)),
        })
    }

    /// The answer to a get of a page that its tier did not return.
    fn unreadable(&self, kind: PoolKind, error: Option<LoadError>) -> Result<bool, PoolError> {
        let count = self.counters.unreadable_pages.fetch_add(1, Relaxed) + 1;
        // A disk that fails does so often.
        if count.is_power_of_two() {
            let error = error.unwrap_or(LoadError::Damaged);
            tracing::error!(%error, count, "a page cannot be read from its tier; look after the medium");
        }
        match kind {
            PoolKind::Ephemeral => Ok(false),
            PoolKind::Persistent => Err(PoolError::Lost),
        }
    }
}

/// What a second look has found.
enum Again {
    Result(Result<bool, PoolError>),
    Elsewhere(Spot),
}

/// Writes to `page` what is kept of it; false if that is damaged.
fn expand(kept: &[u8], page: &mut Page) -> bool {
    match kept.try_into() {
        Ok(whole) => {
            *page = whole;
            true
        }
        Err(_) => codec::decode(kept, page).is_ok(),
    }
}
