use proptest::prelude::*;

use super::*;

fn round_trip(page: &Page) -> Stored {
    let stored = Stored::encode(page);
    let mut back = [0xa5; PAGE_SIZE];
    stored
        .decode(&mut back)
        .expect("a page that was just encoded");
    assert_eq!(&back, page);
    stored
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
fn text_is_compressed_to_its_exact_length() {
    let mut page = [0; PAGE_SIZE];
    for (at, byte) in page.iter_mut().enumerate() {
        *byte = b"for (i = 0; i < n; i++) "[at % 24] + u8::from(at % 501 == 0);
    }
    let Stored::Compressed(data) = round_trip(&page) else {
        panic!("text must compress")
    };
    assert!(data.len() < 512);
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
    assert!(matches!(stored, Stored::Raw(_)));
    assert_eq!(stored.data_bytes(), PAGE_SIZE as u64);
}

#[test]
fn damage_is_noticed() {
    let mut page = [0; PAGE_SIZE];
    assert_eq!(
        Stored::Compressed(Box::from([0xff; 9])).decode(&mut page),
        Err(Damaged)
    );
    assert_eq!(
        Stored::Compressed(Box::from([])).decode(&mut page),
        Err(Damaged)
    );
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
