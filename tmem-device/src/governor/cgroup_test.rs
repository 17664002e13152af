use super::*;

const MIB: u64 = 1 << 20;

/// Files of a test, by path.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            let text = text.replace("@", &directory.path().display().to_string());
            fs::write(path, text).expect("a file");
        }
        Files(directory)
    }

    fn find(&self) -> Option<Cgroup> {
        Cgroup::find(&self.0.path().join("self")).expect("lists of cgroups and mounts")
    }
}

const V1: [(&str, &str); 2] = [
    ("self/cgroup", "5:cpu:/x\n4:memory:/a/b\n0::/y\n"),
    (
        "self/mountinfo",
        "29 20 0:25 / @/sys/cpu rw - cgroup cgroup rw,cpu\n30 20 0:26 / @/sys/memory rw shared:9 - cgroup cgroup rw,memory\n31 20 0:27 / @/sys/unified rw - cgroup2 cgroup2 rw\n",
    ),
];

const V2: [(&str, &str); 2] = [
    ("self/cgroup", "0::/a/b\n"),
    (
        "self/mountinfo",
        "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 20 0:26 / @/sys rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
    ),
];

#[test]
fn version_1_counts_what_can_be_taken_as_available() {
    let own = [
        ("sys/memory/a/b/memory.limit_in_bytes", "536870912\n"),
        ("sys/memory/a/b/memory.usage_in_bytes", "419430400\n"),
        (
            "sys/memory/a/b/memory.stat",
            "inactive_file 1\ntotal_inactive_file 104857600\ntotal_active_file 1048576\n",
        ),
        (
            "sys/memory/a/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
        ("sys/memory/a/memory.usage_in_bytes", "1\n"),
    ];
    let files = Files::new(&[&V1[..], &own].concat());
    let cgroup = files.find().expect("it is there");
    assert_eq!(cgroup.available(), Some((512 - 400 + 100 + 1) * MIB));
}

#[test]
fn version_2_knows_two_limits_and_those_above() {
    let own = [
        ("sys/a/b/memory.max", "max\n"),
        ("sys/a/b/memory.high", "1073741824\n"),
        ("sys/a/b/memory.current", "524288000\n"),
        (
            "sys/a/b/memory.stat",
            "anon 5\ninactive_file 1048576\nactive_file 0\n",
        ),
        ("sys/a/memory.max", "629145600\n"),
        ("sys/a/memory.high", "max\n"),
        ("sys/a/memory.current", "576716800\n"),
    ];
    let files = Files::new(&[&V2[..], &own].concat());
    assert_eq!(
        files.find().and_then(|cgroup| cgroup.available()),
        Some(50 * MIB)
    );
}

#[test]
fn without_a_limit_nothing_is_known() {
    let own = [
        ("sys/a/b/memory.max", "max\n"),
        ("sys/a/b/memory.current", "524288000\n"),
    ];
    let files = Files::new(&[&V2[..], &own].concat());
    assert_eq!(files.find().and_then(|cgroup| cgroup.available()), None);
    let files = Files::new(&[V2[1]]);
    let unknown = Cgroup::find(&files.0.path().join("self"));
    assert!(
        unknown.is_err(),
        "nobody knows, which is not: there is none"
    );
    let files = Files::new(&[V2[0], ("self/mountinfo", "nonsense\n1 2 3\n\n - \n")]);
    assert_eq!(files.find(), None);
}

/// A container sees its own cgroup as the root, or a path from outside.
#[test]
fn in_a_container_the_topmost_that_can_be_seen_counts() {
    for own in ["0::/\n", "0::/../..\n", "0::/docker/5f\n", "0::/no/such\n"] {
        let files = Files::new(&[
            ("self/cgroup", own),
            (
                "self/mountinfo",
                "30 20 0:26 /docker/5f @/sys rw - cgroup2 cgroup2 rw\n",
            ),
            ("sys/memory.max", "104857600"),
            ("sys/memory.current", "1048576"),
        ]);
        assert_eq!(
            files.find().and_then(|cgroup| cgroup.available()),
            Some(99 * MIB),
            "{own}"
        );
    }
}

#[test]
fn more_in_use_than_allowed_is_nothing_available() {
    let own = [
        ("sys/a/b/memory.max", "1000\n"),
        ("sys/a/b/memory.current", "5000\n"),
        (
            "sys/a/b/memory.stat",
            "inactive_file 18446744073709551615\nactive_file x\n",
        ),
    ];
    let files = Files::new(&[&V2[..], &own].concat());
    // What cannot be is not believed beyond the limit.
    assert_eq!(
        files.find().and_then(|cgroup| cgroup.available()),
        Some(1000)
    );
}
