//! Which thread does what: the only place to change when one is added, or does something new.
//!
//! The lists say what the threads were seen to do, and why. A call that is missing ends the process in the
//! end-to-end tests, which all run confined; to find it, `--confinement log` and the kernel's log.

use std::fmt;

use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// A kind of thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// The one that started the others, from the guest's first instruction on.
    Main,
    /// Waits for signals.
    Signals,
    /// Carries standard input to the serial port.
    SerialInput,
    /// Runs a vCPU, and what its exits ask of devices.
    Vcpu {
        /// The guest may have counters written down ([`crate::devices::mark`]).
        marks: bool,
        /// The pool spills, and a get may ask its disk.
        spills: bool,
    },
    /// Serves a virtio-blk device.
    Disk,
    /// Serves the put queue of a virtio-tmem device.
    Tmem {
        /// The pool spills, and a get may ask its disk.
        spills: bool,
    },
    /// Governs the pool's size.
    Governor,
    /// Writes what the pool spills.
    Spill,
    /// Waits for transfers of the disk spilled to that take too long.
    SpillLate,
    /// Has the pool keep to a size that it was told.
    Resize,
    /// Serves the control API's connections.
    Api,
    /// Does what requests to the control API would have to wait for.
    ApiWork,
}

/// A system call that is allowed: with any arguments, or if the rule matches them.
pub(super) struct Call {
    pub number: i64,
    pub rule: Option<SeccompRule>,
}

/// `_IO(KVMIO, 0x80)`.
const KVM_RUN: u64 = 0xae80;

/// What every thread does: memory, locks, time, files that are open, its own end.
const COMMON: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    // The keys of hash tables.
    libc::SYS_getrandom,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_process_madvise,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    // A thread of Rust's gives its signal stack back when it ends.
    libc::SYS_sigaltstack,
    libc::SYS_write,
];

/// Reading from the disk spilled to; the latter where the host forbids io_uring. Its rings are restricted to reads and writes of
/// disks. Whoever has the pool last empties the file.
const READ_SPILLED: &[i64] = &[
    libc::SYS_io_uring_enter,
    libc::SYS_pread64,
    libc::SYS_ftruncate,
];

/// Reading files of the kernel's.
const READ_FILES: &[i64] = &[
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_statx,
];

impl Thread {
    /// All kinds.
    pub const ALL: [Thread; 16] = [
        Thread::Main,
        Thread::Signals,
        Thread::SerialInput,
        Thread::vcpu(false, false),
        Thread::vcpu(false, true),
        Thread::vcpu(true, false),
        Thread::vcpu(true, true),
        Thread::Disk,
        Thread::Tmem { spills: false },
        Thread::Tmem { spills: true },
        Thread::Governor,
        Thread::Spill,
        Thread::SpillLate,
        Thread::Resize,
        Thread::Api,
        Thread::ApiWork,
    ];

    const fn vcpu(marks: bool, spills: bool) -> Self {
        Thread::Vcpu { marks, spills }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Thread::Main => "main",
            Thread::Signals => "signals",
            Thread::SerialInput => "serial-input",
            Thread::Vcpu { .. } => "vcpu",
            Thread::Disk => "disk",
            Thread::Tmem { .. } => "virtio-tmem",
            Thread::Governor => "governor",
            Thread::Spill => "tmem-writer",
            Thread::SpillLate => "spill-late",
            Thread::Resize => "tmem-resize",
            Thread::Api => "api",
            Thread::ApiWork => "api-work",
        }
    }

    /// Files, and directories with all below them, that it reads after the guest has started. None of `/proc`, which are
    /// open by then: Landlock does not know those again when the kernel has dropped its caches.
    pub(super) fn reads(self) -> &'static [&'static str] {
        match self {
            // The figures of a mark, and of /metrics: of the process's cgroup, its disks.
            Thread::Vcpu { marks: true, .. } | Thread::ApiWork => {
                &["/sys/fs/cgroup", "/sys/dev/block", "/sys/devices"]
            }
            Thread::Governor => &["/sys/fs/cgroup"],
            _ => &[],
        }
    }

    /// System calls among its [`Self::calls`] that fail with EACCES instead of ending the process: the C library makes them by itself, and
    /// does without. Its malloc asks /proc whether memory is overcommitted before it gives some of a thread's back.
    pub(super) fn refused(self) -> &'static [i64] {
        if self.reads().is_empty() {
            &[libc::SYS_openat]
        } else {
            &[]
        }
    }

    /// System calls that it makes.
    pub(super) fn calls(self) -> Vec<Call> {
        let mut calls: Vec<_> = COMMON.iter().map(|&number| any(number)).collect();
        // Memory, but none that could be executed.
        calls.push(unless(libc::SYS_mmap, 2, libc::PROT_EXEC as u64));
        calls.push(unless(libc::SYS_mprotect, 2, libc::PROT_EXEC as u64));
        calls.push(advise());
        if cfg!(debug_assertions) {
            // Rust's library then looks whether what it closes is open.
            calls.push(only(libc::SYS_fcntl, 1, libc::F_GETFD as u64));
        }
        let own: &[i64] = match self {
            // Stops the vCPUs, joins all threads, restores the terminal.
            Thread::Main => {
                calls.push(only(libc::SYS_ioctl, 1, libc::TCSETS));
                calls.push(signal_own_threads());
                // The handler of signals.
                calls.push(send());
                &[
                    // Empties the file spilled to.
                    libc::SYS_ftruncate,
                    libc::SYS_getpid,
                    libc::SYS_poll,
                    // The one that ends the thread of signals.
                    libc::SYS_shutdown,
                ]
            }
            Thread::Signals => {
                calls.push(send());
                &[libc::SYS_poll, libc::SYS_recvfrom]
            }
            Thread::SerialInput => {
                calls.push(only(libc::SYS_ioctl, 1, libc::TCGETS));
                &[libc::SYS_poll]
            }
            Thread::Vcpu { marks, spills } => {
                calls.push(only(libc::SYS_ioctl, 1, KVM_RUN));
                // A device that its driver starts gets copies of its doorbells.
                calls.push(only(libc::SYS_fcntl, 1, libc::F_DUPFD_CLOEXEC as u64));
                if marks {
                    calls.extend(read_files());
                    calls.push(any(libc::SYS_pread64));
                }
                if spills {
                    calls.extend(READ_SPILLED.iter().map(|&number| any(number)));
                }
                &[
                    libc::SYS_epoll_create1,
                    libc::SYS_epoll_ctl,
                    libc::SYS_eventfd2,
                ]
            }
            // The last three where the host forbids io_uring.
            Thread::Disk => &[
                libc::SYS_epoll_wait,
                libc::SYS_io_uring_enter,
                libc::SYS_fdatasync,
                libc::SYS_preadv,
                libc::SYS_pwritev2,
            ],
            Thread::Tmem { spills } => {
                if spills {
                    calls.extend(READ_SPILLED.iter().map(|&number| any(number)));
                }
                &[libc::SYS_epoll_ctl, libc::SYS_epoll_wait]
            }
            Thread::Governor => {
                calls.extend(read_files());
                &[
                    libc::SYS_mincore,
                    libc::SYS_poll,
                    libc::SYS_ppoll,
                    libc::SYS_pread64,
                ]
            }
            // Cleaning reads what it writes elsewhere.
            Thread::Spill => {
                calls.extend(READ_SPILLED.iter().map(|&number| any(number)));
                // Room for more; nothing else is done to files by it.
                calls.push(only(libc::SYS_fallocate, 1, 0));
                &[libc::SYS_pwrite64]
            }
            Thread::SpillLate => READ_SPILLED,
            Thread::Resize => &[],
            // Connections, and nothing that they ask for; no new ones to anybody. The second wait is that of other C libraries, the
            // last two those of other versions of Rust's.
            Thread::Api => {
                calls.push(send());
                &[
                    libc::SYS_accept4,
                    libc::SYS_epoll_ctl,
                    libc::SYS_epoll_wait,
                    libc::SYS_epoll_pwait,
                    libc::SYS_recvfrom,
                    libc::SYS_shutdown,
                    libc::SYS_readv,
                    libc::SYS_writev,
                ]
            }
            Thread::ApiWork => {
                calls.extend(read_files());
                // Figures of KVM's.
                calls.push(any(libc::SYS_pread64));
                // Makes vCPUs leave the guest.
                calls.push(signal_own_threads());
                &[libc::SYS_getpid]
            }
        };
        calls.extend(own.iter().chain(self.refused()).map(|&number| any(number)));
        calls
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// With any arguments.
fn any(number: i64) -> Call {
    Call { number, rule: None }
}

/// Only when the argument is that value.
fn only(number: i64, argument: u8, value: u64) -> Call {
    with(number, argument, SeccompCmpOp::Eq, value)
}

/// Only when the argument has none of these bits.
fn unless(number: i64, argument: u8, bits: u64) -> Call {
    with(number, argument, SeccompCmpOp::MaskedEq(bits), 0)
}

fn with(number: i64, argument: u8, operator: SeccompCmpOp, value: u64) -> Call {
    of_length(number, argument, SeccompCmpArgLen::Dword, operator, value)
}

fn of_length(
    number: i64,
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Call {
    all_of(number, &[(argument, length, operator, value)])
}

/// Only when all of these hold.
fn all_of(number: i64, conditions: &[(u8, SeccompCmpArgLen, SeccompCmpOp, u64)]) -> Call {
    let conditions = conditions.iter().cloned();
    let rule = conditions
        .map(|(argument, length, operator, value)| {
            SeccompCondition::new(argument, length, operator, value)
        })
        .collect::<Result<Vec<_>, _>>()
        .and_then(SeccompRule::new)
        .expect("arguments that there are, and conditions");
    Call {
        number,
        rule: Some(rule),
    }
}

/// What memory is good for, or that it is not needed; not that it is broken, by which a page of the host is lost, nor that it goes into a
/// core dump after all.
fn advise() -> Call {
    let advice = |operator, advice: i32| (2, SeccompCmpArgLen::Dword, operator, advice as u64);
    all_of(
        libc::SYS_madvise,
        &[
            advice(SeccompCmpOp::Lt, libc::MADV_HWPOISON),
            advice(SeccompCmpOp::Ne, libc::MADV_DODUMP),
        ],
    )
}

/// Signals to threads of this process, and to no other one's.
fn signal_own_threads() -> Call {
    only(libc::SYS_tgkill, 0, u64::from(std::process::id()))
}

/// To whoever a socket is connected with; not to an address, which would be anybody.
fn send() -> Call {
    let whole = SeccompCmpArgLen::Qword;
    of_length(libc::SYS_sendto, 4, whole, SeccompCmpOp::Eq, 0)
}

/// Opening files to read them, and that. A file that is opened for reading alone can be emptied by the same call.
fn read_files() -> impl Iterator<Item = Call> {
    let writable = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64;
    let open = unless(libc::SYS_openat, 2, writable);
    READ_FILES.iter().map(|&number| any(number)).chain([open])
}
