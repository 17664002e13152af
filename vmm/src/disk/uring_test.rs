use std::os::fd::FromRawFd;

use super::*;
use crate::disk::{Cache, DiskOptions};
use crate::not_run::not_run;

#[test]
fn a_ring_takes_only_what_disks_need() {
    let image = tempfile::NamedTempFile::new().expect("a temporary file");
    image.as_file().set_len(1 << 20).expect("a size");
    let options = DiskOptions {
        path: image.path().to_owned(),
        cache: Cache::Writeback,
        readonly: false,
    };
    let disk = Arc::new(Disk::open(&options).expect("opens"));
    let mut engine = match UringEngine::new(disk) {
        Ok(engine) => engine,
        Err(error) => {
            not_run(format!("no io_uring: {error}"));
            return;
        }
    };
    let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), c"/etc/passwd".as_ptr());
    let socket = opcode::Socket::new(libc::AF_UNIX, libc::SOCK_STREAM, 0);
    for entry in [open.build(), socket.build(), opcode::Nop::new().build()] {
        // SAFETY: the path is a constant; the others name no memory.
        unsafe { engine.ring.submission().push(&entry) }.expect("room");
        engine.ring.submit_and_wait(1).expect("submitted");
        let answer = engine.ring.completion().next().expect("an answer").result();
        if answer >= 0 {
            // SAFETY: the kernel just made it for us, and nobody else has it.
            drop(unsafe { std::fs::File::from_raw_fd(answer) });
        }
        assert_eq!(answer, -libc::EACCES);
    }
}
