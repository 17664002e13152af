//! The process's heap, as the pool wants it.

use std::sync::Once;

/// Allocations of so many bytes or more are the kernel's mappings, each returned as it is freed: those of tables, of which a heap
/// would keep what is free between others. Left alone, glibc raises its threshold with each mapping that is freed
/// (mallopt(3), M_MMAP_THRESHOLD).
pub(super) const MAPPED: usize = 16 << 10;

/// Makes the heap so, for the whole process.
pub(super) fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: sets a number of the allocator's, under its own lock.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED as i32) };
    });
}
