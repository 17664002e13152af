use super::*;

#[test]
fn shown() {
    assert_eq!(count(0), "0");
    assert_eq!(count(999), "999");
    assert_eq!(count(1_234_567), "1,234,567");
    assert_eq!(bytes(0), "0 B");
    assert_eq!(bytes(1023), "1023 B");
    assert_eq!(bytes(128 << 20), "128 MiB");
    assert_eq!(bytes(1_572_864), "1.5 MiB");
    assert_eq!(bytes(u64::MAX), "16777216 TiB");
    assert_eq!(seconds(0.0), "0 ms");
    assert_eq!(seconds(0.25), "250 ms");
    assert_eq!(seconds(1.234), "1.23 s");
    assert_eq!(seconds(123.4), "123 s");
}
