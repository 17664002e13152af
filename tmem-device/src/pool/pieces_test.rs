use super::*;

fn free_pieces() -> usize {
    FREE.with_borrow(Vec::len)
}

#[test]
fn data_of_any_length_comes_back() {
    let data: Vec<u8> = (0..4096u32).map(|at| (at * 7 + at / 256) as u8).collect();
    for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 4095, 4096] {
        let pieces = Pieces::cut(&data[..length]);
        let mut back = vec![0xa5; length];
        assert_eq!(pieces.join(&mut back), Ok(()));
        assert_eq!(back, data[..length]);
    }
}

#[test]
fn too_little_data_is_noticed() {
    let pieces = Pieces::cut(&[1; PIECE]);
    assert_eq!(pieces.join(&mut [0; PIECE + 1]), Err(Damaged));
}

#[test]
fn freed_pieces_are_used_again_and_no_more_are_kept_than_stated() {
    let page = [7; PIECES * PIECE];
    let pages: Vec<Pieces> = (0..SPARE / PIECES + 5)
        .map(|_| Pieces::cut(&page))
        .collect();
    assert_eq!(free_pieces(), 0);
    drop(pages);
    assert_eq!(free_pieces(), SPARE);
    let used = Pieces::cut(&page[..2 * PIECE + 1]);
    assert_eq!(free_pieces(), SPARE - 3);
    // A piece that held other data shows none of it.
    let mut back = [0; 2 * PIECE + 1];
    assert_eq!(used.join(&mut back), Ok(()));
    assert_eq!(back, page[..2 * PIECE + 1]);
}

#[test]
fn a_repeated_word_is_found_and_one_that_differs_anywhere_is_too() {
    let page = [1u8, 2, 3, 4, 5, 6, 7, 8].repeat(4096 / 8);
    assert_eq!(Pieces::cut(&page).repeats(), Some([1, 2, 3, 4, 5, 6, 7, 8]));
    for at in [0, 9, PIECE - 1, PIECE, 2 * PIECE + 1, 4095] {
        let mut page = page.clone();
        page[at] ^= 1;
        assert_eq!(Pieces::cut(&page).repeats::<8>(), None);
    }
}

#[test]
fn an_error_of_the_source_ends_the_copy() {
    let mut calls = 0;
    let copy = Pieces::fill(4 * PIECE, |_| {
        calls += 1;
        if calls < 3 { Ok(()) } else { Err("gone") }
    });
    assert_eq!(copy.err(), Some("gone"));
    assert_eq!(calls, 3);
}
