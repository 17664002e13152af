use super::*;

/// Room for one record of this size, the medium having as much as asked.
fn reserve(segments: &mut Segments, space: usize) -> Result<Extent, Short> {
    loop {
        match segments.reserve(&[space], Purpose::Store, true) {
            Ok(mut extents) => {
                assert_eq!(extents.len(), 1);
                return Ok(extents.remove(0));
            }
            Err(Short::Grow(segment)) => segments.grown(segment, true),
            Err(short) => return Err(short),
        }
    }
}

#[test]
fn records_fill_blocks_and_segments_from_the_begin() {
    let mut segments = Segments::new(4);
    let spaces = [SEGMENT - BLOCK, 2 * UNIT, UNIT, BLOCK];
    while let Err(Short::Grow(segment)) = segments.reserve(&spaces, Purpose::Store, true) {
        segments.grown(segment, true);
    }
    let extent = reserve(&mut segments, UNIT).expect("room");
    // The first two records and the third fill segment 0, the fourth goes to segment 1.
    assert_eq!(
        (extent.segment, extent.start, extent.length),
        (1, BLOCK, BLOCK)
    );
    assert_eq!(segments.used_bytes(), 2 * SEGMENT as u64);
}

#[test]
fn the_cleaner_has_a_segment_that_stores_have_not() {
    let mut segments = Segments::new(3);
    for segment in 0..2 {
        let extent = reserve(&mut segments, SEGMENT).expect("room");
        assert_eq!((extent.segment, extent.records), (segment, 1));
    }
    assert_eq!(reserve(&mut segments, SEGMENT), Err(Short::Clean));
    let cleaned = segments.reserve(&[SEGMENT], Purpose::Clean, false);
    assert_eq!(cleaned.expect("the reserve")[0].segment, 2);
}

#[test]
fn a_segment_is_free_when_nobody_needs_it() {
    let mut segments = Segments::new(4);
    let extent = reserve(&mut segments, SEGMENT).expect("room");
    let place = Place {
        segment: extent.segment,
        unit: 0,
        length: 100,
    };
    segments.add(0, place, 128);
    segments.unpin(0, true);
    segments.pin(0);
    reserve(&mut segments, SEGMENT).expect("room");
    assert_eq!(segments.used_bytes(), 2 * SEGMENT as u64);
    segments.remove(0, 128);
    assert_eq!(
        segments.used_bytes(),
        2 * SEGMENT as u64,
        "it is being read"
    );
    segments.unpin(0, false);
    assert_eq!(segments.used_bytes(), SEGMENT as u64);
    assert!(segments.slots(0).is_empty());
}

#[test]
fn a_segment_that_could_not_be_written_is_used_last() {
    let mut segments = Segments::new(4);
    let bad = reserve(&mut segments, BLOCK).expect("room").segment;
    segments.write_failed(bad);
    segments.unpin(bad, true);
    let next: Vec<u32> = (0..3)
        .map(|_| reserve(&mut segments, SEGMENT).map_or(bad, |extent| extent.segment))
        .collect();
    assert_eq!(next, [1, 2, 3], "the bad one is the reserve");
    let last = segments.reserve(&[SEGMENT], Purpose::Clean, false);
    assert_eq!(last.expect("the reserve")[0].segment, bad);
}

#[test]
fn the_emptiest_segment_that_may_be_cleaned_is() {
    let mut segments = Segments::new(8);
    let live = [WORTH_CLEANING + UNIT, 4096, 512, 1024, 2048, 64];
    for (number, live) in live.into_iter().enumerate() {
        let segment = reserve(&mut segments, SEGMENT).expect("room").segment;
        let place = Place {
            segment,
            unit: 0,
            length: 1,
        };
        segments.add(number as u32, place, live);
        if number != 3 {
            segments.unpin(segment, true);
        }
    }
    segments.read_failed(2);
    // The first is too full, the third unreadable, the fourth being written, the last open.
    assert_eq!(segments.victim(), Some(4));
    segments.remove(4, 2048);
    assert_eq!(segments.victim(), Some(1));
    segments.remove(1, 4096);
    assert_eq!(segments.victim(), None);
}

#[test]
fn a_medium_without_room_is_asked_again() {
    let mut segments = Segments::new(4);
    for _ in 0..2 {
        let short = segments.reserve(&[UNIT], Purpose::Store, true);
        assert_eq!(short, Err(Short::Grow(0)), "the same again");
        segments.grown(0, false);
        let short = segments.reserve(&[UNIT], Purpose::Store, false);
        assert_eq!(short, Err(Short::Clean));
    }
    assert_eq!((segments.used_bytes(), count(offset(4))), (0, 4));
}
