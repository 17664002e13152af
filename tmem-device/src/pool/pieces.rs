//! Where a page's data lies: in pieces of one size, chained.
//!
//! Any freed piece fits any page, so the heap gets no gaps, whatever comes and goes; with blocks as long as the data
//! it took up to 45 % more than was stored (`tests/memory_bound.rs`). And each thread keeps some free pieces
//! at hand: a batch of puts and one of flushes come by turns, and the C library takes 400 instructions to
//! free a piece and hand it out again.

use std::cell::RefCell;

use super::codec::Damaged;

/// Bytes of data in a piece.
pub(super) const PIECE: usize = 512;

/// What a piece takes of the heap: data, link, the C library's header.
pub(super) const PIECE_COST: u64 = (PIECE + 16) as u64;

/// Free pieces that a thread keeps, 264 KiB: as many as the raw pages of one batch of 64 take.
const SPARE: usize = 512;

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
        let (whole, rest) = data.as_chunks::<PIECE>();
        let mut pieces = Pieces(None);
        if !rest.is_empty() {
            pieces.push_front(|room| room[..rest.len()].copy_from_slice(rest));
        }
        for part in whole.iter().rev() {
            pieces.push_front(|room| *room = *part);
        }
        pieces
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

    fn push_front(&mut self, fill: impl FnOnce(&mut [u8; PIECE])) {
        let next = self.0.take();
        let free = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        let mut piece = match free {
            Some(piece) => piece,
            None => Box::new(Piece {
                next: None,
                data: [0; _],
            }),
        };
        piece.next = next;
        fill(&mut piece.data);
        self.0 = Some(piece);
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
