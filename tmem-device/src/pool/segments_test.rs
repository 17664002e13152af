use super::*;

/// Whoever copied a page of the first one, and was not lucky, would take what is in the second for unchanged.
#[test]
fn a_segment_is_not_taken_for_a_later_one_of_its_number_and_age() {
    let mut segments = Segments::new(Arena::new(false));
    let add = |segments: &mut Segments| {
        let added = segments.add(Queue::Persistent, 5, 0, Data::Short(&[1; 8]));
        added.expect("memory").0
    };
    let place = add(&mut segments);
    let first = segments.oldest(Queue::Persistent).expect("a segment");
    assert!(segments.next_page(first, 0).is_some());
    assert!(segments.remove(place).is_some());
    assert_eq!(add(&mut segments), place);
    let second = segments.oldest(Queue::Persistent).expect("a segment");
    assert_eq!((first.number, first.age), (second.number, second.age));
    assert!(segments.next_page(first, 0).is_none());
    assert!(segments.next_page(second, 0).is_some());
}
