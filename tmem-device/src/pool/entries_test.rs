use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn place(number: u32) -> At {
    At::Here(Place {
        segment: number,
        record: number as u16,
    })
}

proptest! {
    /// As a map, whatever comes and goes; and whoever is told of moves knows every page's slot.
    #[test]
    fn is_a_map(steps in prop::collection::vec((0..7u32, 0..40u32, any::<bool>()), 1..600)) {
        let mut entries = Entries::new(7);
        let mut model = BTreeMap::new();
        // By place, which is different for each page here.
        let mut slots = BTreeMap::new();
        for (number, (object, index, put)) in (0..).zip(steps) {
            let key = PageKey { object, index };
            let slot = entries.find(key);
            prop_assert_eq!(slot.is_some(), model.contains_key(&(object, index)));
            match (slot, put) {
                (None, true) => {
                    slots.insert(number, entries.next_slot());
                    entries.insert(key, place(number));
                    model.insert((object, index), number);
                }
                (Some(slot), false) => {
                    let gone = model.remove(&(object, index)).expect("it was there");
                    prop_assert_eq!(entries.at(slot), place(gone));
                    prop_assert_eq!(slots.remove(&gone), Some(slot));
                    if let Some(moved) = entries.remove(slot) {
                        let At::Here(place) = moved.at else {
                            panic!("not what was inserted");
                        };
                        slots.insert(place.segment, moved.slot);
                    }
                }
                _ => {}
            }
            prop_assert_eq!(entries.len(), model.len());
        }
        for ((object, index), number) in model {
            let slot = entries.find(PageKey { object, index });
            prop_assert_eq!(slot, slots.get(&number).copied());
            prop_assert_eq!(entries.at(slot.expect("there")), place(number));
        }
    }
}

#[test]
fn an_entry_takes_20_bytes_and_the_slab_gives_memory_back() {
    assert_eq!(size_of::<Entry>(), 20);
    let mut entries = Entries::new(7);
    for index in 0..100_000 {
        entries.insert(PageKey { object: 1, index }, place(index));
    }
    let full = entries.bytes();
    assert!(full < 100_000 * 26, "{full}");
    for _ in 0..100_000 {
        entries.remove(0);
    }
    assert!(entries.bytes() < full / 20);
}

#[test]
fn pages_chosen_for_one_seed_do_not_share_a_chain_under_another() {
    let chosen: Vec<_> = (0..2_000_000)
        .map(|index| PageKey { object: 1, index })
        .filter(|key| key.hash(0) & 0xfff == 0)
        .collect();
    let longest = |seed| {
        let mut entries = Entries::new(seed);
        for (number, key) in (0..).zip(&chosen) {
            entries.insert(*key, place(number));
        }
        entries.chains.longest(&entries.slab)
    };
    assert!(longest(0) > 400);
    assert!(longest(0x1234_5678_9abc_def1) < 16);
}
