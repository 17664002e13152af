use tmem_device::device::DeviceConfig;

use super::*;

#[test]
fn all_that_can_be_said() {
    let config = |size, poll: Option<u64>, admission| TmemConfig {
        size,
        minimum: None,
        poll: poll.map(Duration::from_micros),
        spill: None,
        device: DeviceConfig {
            admission,
            ..DeviceConfig::default()
        },
        record: None,
        access_platform: false,
    };
    for (said, expected) in [
        ("size=512M", config(512 << 20, None, Admission::Adaptive)),
        ("size=0,poll=0us", config(0, Some(0), Admission::Adaptive)),
        (
            "admission=always,size=4096",
            config(4096, None, Admission::Always),
        ),
        (
            "size=1G,admission=second-chance,poll=2ms",
            config(1 << 30, Some(2000), Admission::SecondChance),
        ),
        (
            "size=1G,min=64M",
            TmemConfig {
                minimum: Some(64 << 20),
                ..config(1 << 30, None, Admission::Adaptive)
            },
        ),
        (
            "size=1G,spill=/tmp/a=b,spill-size=8M",
            TmemConfig {
                spill: Some(SpillConfig {
                    disk: DiskConfig::new("/tmp/a=b", 8 << 20),
                    dirty: None,
                    ephemeral: false,
                }),
                ..config(1 << 30, None, Admission::Adaptive)
            },
        ),
        (
            "spill=/dev/x,spill-size=1G,spill-dirty=0,spill-cache,spill-overwrite,size=1G",
            TmemConfig {
                spill: Some(SpillConfig {
                    disk: DiskConfig {
                        overwrite: true,
                        ..DiskConfig::new("/dev/x", 1 << 30)
                    },
                    dirty: Some(0),
                    ephemeral: true,
                }),
                ..config(1 << 30, None, Admission::Adaptive)
            },
        ),
    ] {
        assert_eq!(said.parse(), Ok(expected), "{said}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (said, expected) in [
        ("", "unknown tmem option ''"),
        ("512M", "unknown tmem option '512M'"),
        ("size=", "not a size"),
        ("poll=1us", "give size="),
        ("size=1M,size=2M", "'size' is given twice"),
        (
            "size=1M,min=2M",
            "minimum of 2097152 bytes is above the pool's size of 1048576",
        ),
        ("size=1M,min=x", "not a size"),
        ("size=1M,poll=1", "not a time"),
        ("size=1M,poll=11ms", "10ms at most"),
        ("size=1M,admission=never", "not 'never'"),
        ("size=1M,spill-size=8M", "spill-size needs spill=PATH"),
        ("size=1M,spill=", "give spill=PATH"),
        ("size=1M,spill=x", "needs spill-size="),
        ("size=1M,spill=x,spill-size=7M", "8M at least"),
        ("size=1M,spill=x,spill-size=8M,spill-cache=1", "no value"),
        ("size=1M,cache=none", "unknown tmem option 'cache'"),
    ] {
        let message = said.parse::<TmemConfig>().expect_err(said);
        assert!(message.contains(expected), "{said}: {message}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    assert!(parse_settings(r#"{"size": "1M", "share": {"minimum": "1M"}}"#).is_ok());
    let error = parse_settings(r#"{"size": "1M", "share": {"minimum": "2M"}}"#);
    let error = error.expect_err("more than there is");
    assert!(
        error.contains("2097152") && error.contains("1048576"),
        "{error}"
    );
}

#[test]
fn faults() {
    for (said, expected) in [
        ("drop-events", EventFault::Drop),
        ("hold-events=7000", EventFault::Hold(7000)),
    ] {
        assert_eq!(parse_fault(said), Ok(expected));
    }
    for wrong in ["", "hold-events", "hold-events=", "hold-events=-1", "none"] {
        assert!(parse_fault(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn more_dirty_pages_than_the_pool_has_are_refused_and_both_named() {
    let spill = "spill=x,spill-size=8M";
    let parse = |dirty: &str| format!("size=64M,{spill},spill-dirty={dirty}").parse::<TmemConfig>();
    let error = parse("65M").expect_err("contradictory");
    assert!(error.contains(&(65 << 20).to_string()), "{error}");
    assert!(error.contains(&(64 << 20).to_string()), "{error}");
    assert!(parse("64M").is_ok());
}
