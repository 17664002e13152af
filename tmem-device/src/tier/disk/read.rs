//! Reading records: neighbours in one transfer, all transfers side by side, and what does not come back
//! right once more by itself.

use std::sync::Arc;
use std::time::Instant;

use super::medium::{BLOCK, Batch, Buffer, Direction, TimedOut, Transfer};
use super::record::{self, HEADER, UNIT};
use super::segments;
use super::table::{Id, Place};
use super::{LoadError, Pins, Shared};

/// Bytes of neighbours that are read in one transfer.
const MAX_SPAN: u64 = 256 << 10;

/// A record that is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The caller's number for it.
    pub at: usize,
    pub id: Id,
    pub place: Place,
}

impl Wanted {
    /// Where the record begins on the medium, in bytes.
    fn begin(&self) -> u64 {
        segments::offset(self.place.segment) + u64::from(self.place.unit) * UNIT as u64
    }

    /// Where its data ends.
    fn end(&self) -> u64 {
        self.begin() + HEADER as u64 + u64::from(self.place.length)
    }
}

/// Blocks that hold some of the records, neighbours all of them.
struct Span {
    begin: u64,
    end: u64,
    records: Vec<Wanted>,
}

impl Span {
    fn of(wanted: Wanted) -> Self {
        Span {
            begin: wanted.begin() / BLOCK as u64 * BLOCK as u64,
            end: wanted.end().next_multiple_of(BLOCK as u64),
            records: vec![wanted],
        }
    }

    /// The fewest spans for records that are sorted by place.
    fn merge(wanted: impl IntoIterator<Item = Wanted>) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for next in wanted.into_iter().map(Span::of) {
            match spans.last_mut() {
                Some(last) if next.begin <= last.end && next.end - last.begin <= MAX_SPAN => {
                    last.end = last.end.max(next.end);
                    last.records.extend(next.records);
                }
                _ => spans.push(next),
            }
        }
        spans
    }
}

impl Shared {
    /// Reads records whose segments are pinned, and unpins them. `each` is told of every record, once: its
    /// bytes on the medium, checked, or why there are none.
    pub(super) fn read(
        self: &Arc<Self>,
        mut wanted: Vec<Wanted>,
        deadline: Instant,
        mut each: impl FnMut(&Wanted, Result<&[u8], LoadError>),
    ) {
        if wanted.is_empty() {
            return;
        }
        let pins = Arc::new(Pins {
            shared: Arc::clone(self),
            segments: wanted.iter().map(|one| one.place.segment).collect(),
            write: false,
        });
        wanted.sort_by_key(Wanted::begin);
        let mut again = Vec::new();
        self.read_spans(
            Span::merge(wanted),
            &pins,
            deadline,
            |one, result| match result {
                Err(LoadError::Damaged | LoadError::Medium(_)) => again.push(*one),
                result => each(one, result),
            },
        );
        if !again.is_empty() {
            let spans = again.into_iter().map(Span::of).collect();
            self.read_spans(spans, &pins, deadline, each);
        }
    }

    fn read_spans(
        &self,
        spans: Vec<Span>,
        pins: &Arc<Pins>,
        deadline: Instant,
        mut each: impl FnMut(&Wanted, Result<&[u8], LoadError>),
    ) {
        let transfers: Vec<Transfer> = spans
            .iter()
            .map(|span| {
                let length = (span.end - span.begin) as usize;
                Transfer::new(span.begin, Buffer::new(length))
            })
            .collect();
        let bytes: u64 = spans.iter().map(|span| span.end - span.begin).sum();
        self.lock().counted.read_bytes += bytes;
        let batch = Batch {
            direction: Direction::Read,
            transfers,
            _pins: Box::new(Arc::clone(pins)),
        };
        match self.medium.run(batch, deadline) {
            Ok(batch) => {
                for (span, transfer) in spans.iter().zip(&batch.transfers) {
                    for one in &span.records {
                        each(one, self.check(span, transfer, one));
                    }
                }
            }
            Err(TimedOut) => {
                for one in spans.iter().flat_map(|span| &span.records) {
                    each(one, Err(LoadError::Slow));
                }
            }
        }
    }

    /// The bytes of one record of a span that was read, if they are its own.
    fn check<'a>(
        &self,
        span: &Span,
        transfer: &'a Transfer,
        one: &Wanted,
    ) -> Result<&'a [u8], LoadError> {
        if let Err(error) = &transfer.result {
            return Err(LoadError::Medium(error.kind()));
        }
        let begin = (one.begin() - span.begin) as usize;
        let length = usize::from(one.place.length);
        let stored = &transfer.buffer.bytes()[begin..][..HEADER + length];
        match record::read(stored, self.seed, one.id, length) {
            Some(_) => Ok(stored),
            None => Err(LoadError::Damaged),
        }
    }
}
