//! What every page of the data disk and of the swap workload holds.
//!
//! A page is a function of (seed, file, page). It looks to LZ4 like ordinary file contents: literals, and short matches with
//! what came before, in a proportion that varies from page to page and gives a ratio of about two. Word 1 carries the
//! page's own address, so no two pages of one seed are equal.

use crate::random::mix;

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// Bytes of one word, the unit in which content is made.
const WORD: usize = 8;
/// Words of one record: some fresh, the rest copied from earlier in the page.
const RECORD: usize = 4;

/// How many of a record's words are fresh, eight cases for each of eight classes of pages (from nearly all repetition to
/// nearly incompressible); the mean decides the ratio.
const FRESH: [[u8; 8]; 8] = [
    [0, 0, 0, 0, 0, 0, 1, 1],
    [0, 0, 0, 0, 1, 1, 1, 2],
    [0, 0, 1, 1, 1, 1, 2, 2],
    [0, 1, 1, 1, 1, 1, 2, 2],
    [0, 1, 1, 1, 1, 2, 2, 2],
    [0, 1, 1, 1, 2, 2, 2, 3],
    [1, 1, 1, 2, 2, 2, 3, 3],
    [2, 3, 3, 3, 4, 4, 4, 4],
];

/// Fills `out` with the content of page number `page` of file number `file`.
pub fn fill_page(seed: u64, file: u32, page: u32, out: &mut [u8; PAGE_SIZE]) {
    let address = (u64::from(file) << 32) | u64::from(page);
    let mut state = mix(mix(seed) ^ address);
    let fresh_words = &FRESH[(state >> 61) as usize];
    let mut next = || {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        state ^ (state >> 29)
    };

    for word in out[..RECORD * WORD].chunks_exact_mut(WORD) {
        word.copy_from_slice(&next().to_le_bytes());
    }
    out[WORD..2 * WORD].copy_from_slice(&(address ^ mix(!seed)).to_le_bytes());

    for record in 1..PAGE_SIZE / WORD / RECORD {
        let start = record * RECORD * WORD;
        let choice = next();
        let fresh = usize::from(fresh_words[(choice >> 61) as usize]);
        let (before, rest) = out.split_at_mut(start);
        let (literals, copy) = rest[..RECORD * WORD].split_at_mut(fresh * WORD);
        for word in literals.chunks_exact_mut(WORD) {
            word.copy_from_slice(&next().to_le_bytes());
        }
        // Anywhere in what is complete, so that the copy never overlaps itself.
        let places = (start - copy.len()) / WORD + 1;
        let from = (((choice & 0xffff) as usize * places) >> 16) * WORD;
        copy.copy_from_slice(&before[from..from + copy.len()]);
    }
}

/// Compares every byte of `found` with what [`fill_page`] would write; returns how many differ.
pub fn corrupt_bytes(seed: u64, file: u32, page: u32, found: &[u8; PAGE_SIZE]) -> u64 {
    let mut expected = [0; PAGE_SIZE];
    fill_page(seed, file, page, &mut expected);
    differing_bytes(&expected, found)
}

/// How many bytes differ between two equally long pieces.
pub fn differing_bytes(expected: &[u8], found: &[u8]) -> u64 {
    if expected == found {
        return 0;
    }
    expected.iter().zip(found).filter(|(a, b)| a != b).count() as u64
}

#[cfg(test)]
#[path = "content_test.rs"]
mod tests;
