use super::*;

#[test]
fn reads_the_files_and_says_what_it_read() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("misses_local", "12\n");
    write("flushes_local", "3\n");
    write("puts_unworthy", "400\n");
    assert_eq!(
        Counters::read_from(directory.path()),
        None,
        "one is missing"
    );
    write("drains", "0\n");
    write("gets_ahead", "7\n");
    let counters = Counters::read_from(directory.path()).unwrap();
    assert_eq!(
        counters.line(16),
        r#"vtmem-driver: {"mark":16,"misses_local":12,"flushes_local":3,"puts_unworthy":400,"gets_ahead":7,"drains":0}"#
    );
    let later = Counters {
        misses_local: 20,
        ..counters
    };
    let since = Counters {
        misses_local: 8,
        ..Counters::default()
    };
    assert_eq!(later.since(&counters), Some(since));
    assert_eq!(counters.since(&later), None, "backwards");
}
