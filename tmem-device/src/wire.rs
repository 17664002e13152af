//! What travels between the guest driver and the device: the Rust twin of
//! `guest-driver/virtio_tmem_wire.h`, which explains each item. `tests/wire_layout.rs` compares
//! every size, offset and constant of the two.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The virtio device id.
pub const DEVICE_ID: u32 = 63;
/// The version of this protocol.
pub const VERSION: u32 = 1;
/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;
/// Bytes in an object id.
pub const OBJECT_SIZE: usize = 24;

/// Queue of asynchronous puts and flushes.
pub const QUEUE_PUT: u16 = 0;
/// Queue of synchronous operations.
pub const QUEUE_GET: u16 = 1;
/// Queue of events from the device.
pub const QUEUE_EVENT: u16 = 2;
/// How many queues the device has.
pub const NR_QUEUES: usize = 3;

/// Feature bit: ephemeral pools.
pub const F_EPHEMERAL: u32 = 0;
/// Feature bit: persistent pools and credit.
pub const F_PERSISTENT: u32 = 1;
/// Feature bit: [`OP_FLUSH_RANGE`].
pub const F_FLUSH_RANGE: u32 = 2;
/// Feature bit: the event queue is served.
pub const F_EVENTS: u32 = 3;
/// Feature bit: evictions are reported; needs [`F_EVENTS`].
pub const F_EVICTIONS: u32 = 4;
/// Feature bit: [`Config::admission`] says what the host wishes.
pub const F_ADMISSION: u32 = 5;
/// Feature bit: the driver writes [`Config::driver_memory`].
pub const F_DRIVER_MEMORY: u32 = 6;

/// Admission: put every clean page.
pub const ADMISSION_ALWAYS: u32 = 0;
/// Admission: put pages that were used more than once.
pub const ADMISSION_SECOND_CHANCE: u32 = 1;
/// Admission: put those, and others as long as such pages are read again.
pub const ADMISSION_ADAPTIVE: u32 = 2;

/// Operation: nothing; on the get queue a barrier for the put queue.
pub const OP_NOP: u16 = 0;
/// Operation: store a page.
pub const OP_PUT: u16 = 1;
/// Operation: fetch a page; removes it from an ephemeral pool.
pub const OP_GET: u16 = 2;
/// Operation: drop one page.
pub const OP_FLUSH_PAGE: u16 = 3;
/// Operation: drop the pages with indexes `[index, index + arg)`, saturating.
pub const OP_FLUSH_RANGE: u16 = 4;
/// Operation: drop all pages of an object.
pub const OP_FLUSH_OBJECT: u16 = 5;
/// Operation: create a pool of the kind in `arg`.
pub const OP_NEW_POOL: u16 = 6;
/// Operation: drop a pool with all its pages.
pub const OP_DESTROY_POOL: u16 = 7;

/// Kind of pool: the host may drop its pages at any time.
pub const POOL_EPHEMERAL: u64 = 0;
/// Kind of pool: an accepted page is kept until it is flushed.
pub const POOL_PERSISTENT: u64 = 1;

/// Status: done.
pub const S_OK: u32 = 0;
/// Status: the host holds no such page.
pub const S_ABSENT: u32 = 1;
/// Status: no room; an older page of the key is flushed.
pub const S_REFUSED: u32 = 2;
/// Status: operation unknown or not negotiated.
pub const S_UNSUPPORTED: u32 = 3;
/// Status: no such pool, flag or argument.
pub const S_INVALID: u32 = 4;
/// Status: the host lost, or cannot read, a persistent page.
pub const S_IOERR: u32 = 5;

/// Event: further credit; its value is a number of pages.
pub const EV_CREDIT: u32 = 1;

/// Event: ephemeral pages were evicted; `count` times [`Evicted`] follows.
pub const EV_EVICTED: u32 = 2;

/// The device's configuration space (`struct vtmem_config`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Config {
    /// [`VERSION`].
    pub version: U32,
    /// Operations that a chain may carry.
    pub max_ops: U32,
    /// Persistent pages promised at first.
    pub credit: U64,
    /// `ADMISSION_*`, with [`F_ADMISSION`]; a driver takes what it does not know for
    /// [`ADMISSION_ADAPTIVE`].
    pub admission: U32,
    /// Zero.
    pub reserved: U32,
    /// Written by the driver: bytes of the guest's memory that it takes, with [`F_DRIVER_MEMORY`].
    pub driver_memory: U64,
}

/// The head of a request (`struct vtmem_req_hdr`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ReqHdr {
    /// Operations that follow, 1 to `max_ops`.
    pub nr_ops: U32,
    /// Zero.
    pub flags: U32,
}

/// One operation (`struct vtmem_op`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Op {
    /// `OP_*`; a C field named `type`.
    pub kind: U16,
    /// Zero.
    pub flags: U16,
    /// The pool's id.
    pub pool: U32,
    /// The object's id.
    pub object: [u8; OBJECT_SIZE],
    /// The page's index in the object.
    pub index: U64,
    /// Depends on the operation.
    pub arg: U64,
}

/// The head of a response (`struct vtmem_resp_hdr`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RespHdr {
    /// Results that follow.
    pub nr_ops: U32,
    /// Persistent puts promised in addition.
    pub credit: U32,
}

/// The result of one operation (`struct vtmem_result`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OpResult {
    /// `S_*`; a C structure named `vtmem_result`.
    pub status: U32,
    /// The new pool's id, else zero.
    pub value: U32,
}

/// An event (`struct vtmem_event`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Event {
    /// `EV_*`; a C field named `type`.
    pub kind: U32,
    /// Of [`EV_EVICTED`], the records that follow; else zero.
    pub count: U32,
    /// Depends on the type.
    pub value: U64,
}

/// Pages of one object, next to each other, that were evicted (`struct vtmem_evicted`).
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Evicted {
    /// The pool's id.
    pub pool: U32,
    /// How many pages.
    pub count: U32,
    /// The object's id.
    pub object: [u8; OBJECT_SIZE],
    /// The first page's index.
    pub index: U64,
}
