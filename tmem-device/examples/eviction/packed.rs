//! A recording in less room, for the repository: the objects' hashes become numbers, each field of a record its difference from
//! that of the record before, those of one field stand together, and LZ4 does the rest.

use std::collections::BTreeMap;

use tmem_device::device::Record;
use zerocopy::{FromBytes, IntoBytes};

/// Fields of a record.
const FIELDS: usize = 6;

/// Compresses a recording; `None` if it is none.
pub fn pack(recording: &[u8]) -> Option<Vec<u8>> {
    let records = <[Record]>::ref_from_bytes(recording).ok()?;
    let mut objects = BTreeMap::new();
    let rows: Vec<[u64; FIELDS]> = records
        .iter()
        .map(|record| {
            let next = objects.len() as u64;
            let object = *objects.entry(record.object).or_insert(next);
            let (index, count) = (record.index.get(), record.count.get());
            let (kind, status) = (record.kind.get().into(), record.status.get().into());
            [kind, status, record.pool.get().into(), object, index, count]
        })
        .collect();
    let mut bytes = vec![];
    write(&mut bytes, rows.len() as u64);
    for field in 0..FIELDS {
        let mut before = 0;
        for row in &rows {
            let difference = row[field].wrapping_sub(before) as i64;
            before = row[field];
            // Small ones of either sign become small numbers.
            write(&mut bytes, (difference << 1 ^ difference >> 63) as u64);
        }
    }
    Some(lz4_flex::compress_prepend_size(&bytes))
}

/// A recording that was compressed; `None` if it is none.
pub fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let bytes = lz4_flex::decompress_size_prepended(packed).ok()?;
    let mut rest = bytes.as_slice();
    let length = usize::try_from(read(&mut rest)?).ok()?;
    // Each field takes a byte at least.
    let mut rows = vec![[0; FIELDS]; length.min(rest.len())];
    for field in 0..FIELDS {
        let mut before = 0u64;
        for row in &mut rows {
            let coded = read(&mut rest)?;
            before = before.wrapping_add(coded >> 1 ^ (coded & 1).wrapping_neg());
            row[field] = before;
        }
    }
    let mut recording = vec![];
    for [kind, status, pool, object, index, count] in rows {
        let record = Record {
            kind: u16::try_from(kind).ok()?.into(),
            status: u16::try_from(status).ok()?.into(),
            pool: u32::try_from(pool).ok()?.into(),
            object: object.into(),
            index: index.into(),
            count: count.into(),
        };
        recording.extend_from_slice(record.as_bytes());
    }
    Some(recording)
}

/// Seven bits a byte, the lowest first; the last byte has no eighth.
fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
#[path = "packed_test.rs"]
mod tests;
