//! How one page is kept: as a repeated word, as it is, or compressed by LZ4.
//!
//! To keep a page as it is costs a copy, to compress it ten times as much. So it is compressed only when the
//! pool wants its room ([`HostPool`](super::HostPool) decides), if it is still there then.
//!
//! What is kept of a page that is not kept as it is, is a string of bytes: one word, or an LZ4 block, which is longer.

use std::cell::RefCell;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use crate::wire::PAGE_SIZE;

/// The contents of one page.
pub type Page = [u8; PAGE_SIZE];

const WORD: usize = size_of::<u64>();

/// A page whose compressed form is longer is kept as it is: what it saves is not worth a decompression.
const COMPRESSED_MAX: usize = PAGE_SIZE / 8 * 7;

/// What is kept did not decode to a page: the host's memory is damaged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// The word that a page is, if it is one over and over.
pub(super) fn shorten(page: &Page) -> Option<&[u8]> {
    let (words, _) = page.as_chunks::<WORD>();
    let first = words.first()?;
    words.iter().all(|word| word == first).then_some(first)
}

struct Scratch {
    table: CompressTable,
    output: [u8; get_maximum_output_size(PAGE_SIZE)],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        table: CompressTable::small(),
        output: [0; get_maximum_output_size(PAGE_SIZE)],
    });
}

/// Calls `f` with the page compressed, or with `None` when that saves too little.
pub(super) fn compress<R>(page: &Page, f: impl FnOnce(Option<&[u8]>) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        let length = compress_into_with_table(page, &mut scratch.output, &mut scratch.table);
        // LZ4 cannot make a page as short as a word, but if it could, the page would have to stay as it is.
        let length = length
            .ok()
            .filter(|length| (WORD + 1..=COMPRESSED_MAX).contains(length));
        f(length.map(|length| &scratch.output[..length]))
    })
}

/// Writes to `page` what `kept`, which is shorter than a page, stands for.
pub(super) fn decode(kept: &[u8], page: &mut Page) -> Result<(), Damaged> {
    match kept.len() {
        WORD => {
            for chunk in page.as_chunks_mut::<WORD>().0 {
                chunk.copy_from_slice(kept);
            }
            Ok(())
        }
        _ => match decompress_into(kept, page) {
            Ok(PAGE_SIZE) => Ok(()),
            _ => Err(Damaged),
        },
    }
}

#[cfg(test)]
#[path = "codec_test.rs"]
mod tests;
