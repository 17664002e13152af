//! Pipes are files that take and give nothing until the test wants.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::super::medium::{BLOCK, Buffer, Transfer};
use super::*;

/// Says when it is dropped.
struct Pin(Sender<()>);

impl Drop for Pin {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn batch(direction: Direction, offsets: &[u64]) -> (Batch, Receiver<()>) {
    let (sender, receiver) = channel();
    let transfers = offsets
        .iter()
        .map(|&offset| Transfer::new(offset, Buffer::new(BLOCK)));
    let batch = Batch {
        direction,
        transfers: transfers.collect(),
        _pins: Box::new(Pin(sender)),
    };
    (batch, receiver)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// The medium on a pipe's end; `None` where io_uring is forbidden, for then nothing is ever late.
fn on_pipe(end: impl Into<OwnedFd>) -> Option<FileMedium> {
    let medium = FileMedium::new(File::from(end.into()), false, || ()).expect("a thread");
    let forbidden = medium.rings.lock().idle.is_empty();
    (!forbidden).then_some(medium)
}

#[test]
fn what_was_written_is_read_in_any_number_of_transfers() {
    let file = tempfile::tempfile().expect("a file");
    for plain in [false, true] {
        let medium = FileMedium::new(file.try_clone().expect("a copy"), false, || ());
        let medium = medium.expect("a thread");
        if plain {
            medium.rings.lock().idle.clear();
        }
        // More than a ring takes at a time.
        let offsets: Vec<u64> = (0..150).map(|at| at * 2 * BLOCK as u64).collect();
        let (mut writes, _) = batch(Direction::Write, &offsets);
        for (at, transfer) in writes.transfers.iter_mut().enumerate() {
            transfer.buffer.bytes_mut().fill(at as u8 + u8::from(plain));
        }
        let done = medium.run(writes, later()).expect("in time");
        assert!(done.transfers.iter().all(|one| one.result.is_ok()));
        let (reads, dropped) = batch(Direction::Read, &offsets);
        let done = medium.run(reads, later()).expect("in time");
        for (at, transfer) in done.transfers.iter().enumerate() {
            assert!(transfer.result.is_ok());
            let expected = at as u8 + u8::from(plain);
            assert!(transfer.buffer.bytes().iter().all(|&byte| byte == expected));
        }
        assert!(dropped.try_recv().is_err(), "the batch is still there");
        drop(done);
        assert_eq!(dropped.try_recv(), Ok(()));
    }
}

#[test]
fn what_is_not_in_the_file_is_an_error_of_its_transfer_alone() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(BLOCK as u64 + 100).expect("a size");
    let medium = FileMedium::new(file, false, || ()).expect("a thread");
    let (reads, _) = batch(Direction::Read, &[0, BLOCK as u64, 1 << 30]);
    let done = medium.run(reads, later()).expect("in time");
    let kinds: Vec<_> = done
        .transfers
        .iter()
        .map(|one| one.result.as_ref().map_err(io::Error::kind))
        .collect();
    let eof = io::ErrorKind::UnexpectedEof;
    assert_eq!(kinds, [Ok(&()), Err(eof), Err(eof)]);
}

#[test]
fn a_late_read_keeps_its_batch_until_it_is_over_and_others_go_on() {
    let (pipe, mut feed) = io::pipe().expect("a pipe");
    let Some(medium) = on_pipe(pipe) else { return };
    let (late, dropped) = batch(Direction::Read, &[0]);
    assert!(medium.run(late, soon()).is_err());
    assert!(dropped.try_recv().is_err(), "the kernel has its buffer");
    // Every permit is taken but the last one.
    let more: Vec<_> = (2..READERS)
        .map(|_| {
            let (late, dropped) = batch(Direction::Read, &[0]);
            assert!(medium.run(late, soon()).is_err());
            dropped
        })
        .collect();
    feed.write_all(&vec![7; READERS * BLOCK]).expect("room");
    dropped.recv().expect("it is over");
    for dropped in more {
        dropped.recv().expect("it is over");
    }
    let (read, _) = batch(Direction::Read, &[0]);
    let done = medium.run(read, later()).expect("in time");
    assert_eq!(done.transfers[0].buffer.bytes(), [7; BLOCK]);
}

#[test]
fn no_more_reads_than_stated_wait_for_a_disk() {
    let (pipe, _feed) = io::pipe().expect("a pipe");
    let Some(medium) = on_pipe(pipe) else { return };
    for _ in 0..READERS + 3 {
        let (late, _) = batch(Direction::Read, &[0]);
        assert!(medium.run(late, soon()).is_err());
    }
    assert_eq!(medium.rings.lock().readers, READERS);
    // Their threads wait on when the test is over.
}

#[test]
fn nothing_is_written_while_an_earlier_write_is_late() {
    let (mut drain, pipe) = io::pipe().expect("a pipe");
    let Some(medium) = on_pipe(pipe) else { return };
    // Until the pipe is full.
    let dropped = loop {
        let (write, dropped) = batch(Direction::Write, &[0]);
        if medium.run(write, soon()).is_err() {
            break dropped;
        }
    };
    let begin = Instant::now();
    let (refused, at_once) = batch(Direction::Write, &[0]);
    assert!(medium.run(refused, later()).is_err());
    assert_eq!(at_once.try_recv(), Ok(()), "it was never begun");
    assert!(begin.elapsed() < Duration::from_secs(60), "nor waited for");
    drain.read_exact(&mut [0; 4 * BLOCK]).expect("data");
    dropped.recv().expect("it is over");
    // The permit comes back a moment after the batch.
    while medium.rings.lock().late_writes > 0 {
        std::thread::yield_now();
    }
    let (write, _) = batch(Direction::Write, &[0]);
    assert!(medium.run(write, later()).is_ok());
}
