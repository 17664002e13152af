use super::*;

#[test]
fn sizes() {
    assert_eq!(parse_size("128M"), Ok(128 << 20));
    assert_eq!(parse_size("4096"), Ok(4096));
    assert_eq!(parse_size("2GiB"), Ok(2 << 30));
    for bad in ["", "M", "1.5G", "-1", "12X", "99999999T", "1 M", "1Mé"] {
        assert!(parse_size(bad).unwrap_err().contains("128M"), "{bad}");
    }
}

#[test]
fn durations() {
    assert_eq!(parse_duration("100us"), Ok(Duration::from_micros(100)));
    assert_eq!(parse_duration("0ns"), Ok(Duration::ZERO));
    for bad in ["", "100", "us", "1.5ms", "-1s", "99999999999999s"] {
        assert!(parse_duration(bad).is_err(), "{bad}");
    }
}

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
