use super::*;

#[test]
fn available_memory_is_found_and_nonsense_is_not_believed() {
    let text = "MemTotal:       24588284 kB\nMemFree:  1 kB\nMemAvailable:   23570364 kB\n";
    assert_eq!(field(text, "MemAvailable:"), Some(23_570_364 * 1024));
    for nonsense in [
        "",
        "MemAvailable:",
        "MemAvailable: kB",
        "MemAvailable: -1 kB",
        "MemAvailable: 5 MB",
    ] {
        assert_eq!(field(nonsense, "MemAvailable:"), None, "{nonsense}");
    }
    assert_eq!(
        field("MemAvailable: 18446744073709551615 kB", "MemAvailable:"),
        None
    );
    let meminfo = Meminfo::open(Path::new("/proc")).expect("on Linux");
    for _ in 0..2 {
        assert!(meminfo.available().is_some_and(|bytes| bytes > 1 << 20));
    }
    assert!(Meminfo::open(Path::new("/nowhere")).is_err());
}
