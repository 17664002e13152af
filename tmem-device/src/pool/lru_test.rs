use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::pool::PageCopy;
use crate::pool::key::ObjectKey;
use crate::wire::PAGE_SIZE;

fn object() -> Arc<Object> {
    let key = ObjectKey {
        guest: 0,
        pool: 0,
        object: [0; _],
    };
    Arc::new(Object { key, number: 0 })
}

fn by_age(entries: &Entries) -> Vec<u64> {
    let mut indexes = Vec::new();
    let (mut slot, mut before) = (entries.oldest, NIL);
    while slot != NIL {
        let entry = entries.get(slot);
        assert_eq!(entry.older, before);
        indexes.push(entry.index);
        (before, slot) = (slot, entry.newer);
    }
    assert_eq!(entries.newest, before);
    indexes
}

fn raw(entries: &Entries) -> BTreeSet<u64> {
    let raw = entries.raw().iter().enumerate().map(|(at, slot)| {
        let entry = entries.get(*slot);
        assert_eq!(entry.raw_at as usize, at);
        entry.index
    });
    raw.collect()
}

fn stored(raw: bool) -> Stored {
    let mut page = [0; PAGE_SIZE];
    page[0] = u8::from(raw);
    PageCopy::from(&page).0
}

proptest! {
    /// The slab against a vector of indexes in order of age, a set of raw ones and a table of slots.
    #[test]
    fn behaves_like_a_list_and_a_set(steps in prop::collection::vec((0u8..6, any::<u16>()), 1..1500)) {
        let mut entries = Entries::new();
        let mut aging: Vec<u64> = Vec::new();
        let mut untried: BTreeSet<u64> = BTreeSet::new();
        let mut slots: Vec<(u64, bool)> = Vec::new();
        for (stamp, (step, pick)) in steps.into_iter().enumerate() {
            let stamp = stamp as u64;
            let raw = pick % 3 != 0;
            if step < 2 || slots.is_empty() {
                let ephemeral = pick % 5 != 0;
                let slot = entries.insert((object(), stamp), stored(raw), stamp, ephemeral);
                prop_assert_eq!(slot as usize, slots.len());
                slots.push((stamp, ephemeral));
                if ephemeral {
                    aging.push(stamp);
                }
                if raw {
                    untried.insert(stamp);
                }
                continue;
            }
            let slot = usize::from(pick) % slots.len();
            let (index, ephemeral) = slots[slot];
            untried.remove(&index);
            match step {
                2 => {
                    aging.retain(|old| *old != index);
                    entries.replace(slot as u32, stored(raw), stamp);
                    if ephemeral {
                        aging.push(index);
                    }
                    if raw {
                        untried.insert(index);
                    }
                }
                3 => {
                    let age = entries.get(slot as u32).stamp;
                    entries.settle(slot as u32);
                    entries.reform(slot as u32, stored(false));
                    prop_assert_eq!(entries.get(slot as u32).stamp, age);
                }
                _ => {
                    aging.retain(|old| *old != index);
                    let (entry, moved) = entries.remove(slot as u32);
                    prop_assert_eq!(entry.index, index);
                    slots.swap_remove(slot);
                    prop_assert_eq!(moved.map(|key| key.index), slots.get(slot).map(|s| s.0));
                }
            }
        }
        prop_assert_eq!(entries.len(), slots.len());
        prop_assert_eq!(entries.raw().len(), untried.len());
        prop_assert_eq!(by_age(&entries), aging);
        prop_assert_eq!(raw(&entries), untried);
        for (slot, (index, _)) in slots.iter().enumerate() {
            prop_assert_eq!(entries.get(slot as u32).index, *index);
        }
        prop_assert!(entries.chunks.len() * CHUNK <= slots.len() + 2 * CHUNK);
    }
}

#[test]
fn an_entry_is_as_large_as_the_books_say() {
    assert_eq!(size_of::<Entry>(), 56);
}
