use super::*;

const UNIFIED: &str = "22 1 0:20 / /proc rw - proc proc rw\n\
                       30 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
const SPLIT: &str = "30 22 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                     31 22 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                     32 22 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";

#[test]
fn finds_version_2() {
    let found = own_cgroup(UNIFIED, "0::/user.slice/session-1.scope\n");
    let path = PathBuf::from("/sys/fs/cgroup/user.slice/session-1.scope");
    assert_eq!(found, Some((Version::V2, path)));
    assert_eq!(
        own_cgroup(UNIFIED, "0::/\n"),
        Some((Version::V2, "/sys/fs/cgroup".into()))
    );
}

#[test]
fn prefers_version_1_where_that_has_the_controller() {
    let found = own_cgroup(
        SPLIT,
        "5:cpu,cpuacct:/\n4:memory:/docker/abc/x\n0::/docker/abc\n",
    );
    assert_eq!(found, Some((Version::V1, "/sys/fs/cgroup/memory/x".into())));
}

#[test]
fn nothing_usable_is_no_cgroup() {
    assert_eq!(own_cgroup("", "0::/\n"), None);
    assert_eq!(own_cgroup(UNIFIED, ""), None);
    assert_eq!(own_cgroup("garbage\n1 2 - \n", "x\n"), None);
    // A namespace whose root is elsewhere: nothing below the mount is ours.
    assert_eq!(own_cgroup(UNIFIED, "0::/../other\n"), None);
}

#[test]
fn a_directory_without_controller_is_refused_and_removed() {
    let parent = tempfile::tempdir().unwrap();
    assert!(MemoryCgroup::create_in(parent.path(), Version::V2, "x", 1 << 20).is_err());
    assert!(!parent.path().join("x").exists());
}
