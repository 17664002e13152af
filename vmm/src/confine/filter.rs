//! System calls that a thread may still make, by seccomp.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch,
};

use super::threads::Call;
use super::{Confinement, Thread};

/// A call that no thread may make, and that does nothing: how the handler of SIGSYS ends the process.
pub(super) const NEVER: libc::c_long = libc::SYS_getppid;

thread_local! {
    /// Who this thread is, for the handler of SIGSYS: neither initialized nor dropped at run time.
    static NAME: Cell<&'static str> = const { Cell::new("unknown") };
}

/// Whether this host has filters of that kind, and takes those of all threads.
pub(super) fn check(confinement: Confinement) -> io::Result<()> {
    for thread in Thread::ALL {
        program(thread, confinement)?;
    }
    let action: u32 = match confinement {
        Confinement::Log => libc::SECCOMP_RET_LOG,
        _ => libc::SECCOMP_RET_TRAP,
    };
    // SAFETY: the operation reads the action, which outlives the call.
    let available = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    if available == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Installs the filter of `thread` on the calling thread, for good.
pub(super) fn install(thread: Thread, confinement: Confinement) -> io::Result<()> {
    NAME.set(thread.name());
    let program = program(thread, confinement)?;
    // Of two filters the stricter answer counts; the second one forbids to install another.
    if confinement == Confinement::On && !thread.refused().is_empty() {
        seccompiler::apply_filter(&refusals(thread)?).map_err(io::Error::other)?;
    }
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// Has the calls fail that `thread` does without.
fn refusals(thread: Thread) -> io::Result<BpfProgram> {
    let rules = thread.refused().iter().map(|&number| (number, vec![]));
    let refuse = SeccompAction::Errno(libc::EACCES as u32);
    compile(rules.collect(), SeccompAction::Allow, refuse)
}

fn program(thread: Thread, confinement: Confinement) -> io::Result<BpfProgram> {
    let mismatch = match confinement {
        Confinement::Log => SeccompAction::Log,
        // Not KillProcess: the handler says who and what.
        _ => SeccompAction::Trap,
    };
    let mut rules = BTreeMap::<_, Vec<_>>::new();
    for Call { number, rule } in thread.calls() {
        // A call without rules is allowed with any arguments; one with several if one of them matches.
        rules.entry(number).or_default().extend(rule);
    }
    compile(rules, mismatch, SeccompAction::Allow)
}

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    mismatch: SeccompAction,
    matched: SeccompAction,
) -> io::Result<BpfProgram> {
    SeccompFilter::new(rules, mismatch, matched, TargetArch::x86_64)
        .and_then(BpfProgram::try_from)
        .map_err(|error: BackendError| io::Error::other(error))
}

/// Has a forbidden call end the process by SIGSYS, with a line that says which it was.
pub(super) fn report_forbidden_calls() -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sigaction (no flags, empty mask).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = report;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler is async-signal-safe (it makes two system calls), the structure is initialized.
    let rc = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Where `si_syscall` is in siginfo, in units of 32 bits (Linux, include/uapi/asm-generic/siginfo.h).
const SI_SYSCALL: usize = 6;

extern "C" fn report(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a siginfo of 128 bytes, of SIGSYS.
    let number = unsafe { info.cast::<i32>().add(SI_SYSCALL).read() };
    let mut line = Line::default();
    line.push(b"\nerror: thread ");
    line.push(NAME.get().as_bytes());
    line.push(b" made system call ");
    line.push_number(number.unsigned_abs());
    line.push(b", which its filter forbids: vtmem has a bug, or was broken into. --confinement log goes on and has the \
kernel log such calls\n");
    // SAFETY: the buffer is initialized up to that length. In the handler SIGSYS is blocked, so that a second
    // forbidden call cannot be handled: the kernel ends the process by that signal. Only a thread that has no filter yet,
    // and was sent the signal by somebody, comes to the last line.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.length);
        libc::syscall(NEVER);
        libc::_exit(128 + libc::SIGSYS);
    }
}

/// A line that is put together without allocating; what does not fit is cut off.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Line {
            bytes: [0; 256],
            length: 0,
        }
    }
}

impl Line {
    fn push(&mut self, text: &[u8]) {
        for (to, from) in self.bytes[self.length..].iter_mut().zip(text) {
            *to = *from;
            self.length += 1;
        }
    }

    fn push_number(&mut self, number: u32) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.push(&[b'0' + (number % 10) as u8]);
    }
}
