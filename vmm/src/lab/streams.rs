//! The job's streams, between the lab and this process.

use std::io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// One of the job's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Bytes that wait in a pipe for a reader who is late.
const PIPE_BYTES: libc::c_int = 1 << 20;

/// A pipe that holds much.
///
/// # Errors
/// No descriptors to be had.
pub fn wide_pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    // SAFETY: sets the pipe's size, reads no memory. Refused, the pipe holds less, which is no error.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
    Ok((reader, writer))
}

/// Passes bytes on until the lab ends. That nobody reads them any more does not stop the job.
pub fn copy(mut from: impl io::Read, to: &mut dyn io::Write) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let _ = to.write_all(&buffer[..count]).and_then(|()| to.flush());
    }
}

/// Feeds standard input to the job.
pub fn feed(mut to: &UnixStream) {
    let mut buffer = [0; 8192];
    loop {
        match io::stdin().read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(count) if to.write_all(&buffer[..count]).is_err() => return,
            Ok(_) => {}
        }
    }
}

/// Tells the job that its input has ended. The stream has to stay open until the lab's end: when both
/// directions are closed, QEMU drops what it has not passed on.
pub fn end_input(of: &UnixStream) {
    // Fails when the lab is gone.
    let _ = of.shutdown(Shutdown::Write);
}

/// Sends lines, without their ends, until the lab ends.
pub fn split_lines(from: impl io::Read, stream: Stream, to: &mpsc::Sender<(Stream, String)>) {
    let mut from = BufReader::new(from);
    let mut line = vec![];
    while let Ok(1..) = from.read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        if to.send((stream, text)).is_err() {
            return;
        }
        line.clear();
    }
}

/// Waits for a thread of the lab.
pub fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the lab panicked");
    }
}

#[cfg(test)]
#[path = "streams_test.rs"]
mod tests;
