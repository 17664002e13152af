//! Disks that are block devices.

use std::ffi::{c_int, c_ulong};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::SECTOR;
use super::open::HostCounters;

/// `_IOR(0x12, 114, size_t)`: the device's size in bytes, as u64.
const BLKGETSIZE64: c_ulong = 0x8008_1272;

/// Bytes on the device.
pub(super) fn size(file: &File) -> io::Result<u64> {
    let mut size = 0u64;
    // SAFETY: BLKGETSIZE64 writes one u64.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64, &raw mut size) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(size)
}

/// Bytes of the device's logical block: what direct I/O and the guest's file system align to.
pub(super) fn logical_block_size(file: &File) -> io::Result<u32> {
    let mut size: c_int = 0;
    // SAFETY: BLKSSZGET writes one int.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKSSZGET, &raw mut size) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(size).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// What the host's block layer did on the device `major:minor` since it came up.
pub(super) fn host_counters(major: u32, minor: u32) -> io::Result<HostCounters> {
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))?;
    let fields: Vec<u64> = text
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // Documentation/block/stat.rst: reads, merged, sectors, ticks, then the same of writes.
    let [
        read_ops,
        _,
        read_sectors,
        _,
        write_ops,
        _,
        write_sectors,
        ..,
    ] = fields[..]
    else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(HostCounters {
        read_bytes: read_sectors * SECTOR,
        write_bytes: write_sectors * SECTOR,
        read_ops: Some(read_ops),
        write_ops: Some(write_ops),
    })
}
