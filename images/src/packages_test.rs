use super::*;

/// As `apt-cache show` prints it.
const SHOWN: &str = "\
Package: linux-headers-6.1.0-56-cloud-amd64
Source: linux
Version: 6.1.192-2
Installed-Size: 5104
Depends: linux-headers-6.1.0-56-common (= 6.1.192-2), linux-kbuild-6.1:any (>= 6.1.192-2), gcc-12 | gcc
Description: Header files
 Package: not-a-field
 .
 more text
SHA256: 0123

Package: busybox-static
Version: 1:1.35.0-4+b4
SHA256: 4567

Package: half
Version: 1

";

fn package(name: &str) -> Package {
    Package {
        name: name.to_owned(),
        version: "1:2.3-4".to_owned(),
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned(),
        depends: Vec::new(),
    }
}

fn packages() -> Packages {
    Packages {
        kernel: package("linux-image"),
        headers: ["flavour", "common", "kbuild"].map(package).to_vec(),
        busybox: package("busybox-static"),
        grep: GREP.map(package).to_vec(),
        source: package("linux-source"),
    }
}

#[test]
fn package_lists_are_understood() {
    let found = parse_stanzas(SHOWN);
    let names: Vec<_> = found.iter().map(|package| package.name.as_str()).collect();
    // The third lacks a digest: nothing to check its file against.
    assert_eq!(
        names,
        ["linux-headers-6.1.0-56-cloud-amd64", "busybox-static"]
    );
    assert_eq!(found[0].version, "6.1.192-2");
    assert_eq!(found[0].sha256, "0123");
    assert_eq!(
        found[0].depends,
        [
            "linux-headers-6.1.0-56-common",
            "linux-kbuild-6.1",
            "gcc-12"
        ]
    );
    assert_eq!(found[1].version, "1:1.35.0-4+b4");
    assert_eq!(found[1].depends, Vec::<String>::new());
}

#[test]
fn dependencies_are_found_by_prefix() {
    let headers = &parse_stanzas(SHOWN)[0];
    assert_eq!(
        depends_on(headers, "linux-kbuild-").expect("there"),
        "linux-kbuild-6.1"
    );
    let error = depends_on(headers, "linux-image-").expect_err("not there");
    assert!(error.to_string().contains("linux-image-"), "{error}");
}

#[test]
fn remembered_packages_are_read_back() {
    assert_eq!(from_text(&to_text(&packages())), Some(packages()));
}

#[test]
fn a_damaged_memory_is_no_memory() {
    let text = to_text(&packages());
    for (number, _) in text.lines().enumerate() {
        let without: Vec<_> = text
            .lines()
            .enumerate()
            .filter(|(other, _)| *other != number)
            .map(|(_, line)| line)
            .collect();
        assert_eq!(
            from_text(&without.join("\n")),
            None,
            "line {number} is missing"
        );
    }
    assert_eq!(from_text(""), None);
    assert_eq!(from_text(&text[..text.len() / 2]), None);
    assert_eq!(from_text(&text.replace(' ', "  ")), None);
}

#[test]
fn remembered_packages_need_no_lookup() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cache = Cache::open(Some(directory.path().to_owned())).expect("open");
    fs::write(cache.root().join(PINNED), to_text(&packages())).expect("write");
    let found = Apt::new(&cache).packages(false, &mut Silent);
    assert_eq!(found.expect("remembered"), packages());
    Apt::new(&cache).forget().expect("forgotten");
    assert!(!cache.root().join(PINNED).exists());
    Apt::new(&cache).forget().expect("nothing to forget");
}

#[test]
fn a_file_with_the_right_digest_is_taken() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("x_1.deb"), "abc").expect("write");
    accept(&package("x"), directory.path()).expect("the digest is that of abc");
    let taken = fs::read(directory.path().join("deb"));
    assert_eq!(taken.expect("renamed"), b"abc");
}

#[test]
fn a_file_with_another_digest_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("x_1.deb"), "abd").expect("write");
    let error = accept(&package("x"), directory.path()).expect_err("not abc");
    let message = error.to_string();
    assert!(message.contains("x 1:2.3-4"), "{message}");
    assert!(message.contains("--update"), "{message}");
    let left = fs::read_dir(directory.path()).expect("readable").count();
    assert_eq!(left, 0, "the wrong file is gone");
    let error = accept(&package("x"), directory.path()).expect_err("no file at all");
    assert!(error.to_string().contains("left no file"), "{error}");
}

#[test]
fn the_first_error_of_apt_is_the_reason() {
    let output = "W: something\nE: Failed to fetch http://x  404\nE: Some files failed\n";
    assert_eq!(
        reason(output).as_deref(),
        Some("Failed to fetch http://x  404")
    );
    assert_eq!(reason("W: only this\n"), None);
}

#[test]
fn missing_packages_come_with_the_command_that_installs_them() {
    let message = not_installed(vec!["gcc-12".to_owned(), "make".to_owned()]).to_string();
    assert_eq!(
        message,
        "the Debian packages gcc-12, make are needed to build the images; run: sudo apt-get update && \
         sudo apt-get install --no-install-recommends gcc-12 make"
    );
    let one = not_installed(vec!["make".to_owned()]).to_string();
    assert!(
        one.starts_with("the Debian package make is needed"),
        "{one}"
    );
}

#[test]
fn programs_that_are_there_need_nothing() {
    ensure_programs(&[("sh", "dash"), ("ls", "coreutils")], &mut Silent).expect("both there");
}
