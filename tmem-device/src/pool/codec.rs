//! How one page is kept: as a repeated word, as it is, or compressed by LZ4.
//!
//! To keep a page as it is costs a copy, to compress it ten times as much. So it is compressed only when the
//! pool wants its room ([`HostPool`](super::HostPool) decides), if it is still there then.

use std::cell::RefCell;
use std::convert::Infallible;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};

use super::pieces::{PIECE, PIECE_COST, PIECES, Pieces};
use crate::wire::PAGE_SIZE;

/// The contents of one page.
pub type Page = [u8; PAGE_SIZE];

const WORD: usize = size_of::<u64>();

/// A page whose compressed form is longer is kept raw: it would take as many pieces.
const COMPRESSED_MAX: usize = PAGE_SIZE - PIECE;

/// The most that a page's data takes, in bytes.
pub(super) const WORST_DATA: u64 = PIECES as u64 * PIECE_COST;

/// A copy of a page, to be put.
pub struct PageCopy(pub(super) Stored);

impl PageCopy {
    /// Copies a page to where it will be kept. `read` fills the parts of it in turn; its error ends that.
    pub fn read<E>(read: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        Stored::read(read).map(PageCopy)
    }
}

impl From<&Page> for PageCopy {
    fn from(page: &Page) -> Self {
        let mut rest = &page[..];
        let Ok(copy) = Self::read(|part| {
            let (now, later) = rest.split_at(part.len());
            rest = later;
            part.copy_from_slice(now);
            Ok::<(), Infallible>(())
        });
        copy
    }
}

/// The stored form of a page.
pub(super) enum Stored {
    /// One 64-bit word, repeated.
    Filled([u8; WORD]),
    /// An LZ4 block, or the page itself if it is as long as one.
    Data {
        pieces: Pieces,
        /// Bytes.
        length: u16,
    },
}

/// A stored page did not decode to a page: the host's memory is damaged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged;

struct Scratch {
    table: CompressTable,
    /// Compressed data, in one piece.
    output: [u8; get_maximum_output_size(PAGE_SIZE)],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        table: CompressTable::small(),
        output: [0; get_maximum_output_size(PAGE_SIZE)],
    });
}

impl Stored {
    /// Keeps a page, taken from `read` part by part, as one word if it is that, and otherwise as it is.
    pub fn read<E>(read: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let pieces = Pieces::fill(PAGE_SIZE, read)?;
        Ok(match pieces.repeats() {
            Some(word) => Stored::Filled(word),
            None => Stored::Data {
                pieces,
                length: PAGE_SIZE as u16,
            },
        })
    }

    /// Compresses `page`; `None` when that saves no piece.
    pub fn compress(page: &Page) -> Option<Self> {
        SCRATCH.with_borrow_mut(|scratch| {
            let length =
                compress_into_with_table(page, &mut scratch.output, &mut scratch.table).ok()?;
            (length <= COMPRESSED_MAX).then(|| Self::cut(&scratch.output[..length]))
        })
    }

    /// The same page, compressed; `None` when that saves no piece.
    pub fn compressed(&self) -> Option<Self> {
        let mut page = [0; PAGE_SIZE];
        self.decode(&mut page).ok()?;
        Self::compress(&page)
    }

    /// Whether the page is kept as it is.
    pub fn is_raw(&self) -> bool {
        matches!(self, Stored::Data { length, .. } if usize::from(*length) == PAGE_SIZE)
    }

    fn cut(data: &[u8]) -> Self {
        Stored::Data {
            pieces: Pieces::cut(data),
            length: data.len() as u16,
        }
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
            Stored::Data { pieces, .. } if self.is_raw() => pieces.join(page),
            Stored::Data { pieces, length } => SCRATCH.with_borrow_mut(|scratch| {
                let data = scratch.output.get_mut(..usize::from(*length));
                let data = data.ok_or(Damaged)?;
                pieces.join(data)?;
                match decompress_into(data, page) {
                    Ok(PAGE_SIZE) => Ok(()),
                    _ => Err(Damaged),
                }
            }),
        }
    }

    /// Bytes that the data takes, beside the metadata.
    pub fn data_bytes(&self) -> u64 {
        match self {
            Stored::Filled(_) => 0,
            Stored::Data { length, .. } => u64::from(*length).div_ceil(PIECE as u64) * PIECE_COST,
        }
    }
}

#[cfg(test)]
#[path = "codec_test.rs"]
mod tests;
