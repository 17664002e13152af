use super::*;

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at * 7 + seed * 31 + at / 256) as u8)
        .collect()
}

#[test]
fn data_comes_back_across_pages() {
    let arena = Arena::new(true);
    let mut segment = arena.segment().expect("address space");
    let mut places = Vec::new();
    for seed in 0.. {
        let data = pattern(seed, 1 + seed * 97 % PAGE_SIZE);
        if data.len() > segment.room() {
            break;
        }
        places.push((segment.append(&data), data));
    }
    assert!(places.len() > 30 && segment.room() < PAGE_SIZE);
    segment.seal(true);
    assert_eq!(segment.room(), 0);
    for (begin, data) in places {
        let mut back = vec![0; data.len()];
        assert_eq!(segment.read(begin, &mut back), Ok(()));
        assert_eq!(back, data);
    }
}

#[test]
fn what_the_kernel_took_is_gone_and_the_rest_is_not() {
    let arena = Arena::new(true);
    let mut segment = arena.segment().expect("address space");
    let data = pattern(1, 3 * PAYLOAD);
    segment.append(&data);
    segment.seal(true);
    assert_eq!(segment.resident(), 0b111);
    segment.discard(0b10);
    assert_eq!(segment.resident(), 0b101);
    let mut back = vec![0; PAYLOAD];
    assert_eq!(segment.read(0, &mut back), Ok(()));
    assert_eq!(back, data[..PAYLOAD]);
    assert_eq!(segment.read(PAYLOAD, &mut back), Err(Gone));
    assert_eq!(segment.read(1, &mut back), Err(Gone));
    assert_eq!(segment.read(2 * PAYLOAD, &mut back), Ok(()));
    assert_eq!(back, data[2 * PAYLOAD..]);
    // An empty range touches no page.
    assert!(segment.is_there(PAYLOAD, PAYLOAD));
}

#[test]
fn a_segment_used_again_does_not_show_what_was_there() {
    let arena = Arena::new(true);
    let mut segment = arena.segment().expect("address space");
    segment.append(&pattern(1, SEGMENT_PAYLOAD));
    segment.seal(true);
    drop(segment);
    let mut segment = arena.segment().expect("address space");
    segment.append(&pattern(2, PAYLOAD));
    let mut back = vec![0; PAYLOAD];
    assert_eq!(segment.read(0, &mut back), Ok(()));
    assert_eq!(back, pattern(2, PAYLOAD));
    assert!(!segment.is_there(PAYLOAD, 2 * PAYLOAD), "an old header");
}

/// Fills and frees segments; then how many pages of memory the same number of segments has.
fn resident_after(reclaimable: bool, trim: bool) -> usize {
    let arena = Arena::new(reclaimable);
    let segments: Vec<_> = (0..2 * KEPT)
        .map(|number| {
            let mut segment = arena.segment().expect("address space");
            segment.append(&pattern(3, SEGMENT_PAYLOAD));
            if number % 2 == 0 {
                segment.seal(true);
            }
            segment
        })
        .collect();
    drop(segments);
    if trim {
        arena.trim();
    }
    let resident: Vec<_> = (0..2 * KEPT)
        .map(|_| arena.segment().expect("address space"))
        .collect();
    assert!(arena.lock().kept.is_empty() && arena.lock().empty.is_empty());
    let pages = resident
        .iter()
        .map(|segment| segment.resident().count_ones());
    pages.sum::<u32>() as usize
}

#[test]
fn free_memory_is_kept_as_long_as_the_kernel_may_take_it() {
    assert_eq!(resident_after(true, false), 2 * KEPT * SEGMENT_PAGES);
    assert_eq!(resident_after(true, true), 0);
    assert_eq!(resident_after(false, false), KEPT * SEGMENT_PAGES);
    assert_eq!(resident_after(false, true), 0);
}

#[test]
fn whole_pages_take_the_place_of_others() {
    let page = |seed| -> Page { pattern(seed, PAGE_SIZE).try_into().expect("a page") };
    let arena = Arena::new(true);
    let mut segment = arena.segment().expect("address space");
    let mut words: Vec<_> = (0..SEGMENT_PAGES)
        .map(|number| segment.write_page(number, &page(number)))
        .collect();
    segment.seal(true);
    words[5] = segment.write_page(5, &page(100));
    segment.seal(true);
    segment.discard(1 << 7);
    let mut back = [0; PAGE_SIZE];
    for (number, word) in words.into_iter().enumerate() {
        let expected = match number {
            5 => Ok(page(100)),
            7 => Err(Gone),
            _ => Ok(page(number)),
        };
        let result = segment.read_page(number, word, &mut back);
        assert_eq!(result.map(|()| back), expected);
        assert_eq!(segment.has_page(number), number != 7);
    }
}

#[test]
fn any_set_of_pages_can_be_returned() {
    let arena = Arena::new(true);
    for set in [
        0,
        1,
        u32::MAX,
        1 << 31,
        0xf0f0_0ff0,
        0x8000_0001,
        u32::MAX >> 1,
    ] {
        let mut segment = arena.segment().expect("address space");
        segment.append(&pattern(1, SEGMENT_PAYLOAD));
        segment.discard(set);
        assert_eq!(segment.resident(), !set, "{set:x}");
    }
}
