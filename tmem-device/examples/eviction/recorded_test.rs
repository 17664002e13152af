use super::*;

/// Hits of the pool, of LRU and of the optimum, with room for 1, 2, 4 and 6 eighths.
type Hits = [(usize, usize, usize); 4];

fn hits(name: &str) -> Hits {
    let trace = read(name.split('+').map(recorded)).unwrap();
    EIGHTHS.map(|eighths| {
        let row = Row::new(&trace, eighths);
        // What objects and gaps take.
        assert!((row.room * 96 / 100..=row.room).contains(&(row.pool.pages as usize)));
        (row.pool.hits, row.lru, row.optimum)
    })
}

/// Exact: a trace gives the same hits wherever it is played.
#[test]
fn a_scan_costs_the_pool_less_than_lru() {
    let beside_reread = [
        (21671, 18805, 50060),
        (37237, 32568, 60156),
        (53941, 50840, 62097),
        (60663, 59920, 62097),
    ];
    let beside_source = [
        (13, 0, 18663),
        (5718, 4763, 34473),
        (26796, 18895, 66091),
        (66165, 58097, 68149),
    ];
    for (name, expected) in [
        ("reread+scan", beside_reread),
        ("source+scan", beside_source),
    ] {
        let hits = hits(name);
        assert!(hits.iter().all(|(pool, lru, _)| pool > lru), "{hits:?}");
        assert_eq!(hits, expected, "{name}");
    }
}

#[test]
fn what_is_read_in_order_again_and_again_is_not_lost_as_a_whole() {
    let expected = [
        (583, 518, 11555),
        (3711, 1024, 20771),
        (16864, 7558, 38888),
        // Where nearly all has room, what objects and new pages take of it costs more than the order buys.
        (45838, 47224, 51176),
    ];
    assert_eq!(hits("sequential"), expected);
}
