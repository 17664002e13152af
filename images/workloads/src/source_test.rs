use super::*;
use std::fs;
use std::process::Command;

fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Checksum::default();
    sum.update(bytes);
    sum.finish()
}

#[test]
fn checksum_does_not_depend_on_the_pieces() {
    let bytes: Vec<u8> = (0..100).map(|n| (n * 7) as u8).collect();
    for length in 0..bytes.len() {
        let whole = checksum(&bytes[..length]);
        for cut in 0..=length {
            let mut sum = Checksum::default();
            sum.update(&bytes[..cut]);
            sum.update(&bytes[cut..length]);
            assert_eq!(sum.finish(), whole, "{length} bytes cut at {cut}");
        }
    }
}

#[test]
fn checksum_sees_every_byte_and_the_length() {
    let bytes = [3u8; 37];
    for place in 0..bytes.len() {
        let mut changed = bytes;
        changed[place] ^= 0x80;
        assert_ne!(checksum(&changed), checksum(&bytes), "byte {place}");
    }
    assert_ne!(checksum(&[0; 3]), checksum(&[0; 4]));
    assert_ne!(checksum(b""), checksum(&[0]));
}

fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("a/b")).unwrap();
    fs::write(
        root.path().join("a/one.h"),
        "spinlock_t a;\nint b;\n\tspinlock_t c, spinlock_t",
    )
    .unwrap();
    fs::write(root.path().join("a/b/two words.c"), "nothing\n").unwrap();
    fs::write(root.path().join("empty"), "").unwrap();
    fs::write(root.path().join("z.c"), "\nsspinlock_tt\n\n").unwrap();
    std::os::unix::fs::symlink("one.h", root.path().join("a/link.h")).unwrap();
    root
}

#[test]
fn finds_what_grep_finds() {
    let root = tree();
    let expected = Expectation::of_tree(root.path(), PATTERN).unwrap();
    let output = Command::new("grep")
        .args(["-rhaF", PATTERN, "."])
        .current_dir(root.path())
        .output()
        .expect("grep is installed");
    let mut found = Matches::default();
    output
        .stdout
        .strip_suffix(b"\n")
        .unwrap()
        .split(|b| *b == b'\n')
        .for_each(|l| found.add(l));
    assert_eq!(found, expected.matches);
    assert_eq!(found.lines, 3);
    assert_eq!(expected.files.len(), 4, "the symbolic link is not a file");
}

#[test]
fn text_form_survives_a_round_trip() {
    let root = tree();
    let expected = Expectation::of_tree(root.path(), PATTERN).unwrap();
    let text = expected.to_text();
    assert_eq!(Expectation::from_text(text.as_slice()).unwrap(), expected);
}

#[test]
fn malformed_text_is_refused() {
    let good = "vtmem-source 1\nspinlock_t\n3 00000000000000ff\n00000000000000aa 12 a/b c.h\n";
    assert!(Expectation::from_text(good.as_bytes()).is_ok());
    for bad in [
        "",
        "vtmem-source 2\nx\n3 ff\n",
        "vtmem-source 1\n",
        "vtmem-source 1\nx\n",
        "vtmem-source 1\nx\n3\n",
        "vtmem-source 1\nx\nthree ff\n",
        "vtmem-source 1\nx\n3 xyz\n",
        "vtmem-source 1\nx\n3 ff\nabc\n",
        "vtmem-source 1\nx\n3 ff\nff 12\n",
        "vtmem-source 1\nx\n3 ff\nff -1 a\n",
    ] {
        assert!(Expectation::from_text(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_tree_without_a_match_is_no_use() {
    let root = tree();
    assert!(Expectation::of_tree(root.path(), "not in there").is_err());
}
