//! Where a page's data lies: in pieces of one size, chained.
//!
//! Any freed piece fits any page, so the heap gets no gaps, whatever comes and goes; with blocks as long as the data
//! it took up to 45 % more than was stored (`tests/memory_bound.rs`). And each thread keeps some free pieces
//! at hand: a batch of puts and one of flushes come by turns, and the C library takes 400 instructions to
//! free a piece and hand it out again.

use std::cell::RefCell;
use std::convert::Infallible;

use super::codec::Damaged;
use crate::wire::PAGE_SIZE;

/// Bytes of data in a piece.
pub(super) const PIECE: usize = 1024;

/// What a piece takes of the heap: data, link, the C library's header.
pub(super) const PIECE_COST: u64 = (PIECE + 16) as u64;

/// Pieces of a whole page.
pub(super) const PIECES: usize = PAGE_SIZE / PIECE;

/// Free pieces that a thread keeps, 260 KiB: as many as the raw pages of one batch of 64 take.
const SPARE: usize = 64 * PIECES;

struct Piece {
    next: Option<Box<Piece>>,
    data: [u8; PIECE],
}

thread_local! {
    #[expect(clippy::vec_box, reason = "the blocks are what is kept, not their contents")]
    static FREE: RefCell<Vec<Box<Piece>>> = const { RefCell::new(Vec::new()) };
}

/// The data of one page, in order; the last piece may have room left.
pub(super) struct Pieces(Option<Box<Piece>>);

impl Pieces {
    /// Copies `data`.
    pub fn cut(data: &[u8]) -> Self {
        let mut rest = data;
        let pieces = Self::fill(data.len(), |room| {
            let (now, later) = rest.split_at(room.len());
            rest = later;
            room.copy_from_slice(now);
            Ok::<(), Infallible>(())
        });
        let Ok(pieces) = pieces;
        pieces
    }

    /// Takes `length` bytes, one page's at most, from `fill`, which is called for each piece in turn.
    pub fn fill<E>(
        length: usize,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut rest = length;
        let mut filled: [Option<Box<Piece>>; PIECES] = Default::default();
        for place in &mut filled {
            if rest == 0 {
                break;
            }
            let here = rest.min(PIECE);
            fill(&mut place.insert(Piece::free()).data[..here])?;
            rest -= here;
        }
        let mut pieces = Pieces(None);
        for mut piece in filled.into_iter().rev().flatten() {
            piece.next = pieces.0.take();
            pieces.0 = Some(piece);
        }
        Ok(pieces)
    }

    /// The word that the pieces, all full, repeat, if they do.
    pub fn repeats<const WORD: usize>(&self) -> Option<[u8; WORD]> {
        let mut pieces = self.0.as_deref();
        let (words, _) = pieces?.data.as_chunks::<WORD>();
        let first = words[0];
        while let Some(piece) = pieces {
            let (words, _) = piece.data.as_chunks::<WORD>();
            if words.iter().any(|word| *word != first) {
                return None;
            }
            pieces = piece.next.as_deref();
        }
        Some(first)
    }

    /// Copies what the pieces hold until `data` is full.
    pub fn join(&self, data: &mut [u8]) -> Result<(), Damaged> {
        let mut pieces = self.0.as_deref();
        for part in data.chunks_mut(PIECE) {
            let piece = pieces.ok_or(Damaged)?;
            part.copy_from_slice(&piece.data[..part.len()]);
            pieces = piece.next.as_deref();
        }
        Ok(())
    }
}

impl Piece {
    /// A piece with anything in it.
    fn free() -> Box<Self> {
        let free = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        free.unwrap_or_else(|| {
            Box::new(Piece {
                next: None,
                data: [0; _],
            })
        })
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // A thread that is ending has no free pieces any more: then they go to the C library.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            while free.len() < SPARE
                && let Some(mut piece) = self.0.take()
            {
                self.0 = piece.next.take();
                free.push(piece);
            }
        });
    }
}

#[cfg(test)]
#[path = "pieces_test.rs"]
mod tests;
