use super::*;
use crate::command::find_program;

/// Whether this machine can make and read ext4 images.
fn has_tools() -> bool {
    let has = ["mke2fs", "debugfs", "e2fsck"]
        .iter()
        .all(|name| find_program(name).is_some());
    if !has {
        eprintln!("no e2fsprogs here: data disks were not tested");
    }
    has
}

fn sample_tree(root: &Path) {
    let files: [(&str, Vec<u8>); 5] = [
        ("source/mm/slab.c", b"spinlock_t lock;\n".to_vec()),
        ("source/mm/a file.c", b"a name with a space".to_vec()),
        ("source/empty", Vec::new()),
        (
            "reread/00/0000.dat",
            (0..300_000).map(|i| (i / 7) as u8).collect(),
        ),
        ("source.expect", vec![0; 5000]),
    ];
    for (name, content) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("create");
        fs::write(path, content).expect("write");
    }
}

fn debugfs(image: &Path, request: &str) -> String {
    let printed = run(program("debugfs").args(["-R", request]).arg(image));
    printed.expect("debugfs runs").stdout
}

#[test]
fn the_disk_holds_the_tree() {
    if !has_tools() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    // A quotation mark above the tree must not matter.
    let tree = directory.path().join("a \"tree\"");
    sample_tree(&tree);
    let image = directory.path().join("data.img");
    make_ext4(&tree, &image).expect("made");

    let length = fs::metadata(&image).expect("there").len();
    assert!(length.is_multiple_of(1 << 20), "{length}");
    assert!(!image.with_extension("script").exists());
    run(program("e2fsck").args(["-f", "-n"]).arg(&image)).expect("a sound file system");
    for name in [
        "source/mm/slab.c",
        "source/empty",
        "reread/00/0000.dat",
        "source.expect",
    ] {
        let copy = directory.path().join("copy");
        debugfs(&image, &format!("dump /{name} {}", copy.display()));
        let (copy, original) = (fs::read(&copy), fs::read(tree.join(name)));
        assert!(copy.expect("dumped") == original.expect("there"), "{name}");
    }
    let list = debugfs(&image, "ls -p /source/mm");
    assert!(list.contains("/a file.c/"), "{list}");
}

#[test]
fn equal_trees_make_equal_disks() {
    if !has_tools() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let make = |name: &str| {
        let tree = directory.path().join(name);
        sample_tree(&tree);
        let image = tree.with_extension("img");
        make_ext4(&tree, &image).expect("made");
        KeyBuilder::file_digest(&image).expect("there")
    };
    assert_eq!(make("one"), make("the-other-one"));
}

#[test]
fn names_that_debugfs_cannot_take_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("a\nb"), "x").expect("write");
    let error = Listing::default().add(directory.path(), Path::new(""));
    let message = error.expect_err("a newline").to_string();
    assert!(
        message.contains("cannot go onto the data disk"),
        "{message}"
    );
}

#[test]
fn generated_files_are_what_the_workloads_expect() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = DataDiskSpec {
        guest_mem: 1 << 20,
        seed: 7,
    };
    generate(&spec, directory.path(), &mut crate::progress::Silent).expect("written");
    let mut count = 0;
    for file in dataset::files(spec.guest_mem) {
        let content = fs::read(directory.path().join(&file.path)).expect("there");
        assert_eq!(content.len(), file.pages as usize * PAGE_SIZE);
        for page in [0, file.pages - 1] {
            let mut expected = [0; PAGE_SIZE];
            fill_page(spec.seed, file.file, page, &mut expected);
            let start = page as usize * PAGE_SIZE;
            assert!(
                content[start..start + PAGE_SIZE] == expected,
                "{}",
                file.path
            );
        }
        count += 1;
    }
    assert!(count >= 3);
}

#[test]
fn there_is_more_source_than_the_guest_can_cache() {
    let spec = DataDiskSpec {
        guest_mem: 128 << 20,
        seed: 1,
    };
    assert_eq!(spec.source_bytes(), 160 << 20);
}
