use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

fn archive(fill: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    fill(&mut writer).expect("memory takes everything");
    writer.finish().expect("memory takes everything")
}

fn sample() -> Vec<u8> {
    archive(|cpio| {
        cpio.file("/bin/deep/tool", 0o755, b"#!/bin/sh\n")?;
        cpio.file("bin/deep/data", 0o640, &[0xff; 4097])?;
        cpio.file("empty", 0o600, b"")?;
        cpio.symlink("lib64/loader", "/lib/loader")?;
        cpio.directory("mnt/a/b/")?;
        cpio.directory("mnt")
    })
}

/// Runs cpio on an archive, in `directory`; `None` when this machine has no cpio.
fn cpio_program(directory: &std::path::Path, options: &[&str], archive: &[u8]) -> Option<String> {
    crate::find_program("cpio")?;
    let mut child = Command::new("cpio")
        .args(options)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cpio starts");
    let mut input = child.stdin.take().expect("a pipe");
    let archive = archive.to_vec();
    let feeder = std::thread::spawn(move || input.write_all(&archive));
    let output = child.wait_with_output().expect("cpio ends");
    feeder.join().expect("no panic").expect("cpio reads it all");
    assert!(output.status.success(), "cpio {options:?}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn gnu_cpio_unpacks_what_was_written() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    let Some(list) = cpio_program(root, &["-t", "--quiet"], &sample()) else {
        eprintln!("no cpio here: what another program makes of the archive was not tested");
        return;
    };
    let names: Vec<_> = list.lines().collect();
    assert_eq!(
        names,
        [
            "bin",
            "bin/deep",
            "bin/deep/tool",
            "bin/deep/data",
            "empty",
            "lib64",
            "lib64/loader",
            "mnt",
            "mnt/a",
            "mnt/a/b"
        ]
    );

    cpio_program(
        root,
        &["-i", "-d", "--quiet", "--no-preserve-owner"],
        &sample(),
    );
    let read = |name: &str| std::fs::read(root.join(name)).expect("unpacked");
    assert_eq!(read("bin/deep/tool"), b"#!/bin/sh\n");
    assert_eq!(read("bin/deep/data"), [0xff; 4097]);
    assert_eq!(read("empty"), b"");
    let target = std::fs::read_link(root.join("lib64/loader")).expect("a link");
    assert_eq!(target.to_str(), Some("/lib/loader"));
    let mode = |name: &str| {
        let metadata = std::fs::metadata(root.join(name)).expect("unpacked");
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!(mode("bin/deep/tool"), 0o755);
    assert_eq!(mode("bin/deep/data"), 0o640);
    assert!(root.join("mnt/a/b").is_dir());
}

#[test]
fn device_nodes_are_listed_with_their_numbers() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let archive = archive(|cpio| cpio.character_device("dev/console", 5, 1));
    let Some(list) = cpio_program(directory.path(), &["-tv", "--quiet"], &archive) else {
        eprintln!("no cpio here: what another program makes of the archive was not tested");
        return;
    };
    let line = list.lines().last().expect("two lines");
    assert!(line.starts_with("crw-------"), "{line}");
    assert!(line.contains("5,   1"), "{line}");
}

#[test]
fn equal_inputs_make_equal_archives_in_whole_sectors() {
    assert_eq!(sample(), sample());
    assert!(sample().len().is_multiple_of(512));
    assert!(archive(|_| Ok(())).len().is_multiple_of(512));
}

#[test]
fn reads_back_what_was_written() {
    let archive = sample();
    let members = read(&archive).expect("well formed");
    let found: Vec<_> = members
        .iter()
        .map(|member| (member.path.as_str(), member.data.len()))
        .collect();
    assert_eq!(
        found,
        [("bin/deep/tool", 10), ("bin/deep/data", 4097), ("empty", 0)]
    );
    assert_eq!(members[1].data, [0xff; 4097]);
}

#[test]
fn what_is_cut_off_or_malformed_is_refused() {
    let whole = sample();
    let length = whole.len() - 512;
    for end in (0..length).step_by(61) {
        read(&whole[..end]).expect_err("ends early");
    }
    for (offset, what) in [
        (0, "magic"),
        (14, "mode"),
        (54, "size"),
        (94, "name's size"),
    ] {
        let mut broken = whole.clone();
        broken[offset] = b'x';
        assert!(read(&broken).is_err(), "{what}");
    }
    // The largest sizes there are: nothing overflows, nothing is read beyond the end.
    for offset in [54, 94] {
        let mut broken = whole.clone();
        broken[offset..offset + 8].copy_from_slice(b"ffffffff");
        read(&broken).expect_err("beyond the end");
    }
    read(b"").expect_err("empty");
}

#[test]
fn errors_of_the_output_are_passed_on() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let full = full.expect("every Linux has it");
    assert_eq!(full.metadata().expect("metadata").size(), 0);
    let error = Writer::new(full).file("file", 0o644, b"x");
    assert_eq!(error.expect_err("full").kind(), io::ErrorKind::StorageFull);
}
