use proptest::prelude::*;

use super::*;

fn key(index: u64) -> Key {
    Key {
        guest: 0,
        pool: 0,
        object: [0; _],
        index,
    }
}

fn indexes_by_age(entries: &Entries) -> Vec<u64> {
    let mut indexes = Vec::new();
    let (mut slot, mut before) = (entries.oldest, NIL);
    while slot != NIL {
        let entry = entries.get(slot);
        assert_eq!(entry.older, before);
        indexes.push(entry.key.index);
        (before, slot) = (slot, entry.newer);
    }
    assert_eq!(entries.newest, before);
    indexes
}

proptest! {
    /// The slab against a vector of (index, ephemeral) in order of age and a table of slots.
    #[test]
    fn behaves_like_a_list(steps in prop::collection::vec((0u8..4, any::<u16>()), 1..1500)) {
        let mut entries = Entries::new();
        let mut by_age: Vec<u64> = Vec::new();
        let mut slots: Vec<(u64, bool)> = Vec::new();
        for (stamp, (step, pick)) in steps.into_iter().enumerate() {
            let stamp = stamp as u64;
            let stored = Stored::Filled(stamp.to_le_bytes());
            if step < 2 || slots.is_empty() {
                let ephemeral = pick % 5 != 0;
                let slot = entries.insert(key(stamp), stored, stamp, ephemeral);
                prop_assert_eq!(slot as usize, slots.len());
                slots.push((stamp, ephemeral));
                if ephemeral {
                    by_age.push(stamp);
                }
                continue;
            }
            let slot = usize::from(pick) % slots.len();
            let (index, ephemeral) = slots[slot];
            by_age.retain(|old| *old != index);
            if step == 2 {
                entries.replace(slot as u32, stored, stamp);
                if ephemeral {
                    by_age.push(index);
                }
            } else {
                let (entry, moved) = entries.remove(slot as u32);
                prop_assert_eq!(entry.key.index, index);
                slots.swap_remove(slot);
                prop_assert_eq!(moved.map(|key| key.index), slots.get(slot).map(|s| s.0));
            }
        }
        prop_assert_eq!(entries.len(), slots.len());
        prop_assert_eq!(indexes_by_age(&entries), by_age);
        for (slot, (index, _)) in slots.iter().enumerate() {
            prop_assert_eq!(entries.get(slot as u32).key.index, *index);
        }
        prop_assert!(entries.chunks.len() * CHUNK <= slots.len() + 2 * CHUNK);
    }
}
