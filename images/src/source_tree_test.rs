use super::*;

/// Files of 100 bytes.
fn tree(names: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in names {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("create");
        fs::write(path, [b'x'; 100]).expect("write");
    }
    directory
}

fn chosen(root: &Path, parts: &[&str], bytes: u64) -> (u64, Vec<String>) {
    let (mut total, mut chosen) = (0, BTreeSet::new());
    for part in parts {
        take(root, Path::new(part), bytes, &mut total, &mut chosen).expect("readable");
    }
    let names = chosen.iter().map(|path| path.display().to_string());
    (total, names.collect())
}

#[test]
fn files_are_taken_by_name_until_there_is_enough() {
    let root = tree(&["mm/z.c", "mm/a.c", "mm/m/b.c", "fs/a.c"]);
    let take = |bytes| chosen(root.path(), &["mm", "fs"], bytes);
    assert_eq!(take(0), (0, vec![]));
    assert_eq!(take(1), (100, vec!["mm/a.c".to_owned()]));
    assert_eq!(take(200).1, ["mm/a.c", "mm/m/b.c"]);
    assert_eq!(take(301).1, ["fs/a.c", "mm/a.c", "mm/m/b.c", "mm/z.c"]);
    assert_eq!(take(1000).0, 400);
}

#[test]
fn parts_within_parts_count_once() {
    let root = tree(&["drivers/net/a.c", "drivers/net/b.c", "drivers/x.c"]);
    let (total, names) = chosen(root.path(), &["drivers/net", "drivers"], 1000);
    assert_eq!(total, 300);
    assert_eq!(names, ["drivers/net/a.c", "drivers/net/b.c", "drivers/x.c"]);
}

#[test]
fn links_are_left_out() {
    let root = tree(&["mm/a.c"]);
    std::os::unix::fs::symlink("a.c", root.path().join("mm/b.c")).expect("link");
    std::os::unix::fs::symlink("..", root.path().join("mm/up")).expect("link");
    assert_eq!(chosen(root.path(), &["mm"], 1000).1, ["mm/a.c"]);
}
