use super::*;

fn place(segment: u32) -> Place {
    Place {
        segment,
        unit: 5,
        length: 100,
    }
}

#[test]
fn a_record_takes_twelve_bytes() {
    assert_eq!(size_of::<Entry>(), 12);
}

#[test]
fn a_handle_means_its_record_until_that_is_removed() {
    let mut table = Table::default();
    let ids: Vec<Id> = (0..CHUNK as u32 + 10)
        .map(|at| table.insert(place(at)).expect("a slot"))
        .collect();
    for (at, id) in ids.iter().enumerate() {
        let found = table.find(id.handle()).expect("it is there");
        assert_eq!(found, (*id, place(at as u32)));
    }
    assert_eq!(table.remove(ids[3]), Some(place(3)));
    assert_eq!(table.remove(ids[3]), None);
    assert_eq!(table.find(ids[3].handle()), None);
    let again = table.insert(place(9)).expect("a slot");
    assert_eq!(again.slot, ids[3].slot, "the slot is used again");
    assert_eq!(table.find(ids[3].handle()), None, "the old handle is not");
    assert_eq!(table.remove(ids[3]), None);
    assert_eq!(table.records(), CHUNK as u64 + 10);
    assert_eq!(table.bytes(), 2 * (CHUNK * 12 + 16));
}

#[test]
fn a_handle_that_was_made_up_means_nothing() {
    let mut table = Table::default();
    let id = table.insert(place(0)).expect("a slot");
    for bits in [2, u64::from(u32::MAX), 1 << 32, 1 << 32 | 1, (1 << 40) - 1] {
        let handle = Handle::from_bits(bits).expect("a handle");
        assert_ne!(handle, id.handle());
        assert_eq!(table.find(handle), None);
    }
    assert_eq!(Handle::from_bits(0), None);
    assert_eq!(Handle::from_bits(1 << 40), None);
}

#[test]
fn a_slot_whose_generations_are_used_up_is_retired() {
    let mut table = Table::default();
    let id = table.insert(place(0)).expect("a slot");
    table.entry_mut(id.slot).expect("its entry").generation = u32::MAX;
    let last = Id {
        generation: u32::MAX,
        ..id
    };
    assert!(table.remove(last).is_some());
    for _ in 1..2 * CHUNK {
        assert_ne!(table.insert(place(0)).expect("a slot").slot, id.slot);
    }
}

#[test]
fn only_a_record_that_is_where_it_was_is_moved() {
    let mut table = Table::default();
    let id = table.insert(place(0)).expect("a slot");
    assert!(!table.relocate(id, place(1), place(2)));
    assert!(table.relocate(id, place(0), place(2)));
    assert_eq!(table.in_segment(id.slot, 2), Some((id, place(2))));
    assert_eq!(table.in_segment(id.slot, 0), None);
    assert_eq!(table.remove(id), Some(place(2)));
    assert!(!table.relocate(id, place(2), place(3)), "it is gone");
}
