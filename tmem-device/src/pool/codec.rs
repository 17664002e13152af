//! How one page is kept: as a repeated word, compressed by LZ4, or as it is.

use std::cell::RefCell;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use crate::wire::PAGE_SIZE;

/// The contents of one page.
pub type Page = [u8; PAGE_SIZE];

const WORD: usize = size_of::<u64>();

/// A page whose compressed form is longer is kept raw: the few bytes would not pay for the
/// decompression.
const COMPRESSED_MAX: usize = PAGE_SIZE - PAGE_SIZE / 16;

/// The stored form of a page.
pub(super) enum Stored {
    /// One 64-bit word, repeated.
    Filled([u8; WORD]),
    /// An LZ4 block.
    Compressed(Box<[u8]>),
    /// The page itself.
    Raw(Box<[u8]>),
}

/// A stored page did not decode to a page: the host's memory is damaged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged;

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

impl Stored {
    /// Finds the shortest form of `page`.
    pub fn encode(page: &Page) -> Self {
        let (words, _) = page.as_chunks::<WORD>();
        if words.iter().all(|word| *word == words[0]) {
            return Stored::Filled(words[0]);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            match compress_into_with_table(page, &mut scratch.output, &mut scratch.table) {
                Ok(length) if length <= COMPRESSED_MAX => {
                    Stored::Compressed(Box::from(&scratch.output[..length]))
                }
                _ => Stored::Raw(Box::from(&page[..])),
            }
        })
    }

    /// Writes the page's contents to `page`.
    pub fn decode(&self, page: &mut Page) -> Result<(), Damaged> {
        match self {
            Stored::Filled(word) => {
                for chunk in page.as_chunks_mut::<WORD>().0 {
                    *chunk = *word;
                }
                Ok(())
            }
            Stored::Compressed(data) => match decompress_into(data, page) {
                Ok(PAGE_SIZE) => Ok(()),
                _ => Err(Damaged),
            },
            Stored::Raw(data) => {
                page.copy_from_slice(data);
                Ok(())
            }
        }
    }

    /// Bytes of data, beside the metadata.
    pub fn data_bytes(&self) -> u64 {
        match self {
            Stored::Filled(_) => 0,
            Stored::Compressed(data) | Stored::Raw(data) => data.len() as u64,
        }
    }
}

#[cfg(test)]
#[path = "codec_test.rs"]
mod tests;
