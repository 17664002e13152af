use super::*;

fn key(pool: u32, object: u64) -> ObjectKey {
    ObjectKey {
        pool,
        object: [object, 0, 7],
    }
}

#[test]
fn objects_are_there_while_they_have_pages() {
    let mut objects = Objects::new(7);
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
fn pages_are_counted_by_pool() {
    let mut objects = Objects::new(7);
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

impl Objects {
    fn longest(&mut self) -> usize {
        let seed = self.seed;
        let by_key = self.by_key.longest(&ByKey(&mut self.slab, seed));
        by_key.max(self.by_number.longest(&ByNumber(&mut self.slab, seed)))
    }
}

/// A miss of one of them took 314 us when they shared a chain.
#[test]
fn the_parts_of_an_object_do_not_share_a_chain() {
    let mut objects = Objects::new(7);
    for part in 0..80_000 {
        objects.add_page(&key(1, 1), part, 0);
    }
    assert!(objects.longest() < 24, "{}", objects.longest());
}

#[test]
fn objects_chosen_for_one_seed_do_not_share_a_chain_under_another() {
    let chosen: Vec<_> = (0..2_000_000)
        .map(|object| key(1, object))
        .filter(|key| hash_part(key, 0, 0) & 0xfff == 0)
        .collect();
    assert!(chosen.len() > 400);
    let longest = |seed| {
        let mut objects = Objects::new(seed);
        for key in &chosen {
            objects.add_page(key, 0, 0);
        }
        objects.longest()
    };
    assert!(longest(0) > 400);
    assert!(longest(0x1234_5678_9abc_def1) < 16);
}
