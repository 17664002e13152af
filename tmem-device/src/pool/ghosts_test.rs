use super::*;
use crate::pool::key::ObjectKey;

fn key(index: u64) -> Key {
    Key {
        object: ObjectKey {
            pool: 1,
            object: [3, 0, 0],
        },
        index,
    }
}

#[test]
fn the_latest_are_known_and_older_ones_forgotten() {
    let ghosts = Ghosts::new(4096);
    assert_eq!(ghosts.bytes(), 8192);
    for index in 0..100_000 {
        ghosts.add(1, &key(index));
        assert!(ghosts.knows(1, &key(index)));
    }
    let known = |range: std::ops::Range<u64>, guest| {
        range
            .filter(|index| ghosts.knows(guest, &key(*index)))
            .count()
    };
    // Of as many as there is room for, two in three are in buckets that were not overrun.
    assert!(known(99_000..100_000, 1) > 950);
    assert!(known(96_000..97_000, 1) > 500);
    assert!(known(0..1000, 1) < 5);
    assert!(known(99_000..100_000, 2) < 5, "another guest's");
}
