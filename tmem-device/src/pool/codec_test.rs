use proptest::prelude::*;

use super::*;

/// Both forms of a page come back as it was; returns the shorter one.
fn round_trip(page: &Page) -> Stored {
    let kept = PageCopy::from(page).0;
    check(&kept, page);
    match Stored::compress(page) {
        Some(stored) if kept.is_raw() => {
            assert!(stored.data_bytes() < kept.data_bytes());
            check(&stored, page);
            stored
        }
        _ => kept,
    }
}

fn check(stored: &Stored, page: &Page) {
    let mut back = [0xa5; PAGE_SIZE];
    stored
        .decode(&mut back)
        .expect("a page that was just encoded");
    assert_eq!(&back, page);
}

#[test]
fn same_filled_pages_cost_no_data() {
    for word in [0u64, u64::MAX, 0x0123_4567_89ab_cdef] {
        let mut page = [0; PAGE_SIZE];
        for chunk in page.as_chunks_mut::<WORD>().0 {
            *chunk = word.to_le_bytes();
        }
        let stored = round_trip(&page);
        assert!(matches!(stored, Stored::Filled(_)));
        assert_eq!(stored.data_bytes(), 0);
    }
}

#[test]
fn text_is_compressed_into_one_piece() {
    let mut page = [0; PAGE_SIZE];
    for (at, byte) in page.iter_mut().enumerate() {
        *byte = b"for (i = 0; i < n; i++) "[at % 24] + u8::from(at % 501 == 0);
    }
    let stored = round_trip(&page);
    let Stored::Data { length, .. } = stored else {
        panic!("text is not same-filled")
    };
    assert!((64..PIECE).contains(&usize::from(length)), "{length} bytes");
    assert_eq!(stored.data_bytes(), PIECE_COST);
}

#[test]
fn noise_is_kept_raw() {
    let mut state = 1u64;
    let page = std::array::from_fn(|_| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    });
    let stored = round_trip(&page);
    assert!(matches!(stored, Stored::Data { length, .. } if usize::from(length) == PAGE_SIZE));
    assert_eq!(stored.data_bytes(), WORST_DATA);
}

#[test]
fn damage_is_noticed() {
    let mut page = [0; PAGE_SIZE];
    for broken in [&[0xff; 9][..], &[], &[0; PIECE + 1]] {
        assert_eq!(Stored::cut(broken).decode(&mut page), Err(Damaged));
    }
    for length in [1, PAGE_SIZE as u16, PAGE_SIZE as u16 + 1] {
        let pieces = Pieces::cut(&[]);
        assert_eq!(
            Stored::Data { pieces, length }.decode(&mut page),
            Err(Damaged)
        );
    }
}

proptest! {
    #[test]
    fn every_page_comes_back(
        seed in prop::collection::vec(any::<u8>(), 1..600),
        step in 1usize..40,
    ) {
        let page = std::array::from_fn(|at| seed[(at / step) % seed.len()]);
        round_trip(&page);
    }
}
