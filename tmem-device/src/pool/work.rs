//! How much work a thread has done in the pool.
//!
//! Not in time, which depends on what else the host does: in units that take from 0.1 to 1 us each, that of a page that is looked up and
//! removed; the more pages there are, the longer, as less of them is in the processor's caches. Whoever works for a guest bounds what one call does by it.

use std::cell::Cell;

/// Entries that are looked at one after the other in one unit.
pub(super) const LOOKS: u64 = 8;

/// A page that is put or got: its bytes are copied twice.
pub(super) const PAGE: u64 = 4;

/// A pool that is made or destroyed, or a flush that is begun, besides the pages that it finds.
pub(super) const CALL: u64 = 2;

/// A page that is compressed.
pub(super) const COMPRESSION: u64 = 16;

/// A segment that is free, and whose memory is offered to the kernel, or returned.
pub(super) const SEGMENT: u64 = 32;

/// A record that is read from a tier.
pub(super) const RECORD: u64 = 512;

thread_local! {
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// What this thread has done since it began.
pub fn work_done() -> u64 {
    DONE.get()
}

/// This thread has done so much more.
pub(super) fn add(units: u64) {
    DONE.set(DONE.get() + units);
}
