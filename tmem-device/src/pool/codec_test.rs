use proptest::prelude::*;

use super::*;

/// What is kept of a page comes back as it was; returns it.
fn round_trip(page: &Page) -> Vec<u8> {
    let kept = match shorten(page) {
        Some(word) => word.to_vec(),
        None => compress(page, |compressed| compressed.unwrap_or(page).to_vec()),
    };
    if kept.len() < PAGE_SIZE {
        let mut back = [0xa5; PAGE_SIZE];
        decode(&kept, &mut back).expect("a page that was just encoded");
        assert_eq!(&back, page);
    }
    kept
}

#[test]
fn same_filled_pages_are_one_word() {
    for word in [0u64, u64::MAX, 0x0123_4567_89ab_cdef] {
        let mut page = [0; PAGE_SIZE];
        for chunk in page.as_chunks_mut::<WORD>().0 {
            *chunk = word.to_le_bytes();
        }
        assert_eq!(round_trip(&page), word.to_le_bytes());
        page[PAGE_SIZE - 1] ^= 1;
        assert!(round_trip(&page).len() > WORD);
    }
}

#[test]
fn text_is_compressed() {
    let mut page = [0; PAGE_SIZE];
    for (at, byte) in page.iter_mut().enumerate() {
        *byte = b"for (i = 0; i < n; i++) "[at % 24] + u8::from(at % 501 == 0);
    }
    let kept = round_trip(&page);
    assert!((32..400).contains(&kept.len()), "{} bytes", kept.len());
}

#[test]
fn noise_is_kept_as_it_is() {
    let mut state = 1u64;
    let page = std::array::from_fn(|_| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    });
    assert_eq!(round_trip(&page), page);
}

#[test]
fn damage_is_noticed() {
    let mut page = [0; PAGE_SIZE];
    for broken in [
        &[0xff; 9][..],
        &[],
        &[0; 1025],
        &[0; PAGE_SIZE + 1],
        &[0; 1],
    ] {
        assert_eq!(decode(broken, &mut page), Err(Damaged));
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
