//! The lines in which `vtmem-work torture` tells the host how it goes.

/// What begins a line of progress; seconds, operations, bytes verified and bytes corrupt follow.
pub const PROGRESS_PREFIX: &str = "vtmem-progress: ";
/// What begins a line of the script that goes wrong.
pub const SCRIPT_PREFIX: &str = "vtmem-script: ";
/// What begins a line of the kernel's log that should not be there.
pub const COMPLAINT_PREFIX: &str = "vtmem-complaint: ";
/// What begins the lines that the kernel logged after such a line.
pub const LOG_PREFIX: &str = "vtmem-log: ";
/// What begins a line with a counter of the driver, `NAME:NUMBER`. It counts from when the driver was loaded; what several
/// lines say of a name adds up.
pub const COUNTER_PREFIX: &str = "vtmem-counter: ";
/// What begins a line that says how many faults of one kind were injected: the kind and their number follow.
pub const FAULTS_PREFIX: &str = "vtmem-faults: ";
