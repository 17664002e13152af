//! How a record lies on the medium: checksum (8 bytes), slot (4), generation (4), the data; filled up to
//! a multiple of [`UNIT`].
//!
//! The checksum covers all that follows it. Its seed is drawn at random when the tier is made, so
//! what an earlier process left in the same place is not taken for ours. Slot and generation name one record
//! for as long as the tier lives: what lies in the wrong place, or is older than it should be,
//! is another record's and is found out even though its checksum is right.

use twox_hash::XxHash3_64;

use super::table::Id;

/// Records begin at multiples of this.
pub(super) const UNIT: usize = 16;

/// Bytes before a record's data.
pub(super) const HEADER: usize = 16;

const CHECKSUM: usize = 8;

/// Bytes that a record of `length` bytes of data takes on the medium.
pub(super) fn space(length: usize) -> usize {
    (HEADER + length).next_multiple_of(UNIT)
}

/// Writes a record to the begin of `target`, which has room for it.
pub(super) fn write(target: &mut [u8], seed: u64, id: Id, data: &[u8]) {
    let target = &mut target[..HEADER + data.len()];
    target[CHECKSUM..HEADER].copy_from_slice(&name(id));
    target[HEADER..].copy_from_slice(data);
    let checksum = XxHash3_64::oneshot_with_seed(seed, &target[CHECKSUM..]);
    target[..CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// The data of the record that begins `stored`, if it is `id`'s, whole and unchanged.
pub(super) fn read(stored: &[u8], seed: u64, id: Id, length: usize) -> Option<&[u8]> {
    let stored = stored.get(..HEADER + length)?;
    let (checksum, rest) = stored.split_at(CHECKSUM);
    let (name_read, data) = rest.split_at(HEADER - CHECKSUM);
    let right = name_read == name(id)
        && checksum == XxHash3_64::oneshot_with_seed(seed, rest).to_le_bytes();
    right.then_some(data)
}

fn name(id: Id) -> [u8; HEADER - CHECKSUM] {
    (u64::from(id.generation) << 32 | u64::from(id.slot)).to_le_bytes()
}

#[cfg(test)]
#[path = "record_test.rs"]
mod tests;
