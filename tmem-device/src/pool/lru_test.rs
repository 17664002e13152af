use proptest::prelude::*;

use super::*;
use crate::wire::PAGE_SIZE;

fn key(index: u64) -> Key {
    Key {
        guest: 0,
        pool: 0,
        object: [0; _],
        index,
    }
}

fn indexes(entries: &Entries, list: List) -> Vec<u64> {
    let mut indexes = Vec::new();
    let (mut slot, mut before) = (entries.ends[list as usize].oldest, NIL);
    while slot != NIL {
        let entry = entries.get(slot);
        let links = entry.links[list as usize];
        assert_eq!(links.older, before);
        indexes.push(entry.key.index);
        (before, slot) = (slot, links.newer);
    }
    assert_eq!(entries.ends[list as usize].newest, before);
    indexes
}

fn stored(raw: bool) -> Stored {
    let mut page = [0; PAGE_SIZE];
    page[0] = u8::from(raw);
    Stored::keep(&page)
}

proptest! {
    /// The slab against vectors of indexes in order of age and a table of slots.
    #[test]
    fn behaves_like_lists(steps in prop::collection::vec((0u8..6, any::<u16>()), 1..1500)) {
        let mut entries = Entries::new();
        let mut by_age: Vec<u64> = Vec::new();
        let mut raw_by_age: Vec<u64> = Vec::new();
        let mut slots: Vec<(u64, bool)> = Vec::new();
        for (stamp, (step, pick)) in steps.into_iter().enumerate() {
            let stamp = stamp as u64;
            let raw = pick % 3 != 0;
            if step < 2 || slots.is_empty() {
                let ephemeral = pick % 5 != 0;
                let slot = entries.insert(key(stamp), stored(raw), stamp, ephemeral);
                prop_assert_eq!(slot as usize, slots.len());
                slots.push((stamp, ephemeral));
                if ephemeral {
                    by_age.push(stamp);
                }
                if raw {
                    raw_by_age.push(stamp);
                }
                continue;
            }
            let slot = usize::from(pick) % slots.len();
            let (index, ephemeral) = slots[slot];
            raw_by_age.retain(|old| *old != index);
            match step {
                2 => {
                    by_age.retain(|old| *old != index);
                    entries.replace(slot as u32, stored(raw), stamp);
                    if ephemeral {
                        by_age.push(index);
                    }
                    if raw {
                        raw_by_age.push(index);
                    }
                }
                3 => {
                    let age = entries.get(slot as u32).stamp;
                    entries.settle(slot as u32);
                    entries.reform(slot as u32, stored(false));
                    prop_assert_eq!(entries.get(slot as u32).stamp, age);
                }
                _ => {
                    by_age.retain(|old| *old != index);
                    let (entry, moved) = entries.remove(slot as u32);
                    prop_assert_eq!(entry.key.index, index);
                    slots.swap_remove(slot);
                    prop_assert_eq!(moved.map(|key| key.index), slots.get(slot).map(|s| s.0));
                }
            }
        }
        prop_assert_eq!(entries.len(), slots.len());
        prop_assert_eq!(entries.raw_pages() as usize, raw_by_age.len());
        prop_assert_eq!(indexes(&entries, List::Ephemeral), by_age);
        prop_assert_eq!(indexes(&entries, List::Raw), raw_by_age);
        for (slot, (index, _)) in slots.iter().enumerate() {
            prop_assert_eq!(entries.get(slot as u32).key.index, *index);
        }
        prop_assert!(entries.chunks.len() * CHUNK <= slots.len() + 2 * CHUNK);
    }
}

#[test]
fn an_entry_is_as_large_as_the_books_say() {
    assert_eq!(size_of::<Entry>(), 88);
}
