use super::*;
use std::sync::Arc;

/// A disk of a file of `pages` pages of zeros, and the kernel's end of it.
fn disk(pages: u64) -> (Arc<HeldDisk>, UnixStream) {
    let below = tempfile::tempfile().expect("a file");
    below
        .set_len(pages * PAGE_SIZE as u64)
        .expect("made longer");
    let (kernels, ours) = UnixStream::pair().expect("a pair");
    let disk = Arc::new(HeldDisk {
        below,
        replies: Mutex::new(ours.try_clone().expect("another")),
        waiting: Mutex::new([None, None]),
        arrived: Condvar::new(),
    });
    let answering = Arc::clone(&disk);
    thread::spawn(move || answering.answer(ours));
    (disk, kernels)
}

fn ask(kernels: &mut UnixStream, kind: u32, handle: u8, page: u64, data: &[u8]) {
    let mut request = REQUEST_MAGIC.to_be_bytes().to_vec();
    request.extend(kind.to_be_bytes());
    request.extend([handle; 8]);
    request.extend((page * PAGE_SIZE as u64).to_be_bytes());
    request.extend((PAGE_SIZE as u32).to_be_bytes());
    request.extend(data);
    kernels.write_all(&request).expect("sent");
}

/// The error, and whose reply it is.
fn reply(kernels: &mut UnixStream) -> (u32, u8) {
    let mut reply = [0; 16];
    kernels.read_exact(&mut reply).expect("a reply");
    assert_eq!(reply[..4], REPLY_MAGIC.to_be_bytes());
    (
        u32::from_be_bytes([reply[4], reply[5], reply[6], reply[7]]),
        reply[8],
    )
}

fn read(kernels: &mut UnixStream, page: u64) -> u8 {
    ask(kernels, READ, 9, page, &[]);
    assert_eq!(reply(kernels), (0, 9));
    let mut content = [0; PAGE_SIZE];
    kernels.read_exact(&mut content).expect("a page");
    content[PAGE_SIZE - 1]
}

#[test]
fn writes_of_data_wait_and_others_and_reads_go_on() {
    let (disk, mut kernels) = disk(4);
    let mut data = [7; PAGE_SIZE];
    data[..MARK.len()].copy_from_slice(&MARK);
    disk.hold(Writes::Data);
    ask(&mut kernels, WRITE, 1, 0, &data);
    ask(&mut kernels, WRITE, 2, 1, &[8; PAGE_SIZE]);
    assert_eq!(reply(&mut kernels), (0, 2));
    disk.wait_for(Writes::Data, &MARK).expect("it waits");
    assert_eq!((read(&mut kernels, 0), read(&mut kernels, 1)), (0, 8));
    disk.let_go(Writes::Data, End::Success);
    assert_eq!(reply(&mut kernels), (0, 1));
    assert_eq!(read(&mut kernels, 0), 7);
    // From now on nothing waits.
    ask(&mut kernels, WRITE, 3, 2, &data);
    assert_eq!(reply(&mut kernels), (0, 3));
}

#[test]
fn a_write_that_fails_is_done_nonetheless() {
    let (disk, mut kernels) = disk(1);
    disk.hold(Writes::Rest);
    ask(&mut kernels, WRITE, 1, 0, &[5; PAGE_SIZE]);
    disk.wait_for(Writes::Rest, &[5]).expect("it waits");
    disk.let_go(Writes::Rest, End::Failure);
    assert_eq!(reply(&mut kernels), (libc::EIO as u32, 1));
    assert_eq!(read(&mut kernels, 0), 5);
}

#[test]
fn what_is_beyond_the_disk_fails() {
    let (_disk, mut kernels) = disk(1);
    ask(&mut kernels, READ, 4, 1, &[]);
    assert_eq!(reply(&mut kernels), (libc::EIO as u32, 4));
}
