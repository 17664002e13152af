use super::*;
use cpio::Writer;

fn output_disk(members: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
    let mut archive = Writer::new(vec![]);
    for (path, data) in members {
        archive.file(path, 0o644, data).expect("a member");
    }
    let mut bytes = archive.finish().expect("an archive");
    bytes.resize(64 << 10, 0);
    let mut disk = tempfile::NamedTempFile::new().expect("a file");
    disk.write_all(&bytes).expect("write");
    disk
}

#[test]
fn the_outcome_is_the_jobs_status_and_files() {
    let disk = output_disk(&[
        ("lab/status", b"42\n"),
        ("out/a", b"\0\xff"),
        ("out/b", b""),
    ]);
    let outcome = read_outcome(disk.path()).expect("an outcome");
    assert_eq!(outcome.status, 42);
    assert_eq!(outcome.outputs["/out/a"], b"\0\xff");
    assert_eq!(outcome.outputs["/out/b"], b"");
    assert_eq!(outcome.outputs.len(), 2);
}

#[test]
fn a_lab_that_died_has_no_outcome() {
    assert!(read_outcome(output_disk(&[("out/a", b"x")]).path()).is_none());
    assert!(read_outcome(output_disk(&[("lab/status", b"1000")]).path()).is_none());
    let empty = tempfile::NamedTempFile::new().expect("a file");
    empty.as_file().set_len(OUTPUT_BYTES).expect("size");
    assert!(read_outcome(empty.path()).is_none());
}

#[test]
fn lines_come_one_by_one_and_the_last_needs_no_end() {
    let (mut near, far) = UnixStream::pair().expect("a pair");
    let (sender, lines) = mpsc::channel();
    near.write_all(b"one\r\ntwo\n\nthree").expect("write");
    drop(near);
    split_lines(far, Stream::Stderr, &sender);
    drop(sender);
    let lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, ["one", "two", "", "three"]);
}
