//! Each kind of thread in a process of its own: this test program, run once more with a variable set.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use super::*;

/// Which thread, how, and what it then does: `kind/confinement/act`.
const CHILD: &str = "VTMEM_CONFINE_CHILD";

/// Has a process be confined, and a thread of `kind` do `act`.
fn child(kind: usize, confinement: &str, act: &str) -> Output {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["confine::tests::child_process", "--exact", "--nocapture"])
        .env(CHILD, format!("{kind}/{confinement}/{act}"))
        .output()
        .expect("starts")
}

/// What the other tests start; does nothing by itself.
#[test]
fn child_process() {
    let Ok(role) = std::env::var(CHILD) else {
        return;
    };
    let fields: Vec<_> = role.split('/').collect();
    let [kind, confinement, act] = fields[..] else {
        panic!("not by these tests: {role}");
    };
    let thread = Thread::ALL[kind.parse::<usize>().expect("a number")];
    let confinement = clap::ValueEnum::from_str(confinement, false).expect("a confinement");
    begin(confinement).expect("a host with filters");
    // Memory, locks and output must work in any thread.
    let act = act.to_owned();
    let ended = std::thread::spawn(move || {
        let mut status = File::open("/proc/thread-self/status").expect("open before");
        enter(thread);
        match act.as_str() {
            "work" => {
                let memory = vec![1_u8; 64 << 20];
                println!(
                    "worked: {}",
                    memory.iter().map(|&byte| u64::from(byte)).sum::<u64>()
                );
            }
            "socket" => {
                // SAFETY: takes numbers alone.
                let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) };
                println!("socket: {}", fd >= 0);
            }
            "execute" => {
                let null = std::ptr::null_mut();
                let (protection, flags) =
                    (libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                // SAFETY: a new mapping, which nothing else uses.
                unsafe { libc::mmap(null, 4096, protection, flags, -1, 0) };
                println!("mapped");
            }
            "truncate" => {
                let flags = libc::O_RDONLY | libc::O_TRUNC;
                // SAFETY: the path is a C string that lives on; there is no such file.
                unsafe { libc::open(c"/nonexistent/vtmem".as_ptr(), flags) };
                println!("tried");
            }
            "kill" => {
                // SAFETY: takes numbers alone; signal 0 is none.
                unsafe { libc::syscall(libc::SYS_tgkill, 1, 1, 0) };
                println!("tried");
            }
            raw if raw.starts_with("call ") => {
                let numbers = raw.split(' ').skip(1).map(|n| n.parse::<i64>());
                let numbers: Vec<_> = numbers.collect::<Result<_, _>>().expect("numbers");
                let [number, a, b, c, d, e] = numbers[..] else {
                    panic!("not by these tests: {raw}");
                };
                // SAFETY: no argument of these tests is an address of anything that is there.
                unsafe { libc::syscall(number, a, b, c, d, e) };
                println!("tried");
            }
            "open" => println!("open: {}", File::open("/etc/passwd").is_ok()),
            _ => {
                let mut text = String::new();
                status.read_to_string(&mut text).expect("readable");
                // SAFETY: takes numbers alone.
                println!("{text}dumpable={}", unsafe {
                    libc::prctl(libc::PR_GET_DUMPABLE)
                });
            }
        }
        std::process::exit(0);
    })
    .join();
    panic!("the thread did not end the process: {ended:?}");
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_forbidden_call_ends_the_process_and_says_which() {
    for (number, thread) in Thread::ALL.iter().enumerate() {
        for (act, call) in [("socket", libc::SYS_socket), ("execute", libc::SYS_mmap)] {
            let output = child(number, "on", act);
            assert_eq!(
                output.status.signal(),
                Some(libc::SIGSYS),
                "{thread}, {act}: {output:?}"
            );
            let said = String::from_utf8_lossy(&output.stderr);
            let expected = format!("error: thread {thread} made system call {call}, which");
            assert!(said.contains(&expected), "{said}");
        }
    }
}

fn ended_by_its_filter(output: &Output) -> bool {
    output.status.signal() == Some(libc::SIGSYS)
}

/// Every argument that a rule looks at, with what it must not be; and who may have it be so after all.
#[test]
fn what_the_rules_are_there_to_forbid_is_forbidden() {
    let nobody = |_: &Thread| false;
    let is_vcpu = |thread: &Thread| matches!(thread, Thread::Vcpu { .. });
    let is_main = |thread: &Thread| *thread == Thread::Main;
    let reads_input = |thread: &Thread| *thread == Thread::SerialInput;
    let reads_no_files = |thread: &Thread| thread.reads().is_empty();
    // Rust's library asks this in debug builds.
    let anybody_in_debug = |_: &Thread| cfg!(debug_assertions);
    let (map, fd) = (i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), -1);
    let ioctl = |request: u64| [libc::SYS_ioctl, fd, request as i64, 0, 0, 0];
    let fcntl = |command: i32| [libc::SYS_fcntl, fd, command.into(), 0, 0, 0];
    let openat = |flags: i32| [libc::SYS_openat, fd, 0, flags.into(), 0, 0];
    let mmap = |protection: i32| [libc::SYS_mmap, 0, 4096, protection.into(), map, fd];
    let mprotect = |protection: i32| [libc::SYS_mprotect, 0, 0, protection.into(), 0, 0];
    let madvise = |advice: i32| [libc::SYS_madvise, 0, 0, advice.into(), 0, 0];
    let fallocate = |mode: i32| [libc::SYS_fallocate, fd, mode.into(), 0, 0, 0];
    type Case<'a> = ([i64; 6], &'a dyn Fn(&Thread) -> bool);
    let cases: &[Case] = &[
        (mmap(libc::PROT_EXEC), &nobody),
        (
            mmap(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC),
            &nobody,
        ),
        (mprotect(libc::PROT_EXEC), &nobody),
        (mprotect(libc::PROT_READ | libc::PROT_EXEC), &nobody),
        (madvise(libc::MADV_DODUMP), &nobody),
        (madvise(libc::MADV_HWPOISON), &nobody),
        (madvise(libc::MADV_SOFT_OFFLINE), &nobody),
        (madvise(-1), &nobody),
        (fallocate(libc::FALLOC_FL_PUNCH_HOLE), &nobody),
        (fallocate(libc::FALLOC_FL_COLLAPSE_RANGE), &nobody),
        (fallocate(libc::FALLOC_FL_KEEP_SIZE), &nobody),
        // KVM_RUN; KVM_CREATE_VM, KVM_CREATE_VCPU, KVM_SET_USER_MEMORY_REGION.
        (ioctl(0xae80), &is_vcpu),
        (ioctl(0xae01), &nobody),
        (ioctl(0xae41), &nobody),
        (ioctl(0x4020_ae46), &nobody),
        (ioctl(libc::TCSETS), &is_main),
        (ioctl(libc::TCGETS), &reads_input),
        (ioctl(libc::TIOCSTI), &nobody),
        (ioctl(libc::FIONBIO), &nobody),
        (fcntl(libc::F_DUPFD_CLOEXEC), &is_vcpu),
        (fcntl(libc::F_GETFD), &anybody_in_debug),
        (fcntl(libc::F_SETFL), &nobody),
        (fcntl(libc::F_SETOWN), &nobody),
        (openat(libc::O_WRONLY), &reads_no_files),
        (openat(libc::O_RDWR), &reads_no_files),
        (openat(libc::O_CREAT), &reads_no_files),
        (openat(libc::O_TRUNC), &reads_no_files),
        (openat(libc::O_RDWR | libc::O_TMPFILE), &reads_no_files),
        // To an address, of which the lower half alone may be 0.
        ([libc::SYS_sendto, fd, 0, 0, 0, 1], &nobody),
        ([libc::SYS_sendto, fd, 0, 0, 0, 1 << 32], &nobody),
        ([libc::SYS_tgkill, 1, 1, 0, 0, 0], &nobody),
    ];
    for (call, may) in cases {
        let text = call.map(|number| number.to_string()).join(" ");
        for (number, thread) in Thread::ALL.iter().enumerate() {
            let output = child(number, "on", &format!("call {text}"));
            assert_eq!(
                ended_by_its_filter(&output),
                !may(thread),
                "{thread}, system call and arguments {text}: {output:?}"
            );
        }
    }
}

/// No thread sends a signal to another process, not even one that wakes threads of its own by them.
#[test]
fn signals_to_other_processes_are_forbidden() {
    for (number, thread) in Thread::ALL.iter().enumerate() {
        let output = child(number, "on", "kill");
        assert!(ended_by_its_filter(&output), "{thread}: {output:?}");
    }
}

#[test]
fn a_thread_that_reads_files_cannot_empty_them() {
    let readers = Thread::ALL.iter().enumerate();
    for (number, thread) in readers.filter(|(_, thread)| !thread.reads().is_empty()) {
        let output = child(number, "on", "truncate");
        assert!(ended_by_its_filter(&output), "{thread}: {output:?}");
    }
}

#[test]
fn every_thread_can_use_memory_and_end() {
    for number in 0..Thread::ALL.len() {
        for confinement in ["on", "log", "off"] {
            let output = child(number, confinement, "work");
            assert!(
                stdout(&output).contains("worked: 67108864"),
                "{confinement}: {output:?}"
            );
            assert!(output.status.success());
        }
    }
}

#[test]
fn what_is_logged_goes_on() {
    let output = child(0, "log", "socket");
    assert!(stdout(&output).contains("socket: true"), "{output:?}");
}

/// The C library's malloc opens a file before it gives memory of a thread back, and must not end the process by that.
#[test]
fn a_thread_that_reads_nothing_is_refused_files_and_goes_on() {
    for (number, thread) in Thread::ALL.iter().enumerate() {
        if thread.reads().is_empty() {
            let output = child(number, "on", "open");
            assert!(stdout(&output).contains("open: false"), "{output:?}");
        }
    }
}

#[test]
fn files_are_closed_where_the_kernel_knows_landlock() {
    for number in 0..Thread::ALL.len() {
        // Logged, not forbidden, by the filter: what closes the file is Landlock.
        let output = child(number, "log", "open");
        let open = stdout(&output).contains("open: true");
        // SAFETY: asks for the version, which takes no structure.
        let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) };
        assert!(
            open || stdout(&output).contains("open: false"),
            "{output:?}"
        );
        assert_eq!(open, version < 1, "{output:?}");
    }
}

#[test]
fn the_process_has_no_new_privileges_and_no_core_dump() {
    for (confinement, privileges, filter, dumpable) in [
        ("log", "1", "2", "dumpable=0"),
        ("off", "0", "0", "dumpable=1"),
    ] {
        // The main thread's filter; the call is logged.
        let output = child(0, confinement, "status");
        let said = stdout(&output);
        let field = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        assert_eq!(
            field("NoNewPrivs:").as_deref(),
            Some(privileges),
            "{output:?}"
        );
        assert_eq!(field("Seccomp:").as_deref(), Some(filter));
        assert!(said.contains(dumpable), "{said}");
    }
}

/// Neither that one ends the process, nor those with which a process gets out: new programs, other processes' memory,
/// sockets, new filters.
#[test]
fn no_list_has_a_way_out() {
    let ways = [
        filter::NEVER,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_fork,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_rt_sigaction,
        libc::SYS_io_uring_setup,
        libc::SYS_mount,
        libc::SYS_bpf,
        libc::SYS_open,
        libc::SYS_unlink,
    ];
    for thread in Thread::ALL {
        for call in thread.calls() {
            assert!(
                !ways.contains(&call.number),
                "{thread} may make call {}",
                call.number
            );
            let careful = [
                libc::SYS_mmap,
                libc::SYS_mprotect,
                libc::SYS_ioctl,
                libc::SYS_openat,
                libc::SYS_fcntl,
                libc::SYS_tgkill,
            ];
            assert!(
                call.rule.is_some()
                    || thread.refused().contains(&call.number)
                    || !careful.contains(&call.number),
                "{thread}: any {}",
                call.number
            );
        }
    }
}
