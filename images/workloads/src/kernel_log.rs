//! The guest kernel's log, read as it grows: whatever the kernel complains of is told to the host at once, for a guest that
//! ends badly would not tell it later, and what is old is overwritten.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use vtmem_workloads::torture_lines::{COMPLAINT_PREFIX, LOG_PREFIX};

const LOG: &str = "/dev/kmsg";
/// Longer than any record: one that does not fit cannot be read at all.
const RECORD: usize = 16 << 10;
/// Lines after a complaint that say more of it.
const CONTEXT: u32 = 100;

/// What the kernel says when something is wrong with it. That disks fail is part of the work, as is memory that is not to be
/// had.
const COMPLAINTS: [&str; 23] = [
    "BUG:",
    "WARNING:",
    "Oops",
    "general protection fault",
    "kernel panic",
    "Kernel panic",
    "KASAN",
    "KCSAN",
    "UBSAN",
    // Tasks that hang, stalls of RCU, lockdep's "trying to register non-static key".
    "INFO: task ",
    "INFO: rcu",
    "rcu: INFO:",
    "INFO: trying to register",
    "possible recursive locking",
    "possible circular locking",
    "possible irq lock inversion",
    // "HARDIRQ-safe -> HARDIRQ-unsafe lock order".
    "unsafe lock order",
    "inconsistent lock state",
    "suspicious RCU usage",
    "sleeping function called",
    "scheduling while atomic",
    "list_add corruption",
    "list_del corruption",
];
/// What the driver says when it stops doing its work.
const DRIVER: &str = "virtio_tmem";
const DRIVER_COMPLAINTS: [&str; 3] = ["error", "broken", "off until"];

/// Whether a line of the log should not be there.
pub fn is_complaint(message: &str) -> bool {
    let has = |what: &&str| message.contains(*what);
    COMPLAINTS.iter().any(has) || (message.contains(DRIVER) && DRIVER_COMPLAINTS.iter().any(has))
}

/// A reader of the log, from its oldest record on.
#[derive(Debug)]
pub struct KernelLog {
    records: File,
    context: u32,
}

impl KernelLog {
    /// Opens it.
    ///
    /// # Errors
    /// There is none.
    pub fn open() -> io::Result<Self> {
        let mut options = OpenOptions::new();
        Ok(Self {
            records: options
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(LOG)?,
            context: 0,
        })
    }

    /// Prints what came since the last call and should not be there, and what follows it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn follow(&mut self) -> io::Result<()> {
        let mut record = [0; RECORD];
        loop {
            let length = match self.records.read(&mut record) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Records were overwritten before they were read. The next read goes on behind them.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    println!("{COMPLAINT_PREFIX}a part of the kernel's log was lost");
                    continue;
                }
                read => read?,
            };
            let record = String::from_utf8_lossy(&record[..length]);
            if let Some(line) = tell(&mut self.context, message(&record)) {
                println!("{line}");
            }
        }
    }
}

/// What is to be printed of this message; `context` counts the lines that still belong to a complaint.
fn tell(context: &mut u32, message: &str) -> Option<String> {
    if is_complaint(message) {
        *context = CONTEXT;
        return Some(format!("{COMPLAINT_PREFIX}{message}"));
    }
    if *context == 0 {
        return None;
    }
    *context -= 1;
    Some(format!("{LOG_PREFIX}{message}"))
}

/// The text of a record, `priority,number,time,flags;text` and more lines that nobody needs.
fn message(record: &str) -> &str {
    let text = record.split_once(';').map_or(record, |(_, text)| text);
    text.lines().next().unwrap_or(text)
}

#[cfg(test)]
#[path = "kernel_log_test.rs"]
mod tests;
