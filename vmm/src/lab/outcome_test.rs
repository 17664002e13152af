use super::*;
use cpio::Writer;

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Writer::new(vec![]);
    for (path, data) in members {
        archive.file(path, 0o644, data).expect("a member");
    }
    let mut bytes = archive.finish().expect("an archive");
    bytes.resize(64 << 10, 0);
    bytes
}

#[test]
fn the_outcome_is_the_jobs_status_and_files() {
    let file = OutcomeFile::create().expect("a file");
    let bytes = archive(&[
        ("lab/status", b"42\n"),
        ("out/a", b"\0\xff"),
        ("out/b", b""),
    ]);
    let (shared, size) = file.share().expect("a descriptor");
    assert_eq!(size, BYTES);
    shared.write_all_at(&bytes, 0).expect("write");
    let outcome = file.read().expect("an outcome");
    assert_eq!(outcome.status, 42);
    assert_eq!(outcome.outputs["/out/a"], b"\0\xff");
    assert_eq!(outcome.outputs["/out/b"], b"");
    assert_eq!(outcome.outputs.len(), 2);
}

#[test]
fn a_lab_that_died_has_no_outcome() {
    assert_eq!(parse(&archive(&[("out/a", b"x")])).expect("one"), None);
    let wild = archive(&[("lab/status", b"1000")]);
    assert_eq!(parse(&wild).expect("an archive"), None);
    let half = archive(&[("lab/status", b"0"), ("out/a", &[1; 4096])]);
    assert!(parse(&half[..2048]).is_err());
    assert_eq!(OutcomeFile::create().expect("a file").read(), None);
}
