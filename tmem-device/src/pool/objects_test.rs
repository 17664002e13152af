use super::*;

fn key(pool: u32, object: u64) -> ObjectKey {
    ObjectKey {
        pool,
        object: [object, 0, 7],
    }
}

#[test]
fn objects_are_there_while_they_have_pages() {
    let mut objects = Objects::default();
    let (first, new) = objects.add_page(&key(1, 1), 0, 5);
    assert!(new);
    assert_eq!(objects.add_page(&key(1, 1), 0, 3), (first, false));
    let object = objects.get(first);
    assert_eq!((object.pages, object.highest), (2, 5));
    let (other, new) = objects.add_page(&key(2, 1), 0, 0);
    assert!(new && other != first);
    assert_eq!(objects.find(&key(2, 1), 0), Some(other));
    assert_eq!(objects.find(&key(2, 1), 1), None);
    assert!(!objects.page_goes(first));
    assert!(objects.page_goes(first));
    assert_eq!(objects.find(&key(1, 1), 0), None);
    assert!(!objects.is(first, &key(1, 1)));
    assert_eq!(objects.len(), 1);
    // A number is not used again soon.
    let (third, new) = objects.add_page(&key(3, 9), 0, 0);
    assert!(new && third != first && objects.is(third, &key(3, 9)));
}

#[test]
fn the_parts_of_an_object_are_enumerated() {
    let mut objects = Objects::default();
    let mut numbers = Vec::new();
    for part in [0, 1, 5, u32::MAX] {
        numbers.push(objects.add_page(&key(1, 1), part, 0).0);
    }
    for object in 2..200 {
        objects.add_page(&key(1 + object as u32 % 2, object), 0, 0);
    }
    let mut found = objects.parts(&key(1, 1), 1, u32::MAX);
    found.sort_unstable();
    assert_eq!(found, numbers[1..]);
    for number in numbers {
        assert!(objects.page_goes(number));
    }
    assert!(objects.parts(&key(1, 1), 0, u32::MAX).is_empty());
    assert_eq!(objects.len(), 198);
}

#[test]
fn pages_are_counted_by_pool() {
    let mut objects = Objects::default();
    let mut numbers = Vec::new();
    for (pool, pages) in [(7, 3), (2, 1), (9, 5), (2, 2)] {
        for object in 0..pages {
            numbers.push(objects.add_page(&key(pool, object % 2), 0, object as u32).0);
        }
    }
    let count = |objects: &Objects| [1, 2, 7, 9].map(|pool| objects.pages_of(pool));
    assert_eq!(count(&objects), [0, 3, 3, 5]);
    for number in numbers {
        objects.page_goes(number);
    }
    assert_eq!(count(&objects), [0; 4]);
    assert!(objects.tally.pools.is_empty());
}
