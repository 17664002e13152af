//! Gives freed memory back to the kernel.

/// Asks the C library to return the whole free pages of its heaps to the kernel.
pub(super) fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and touches only free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}
