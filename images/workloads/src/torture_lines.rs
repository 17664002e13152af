//! The lines in which `vtmem-work torture` tells the host how it goes.

/// What begins a line of progress; seconds, operations, bytes verified and bytes corrupt follow.
pub const PROGRESS_PREFIX: &str = "vtmem-progress: ";
/// What begins a line of the script that goes wrong.
pub const SCRIPT_PREFIX: &str = "vtmem-script: ";
