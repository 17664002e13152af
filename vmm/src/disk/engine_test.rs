//! Both engines against files.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tempfile::NamedTempFile;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, Permissions};

use super::buffers::{BOUNCE_SIZE, BounceBuffer, Buffers, Segment};
use super::engine::{self, Completion, Engine, MAX_IN_FLIGHT, Operation, Step, Transfer};
use super::plain::PlainEngine;
use super::uring::UringEngine;
use super::{Alignment, Cache, Disk, DiskOptions};
use crate::not_run::not_run;

const SIZE: u64 = 1 << 20;

fn disk(cache: Cache) -> (NamedTempFile, Arc<Disk>) {
    let image = NamedTempFile::new().expect("a temporary file");
    image.as_file().set_len(SIZE).expect("set its size");
    let options = DiskOptions {
        path: image.path().to_owned(),
        cache,
        readonly: false,
    };
    let disk = Disk::open(&options).expect("opens");
    (image, Arc::new(disk))
}

fn engines(disk: &Arc<Disk>) -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(PlainEngine::new(Arc::clone(disk)))];
    match UringEngine::new(Arc::clone(disk)) {
        Ok(engine) => engines.push(Box::new(engine)),
        Err(error) => not_run(format!("io_uring: {error}")),
    }
    engines
}

fn memory() -> Arc<GuestMemoryMmap> {
    let ranges = [(GuestAddress(0), 1 << 20), (GuestAddress(1 << 20), 1 << 20)];
    Arc::new(GuestMemoryMmap::from_ranges(&ranges).expect("guest memory"))
}

fn segment(address: u64, length: u32) -> Segment {
    Segment {
        address: GuestAddress(address),
        length,
    }
}

fn buffers(memory: &Arc<GuestMemoryMmap>, segments: &[Segment]) -> Buffers {
    Buffers::guest(memory, segments, Permissions::ReadWrite).expect("guest memory")
}

fn finish(engine: &mut dyn Engine, expected: usize) -> Vec<Completion> {
    let mut completions = Vec::new();
    while completions.len() < expected {
        engine.submit();
        engine.wait();
        engine.reap(&mut completions);
    }
    completions
}

#[test]
fn scattered_writes_and_reads() {
    for cache in [Cache::None, Cache::Writethrough, Cache::Writeback] {
        let (_image, disk) = disk(cache);
        for mut engine in engines(&disk) {
            let memory = memory();
            let data: Vec<u8> = (0..16384u32).map(|i| (i / 7) as u8).collect();
            memory
                .write_slice(&data, GuestAddress(0x1000))
                .expect("in memory");
            // Pieces out of order, one of them across the border of two regions.
            let from = [
                segment(0x3000, 8192),
                segment(0x1000, 4096),
                segment(0x2000, 4096),
            ];
            let to = [segment((1 << 20) - 4096, 8192), segment(0x8000, 8192)];
            let write = Operation::Write {
                offset: 8192,
                durable: true,
            };
            engine.start(Transfer::new(1, write, buffers(&memory, &from)));
            assert!(finish(&mut *engine, 1)[0].result.is_ok());
            engine.start(Transfer::new(2, Operation::Sync, buffers(&memory, &[])));
            assert!(finish(&mut *engine, 1)[0].result.is_ok());
            let read = Operation::Read { offset: 8192 };
            engine.start(Transfer::new(3, read, buffers(&memory, &to)));
            let done = finish(&mut *engine, 1);
            assert!(done[0].result.is_ok());
            assert_eq!(done[0].transfer.token, 3);
            let mut got = vec![0; 16384];
            memory
                .read_slice(&mut got[..8192], GuestAddress((1 << 20) - 4096))
                .expect("in memory");
            memory
                .read_slice(&mut got[8192..], GuestAddress(0x8000))
                .expect("in memory");
            assert!(got[..8192] == data[8192..] && got[8192..] == data[..8192]);
        }
    }
}

#[test]
fn reads_beyond_the_end_fail_and_harm_no_other() {
    let (image, disk) = disk(Cache::Writeback);
    image.as_file().write_all_at(&[7; 1024], 0).expect("write");
    image.as_file().set_len(1024).expect("cut short");
    for mut engine in engines(&disk) {
        let memory = memory();
        let read = |token, offset, address| {
            let segments = [segment(address, 1024)];
            Transfer::new(
                token,
                Operation::Read { offset },
                buffers(&memory, &segments),
            )
        };
        engine.start(read(0, 0, 0));
        engine.start(read(1, 512, 0x1000));
        engine.start(read(2, 4096, 0x2000));
        let mut done = finish(&mut *engine, 3);
        done.sort_by_key(|completion| completion.transfer.token);
        assert!(done[0].result.is_ok());
        for failed in &done[1..] {
            let error = failed.result.as_ref().expect_err("beyond the end");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

#[test]
fn as_many_in_flight_as_promised() {
    let (_image, disk) = disk(Cache::None);
    for mut engine in engines(&disk) {
        let memory = memory();
        for round in 0..3 {
            for token in 0..MAX_IN_FLIGHT as u16 {
                let segments = [segment(u64::from(token) * 4096, 4096)];
                let offset = u64::from(token) * 4096;
                let operation = match round % 2 {
                    0 => Operation::Write {
                        offset,
                        durable: false,
                    },
                    _ => Operation::Read { offset },
                };
                engine.start(Transfer::new(token, operation, buffers(&memory, &segments)));
            }
            let done = finish(&mut *engine, MAX_IN_FLIGHT);
            assert!(done.iter().all(|completion| completion.result.is_ok()));
        }
    }
}

#[test]
fn dropped_with_transfers_in_flight() {
    let (_image, disk) = disk(Cache::None);
    for mut engine in engines(&disk) {
        let memory = memory();
        for token in 0..64 {
            let segments = [segment(u64::from(token) * 4096, 4096)];
            let read = Operation::Read { offset: 0 };
            engine.start(Transfer::new(token, read, buffers(&memory, &segments)));
        }
        engine.submit();
        drop(engine);
        assert_eq!(
            Arc::strong_count(&memory),
            1,
            "nothing holds the guest's memory"
        );
    }
}

#[test]
fn partial_answers_go_on_where_they_stopped() {
    let memory = memory();
    let segments = [segment(0, 1000), segment(0x1000, 0), segment(0x2000, 24)];
    let read = Operation::Read { offset: 512 };
    let mut transfer = Transfer::new(0, read, buffers(&memory, &segments));
    assert!(matches!(
        transfer.step(-i64::from(libc::EINTR)),
        Step::Again
    ));
    assert!(matches!(transfer.step(999), Step::Again));
    assert_eq!(transfer.operation, Operation::Read { offset: 1511 });
    let lengths: Vec<usize> = transfer
        .buffers
        .iovecs()
        .iter()
        .map(|iovec| iovec.iov_len)
        .collect();
    assert_eq!(lengths, [1, 24]);
    assert!(matches!(transfer.step(25), Step::Done(Ok(()))));
    assert_eq!(transfer.buffers.remaining(), 0);

    let mut transfer = Transfer::new(0, read, buffers(&memory, &segments));
    assert!(
        matches!(transfer.step(0), Step::Done(Err(_))),
        "no progress is no success"
    );
    assert!(matches!(
        transfer.step(-i64::from(libc::EIO)),
        Step::Done(Err(_))
    ));
    let tries = (0..1000)
        .take_while(|_| matches!(transfer.step(-11), Step::Again))
        .count();
    assert!(tries < 1000, "EAGAIN for ever is an error");
}

#[test]
fn only_guest_memory_becomes_a_buffer() {
    let memory = memory();
    for outside in [
        segment(2 << 20, 1),
        segment((2 << 20) - 1, 2),
        segment(u64::MAX, 1),
        segment(u64::MAX - 10, u32::MAX),
        segment(0, u32::MAX),
    ] {
        let segments = [segment(0, 512), outside];
        assert!(Buffers::guest(&memory, &segments, Permissions::ReadWrite).is_none());
    }
    let many = vec![segment(0, 1); 1025];
    assert!(Buffers::guest(&memory, &many, Permissions::ReadWrite).is_none());
}

#[test]
fn alignment_is_of_addresses_and_lengths() {
    let memory = memory();
    let alignment = Alignment {
        memory: 4,
        length: 512,
    };
    for (address, length, aligned) in [
        (0x1000, 512, true),
        (0x1004, 512, true),
        (0x1001, 512, false),
        (0x1000, 256, false),
    ] {
        let segments = [segment(address, length)];
        assert_eq!(buffers(&memory, &segments).is_aligned(alignment), aligned);
    }
    let whole = Buffers::bounce(BounceBuffer::new(), BOUNCE_SIZE);
    assert!(whole.is_aligned(Alignment {
        memory: 4096,
        length: 4096
    }));
    assert!(whole.into_bounce().is_some());
}

/// Makes io_uring_setup(2) fail with EPERM on this thread, for as long as it lives.
fn forbid_io_uring() {
    let statement = |code: u32, jump_if_false, k| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: jump_if_false,
        k,
    };
    // The system call's number is the first word of the filter's input.
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            libc::SYS_io_uring_setup as u32,
        ),
        statement(
            libc::BPF_RET,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        statement(libc::BPF_RET, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: both calls bind this thread only; the kernel copies the program.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program),
            0
        );
    }
}

#[test]
fn where_io_uring_is_forbidden_the_plain_engine_is_chosen() {
    let (_image, disk) = disk(Cache::Writeback);
    let chosen = std::thread::spawn({
        let disk = Arc::clone(&disk);
        move || {
            forbid_io_uring();
            engine::choose(&disk, "vda")
        }
    });
    let mut engine = chosen.join().expect("no panic");
    assert!(
        engine.event_fd().is_none(),
        "nothing is ever left in flight"
    );
    engine.start(Transfer::new(0, Operation::Sync, buffers(&memory(), &[])));
    assert!(finish(&mut *engine, 1)[0].result.is_ok());
}
