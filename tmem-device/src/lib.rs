//! Transcendent memory for KVM guests: the virtio-tmem device and the pool behind it.
//!
//! - [`wire`]: what travels between the guest driver and the device.
//! - [`pool`]: the host's memory that holds pages of guests. It knows nothing of virtio.
//! - [`tier`]: places below the pool that hold pages, a disk for one. They know nothing of pools.
//! - [`governor`]: how large the pool is, by what memory the machine has left. It knows a pool by a trait only.
//! - [`device`]: serves a guest's virtqueues out of the pool. It knows nothing of KVM; the VMM owns
//!   transport, threads and doorbells.
//!
//! # What holds
//! A page is named by guest, pool, object (24 bytes) and index (64 bits); no operation of one guest
//! reaches another's pages.
//!
//! - *Ephemeral* pools: a page may be dropped at any time, by the pool when it is full, or by the host's kernel when it wants
//!   the memory; a get removes it.
//! - *Persistent* pools: an accepted page is kept until it is flushed; a get leaves it. At the cap,
//!   once no ephemeral page is left to evict, puts are refused.
//! - A put onto a present key replaces the page; a put that fails onto a present key flushes it.
//!
//! # Credit
//! A driver may accept persistent pages before the host has seen them, as far as it has *credit*. The
//! pool sets a whole page and its metadata aside for each page of credit, counting ephemeral pages
//! as room because they can be evicted; so a put that was promised is refused only by a freeze. Credit
//! comes in config space at first, then with each response up to the guest's limit
//! ([`pool::PoolConfig::credit`]), and by event when the driver has none left and 32 pages can be
//! had. A reset takes it back.
//!
//! # Threads
//! Every method may be called from any thread. A device serves its queues under one lock, which
//! is what orders a get after the puts before it; devices of different guests run side by side, and
//! share the pool's books; each guest has up to eight shards, each locked for sixteen pages at a time at most.

pub mod device;
pub mod governor;
pub mod pool;
pub mod tier;
pub mod wire;
