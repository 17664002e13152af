//! What a descriptor chain of virtio-blk asks for, read once and checked.

use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
    VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
};
use virtio_queue::DescriptorChain;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

use crate::disk::buffers::Segment;
use crate::disk::{Disk, SECTOR};

/// Bytes of `struct virtio_blk_outhdr`: type (le32), reserved (le32), sector (le64).
const HEADER: usize = 16;

/// Most descriptors in a chain. A driver that heeds seg_max needs two more than that; some split
/// the header.
const MAX_DESCRIPTORS: usize = 512;

/// What the chain asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Read from this byte of the disk on.
    In { offset: u64 },
    /// Write from this byte of the disk on.
    Out { offset: u64 },
    /// Make completed writes durable.
    Flush,
    /// Tell the disk's id.
    GetId,
}

/// A request that lies within the disk. Whether its data lies in guest memory is not checked yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub kind: Kind,
    /// The data, without header and status.
    pub data: Vec<Segment>,
    /// Bytes of `data`.
    pub length: u64,
    /// Where the status byte goes: in guest memory.
    pub status: GuestAddress,
}

/// A chain that asks for nothing that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    /// There is nowhere to put a status: the chain goes back unanswered.
    Unanswerable,
    /// This status goes to this address.
    Status(GuestAddress, u8),
}

impl Request {
    /// Reads the chain.
    pub fn parse(
        memory: &GuestMemoryMmap,
        chain: DescriptorChain<&GuestMemoryMmap>,
        disk: &Disk,
    ) -> Result<Request, Rejected> {
        let (mut readable, mut writable) = split(chain)?;
        let status = take_status(&mut writable)
            .filter(|&address| GuestMemory::check_range(memory, address, 1, Permissions::Write))
            .ok_or(Rejected::Unanswerable)?;
        let io_error = Rejected::Status(status, VIRTIO_BLK_S_IOERR as u8);

        let header = take_header(memory, &mut readable).ok_or(io_error)?;
        let kind = u32::from_le_bytes(header[0..4].try_into().expect("four bytes"));
        let sector = u64::from_le_bytes(header[8..16].try_into().expect("eight bytes"));
        let (kind, data) = match kind {
            VIRTIO_BLK_T_IN if readable.is_empty() => {
                let offset = extent(sector, &writable, disk).ok_or(io_error)?;
                (Kind::In { offset }, writable)
            }
            VIRTIO_BLK_T_OUT if writable.is_empty() && !disk.readonly() => {
                let offset = extent(sector, &readable, disk).ok_or(io_error)?;
                (Kind::Out { offset }, readable)
            }
            VIRTIO_BLK_T_IN | VIRTIO_BLK_T_OUT => return Err(io_error),
            VIRTIO_BLK_T_FLUSH => (Kind::Flush, Vec::new()),
            VIRTIO_BLK_T_GET_ID => (Kind::GetId, writable),
            _ => return Err(Rejected::Status(status, VIRTIO_BLK_S_UNSUPP as u8)),
        };
        Ok(Request {
            kind,
            length: length(&data),
            data,
            status,
        })
    }
}

/// The readable and the writable descriptors; a chain that breaks off, that is too long or that
/// mixes the two has no place for a status that could be trusted.
fn split(
    chain: DescriptorChain<&GuestMemoryMmap>,
) -> Result<(Vec<Segment>, Vec<Segment>), Rejected> {
    let mut readable = Vec::new();
    let mut writable = Vec::new();
    let mut ended = false;
    for descriptor in chain {
        if readable.len() + writable.len() == MAX_DESCRIPTORS {
            return Err(Rejected::Unanswerable);
        }
        let segment = Segment {
            address: descriptor.addr(),
            length: descriptor.len(),
        };
        if descriptor.is_write_only() {
            writable.push(segment);
        } else if writable.is_empty() {
            readable.push(segment);
        } else {
            return Err(Rejected::Unanswerable);
        }
        ended = !descriptor.has_next();
    }
    if ended {
        Ok((readable, writable))
    } else {
        Err(Rejected::Unanswerable)
    }
}

/// Takes the last writable byte off: the status, wherever the driver's descriptors are cut.
fn take_status(writable: &mut Vec<Segment>) -> Option<GuestAddress> {
    while let Some(last) = writable.last_mut() {
        if last.length > 0 {
            last.length -= 1;
            let status = last.address.checked_add(u64::from(last.length));
            writable.retain(|segment| segment.length > 0);
            return status;
        }
        writable.pop();
    }
    None
}

/// Takes the header off the front of the readable bytes.
fn take_header(memory: &GuestMemoryMmap, readable: &mut Vec<Segment>) -> Option<[u8; HEADER]> {
    let mut header = [0; HEADER];
    let mut have = 0;
    for segment in readable.iter_mut() {
        let take = (segment.length as usize).min(HEADER - have);
        memory
            .read_slice(&mut header[have..have + take], segment.address)
            .ok()?;
        have += take;
        segment.length -= take as u32;
        segment.address = segment.address.checked_add(take as u64)?;
    }
    readable.retain(|segment| segment.length > 0);
    (have == HEADER).then_some(header)
}

fn length(data: &[Segment]) -> u64 {
    data.iter().map(|segment| u64::from(segment.length)).sum()
}

/// The byte that the data starts at, when all of it lies on the disk and can be addressed.
fn extent(sector: u64, data: &[Segment], disk: &Disk) -> Option<u64> {
    let offset = sector.checked_mul(SECTOR)?;
    let length = length(data);
    let end = offset.checked_add(length)?;
    // Direct I/O has no smaller unit than its block; blk_size told the driver so.
    let unit = match disk.direct() {
        Some(alignment) => u64::from(alignment.length).max(SECTOR),
        None => SECTOR,
    };
    (end <= disk.size() && offset.is_multiple_of(unit) && length.is_multiple_of(unit))
        .then_some(offset)
}
