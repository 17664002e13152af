use proptest::prelude::*;

use super::*;
use Step::{Flush, Get, Put};

#[test]
fn the_page_put_longest_ago_goes_first() {
    let steps = [Put(1), Put(2), Put(3), Get(1), Get(2), Get(3)];
    assert_eq!([1, 2, 3].map(|room| lru(&steps, room)), [1, 2, 3]);
    // A get removes its page, and another put makes it the latest.
    let steps = [Put(1), Put(2), Get(1), Put(1), Put(3), Get(2), Get(1)];
    assert_eq!(lru(&steps, 2), 2);
    // So does a put over it; what is flushed leaves room.
    let steps = [Put(1), Put(2), Put(1), Put(3), Get(1), Get(2)];
    assert_eq!(lru(&steps, 2), 1);
    let steps = [Put(1), Put(2), Flush(2), Put(3), Get(1), Get(3)];
    assert_eq!(lru(&steps, 2), 2);
}

#[test]
fn the_optimum_sees_the_future() {
    // A loop that is one page too long: the worst of LRU.
    let pass = |from: u32| (from..from + 3).map(|page| page % 3);
    let steps: Vec<_> = pass(0)
        .map(Put)
        .chain(pass(0).flat_map(|page| [Get(page), Put(page)]))
        .collect();
    assert_eq!(lru(&steps, 2), 0);
    assert_eq!(optimum(&steps, 2), 2);
    assert_eq!(optimum(&steps, 3), 3);
    // What is flushed or put over before its get needs no room.
    let steps = [Put(1), Put(2), Put(3), Flush(2), Put(3), Get(1), Get(3)];
    assert_eq!(optimum(&steps, 1), 1);
    assert_eq!(optimum(&steps, 2), 2);
}

/// As many hits as there can be, by trying everything.
fn exhaustive(steps: &[Step], room: usize, stored: &mut Vec<u32>) -> usize {
    let Some((step, rest)) = steps.split_first() else {
        return 0;
    };
    let (Put(page) | Get(page) | Flush(page)) = *step;
    let before = stored.clone();
    stored.retain(|other| *other != page);
    let hit = matches!(step, Get(_)) && stored.len() < before.len();
    let mut most = exhaustive(rest, room, &mut stored.clone());
    if matches!(step, Put(_)) {
        stored.push(page);
        if stored.len() <= room {
            most = most.max(exhaustive(rest, room, &mut stored.clone()));
        } else {
            for victim in 0..room {
                let mut stored = stored.clone();
                stored.remove(victim);
                most = most.max(exhaustive(rest, room, &mut stored));
            }
        }
    }
    *stored = before;
    usize::from(hit) + most
}

proptest! {
    #[test]
    fn nothing_beats_the_optimum(
        steps in prop::collection::vec((0..3, 0u32..4), 0..9),
        room in 1..3_usize,
    ) {
        let steps: Vec<_> = steps.into_iter().map(|(kind, page)| match kind {
            0 => Put(page),
            1 => Get(page),
            _ => Flush(page),
        }).collect();
        let best = exhaustive(&steps, room, &mut vec![]);
        prop_assert_eq!(optimum(&steps, room), best);
        prop_assert!(lru(&steps, room) <= best);
    }
}
