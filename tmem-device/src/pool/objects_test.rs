use super::*;

fn key(pool: u32, object: u64) -> ObjectKey {
    ObjectKey {
        guest: 1,
        pool,
        object: [object, 0, 0],
    }
}

#[test]
fn an_object_goes_with_its_last_page_and_its_number_does_not_come_back() {
    let mut objects = Objects::default();
    let first_page = objects.add(key(0, 5));
    let second_page = Arc::clone(objects.find(&key(0, 5)).expect("it was added"));
    assert!(!objects.page_goes(&first_page));
    drop(first_page);
    assert!(objects.page_goes(&second_page));
    assert!(objects.find(&key(0, 5)).is_none());
    assert_eq!(objects.len(), 0);
    assert_ne!(objects.add(key(0, 5)).number, second_page.number);
}

#[test]
fn objects_of_a_pool_follow_each_other() {
    let mut objects = Objects::default();
    let keys = [key(0, u64::MAX), key(1, 3), key(1, 7), key(2, 0)];
    let _pages: Vec<_> = keys.iter().rev().map(|key| objects.add(*key)).collect();
    assert_eq!(objects.first_from(&key(1, 0)).expect("there").key, keys[1]);
    assert_eq!(objects.first_from(&key(1, 4)).expect("there").key, keys[2]);
    assert_eq!(objects.first_from(&key(1, 8)).expect("there").key, keys[3]);
    assert!(objects.first_from(&key(2, 1)).is_none());
}

#[test]
fn an_object_takes_what_the_books_say() {
    // Two counters before it, and the heap's header behind them.
    assert_eq!(size_of::<Object>() + 16 + 8, 64);
}
