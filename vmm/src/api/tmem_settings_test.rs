use super::*;

fn patched(settings: &TmemSettings, patch: &str) -> TmemSettings {
    settings.patched(&serde_json::from_str(patch).expect(patch))
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let at_first = TmemSettings::new(1 << 30);
    let half = patched(&at_first, r#"{"size": "512M"}"#);
    assert_eq!(half, TmemSettings::new(512 << 20));
    let frozen = patched(&half, r#"{"frozen": true, "governor": {"minimum": "64M"}}"#);
    assert!(frozen.frozen);
    assert_eq!(frozen.size, half.size);
    let still = patched(&frozen, r#"{"admission": "always"}"#);
    assert_eq!(still.governor, frozen.governor);
    assert_eq!(patched(&still, r#"{"governor": null}"#).governor, None);
    assert_eq!(patched(&still, r#"{"size": null}"#), still);
    assert_eq!(patched(&still, "{}"), still);
}

#[test]
fn a_governor_keeps_within_the_size() {
    let governor = GovernorSettings {
        minimum: Bytes(1 << 30),
        ..GovernorSettings::default()
    };
    let settings = governor.settings(256 << 20);
    assert_eq!(settings.minimum, 256 << 20);
    assert_eq!(settings.maximum, 256 << 20);
    assert_eq!(settings.quiet, Settings::new(256 << 20).quiet);
}

#[test]
fn what_the_option_says_comes_back() {
    let config: TmemConfig = "size=64M,min=8M,poll=70us,admission=always"
        .parse()
        .expect("options");
    let settings = TmemSettings::from(&config);
    let again = TmemConfig::from(&settings);
    assert_eq!(again.size, config.size);
    assert_eq!(again.poll, config.poll);
    assert_eq!(again.device.admission, config.device.admission);
    assert_eq!(settings.governor.expect("a governor").minimum.0, 8 << 20);
}

#[test]
fn wrong_values_are_refused() {
    for wrong in [
        r#"{"size": 1, "poll_us": 10001}"#,
        r#"{"size": 1, "share": {"weight": 0}}"#,
        r#"{"size": 1, "governor": {"pressure_percent": 101}}"#,
        r#"{"size": 1, "admission": "never"}"#,
        r#"{"size": 1, "Size": 2}"#,
        r#"{}"#,
    ] {
        assert!(
            serde_json::from_str::<TmemSettings>(wrong).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn values_that_contradict_each_other_are_named() {
    for (settings, values) in [
        (
            r#"{"size": 9, "share": {"minimum": 7, "maximum": 5}}"#,
            ["7", "5"],
        ),
        (r#"{"size": 9, "share": {"minimum": 11}}"#, ["11", "9"]),
        (r#"{"size": 9, "governor": {"minimum": 10}}"#, ["10", "9"]),
        (
            r#"{"size": 9, "spill": {"path": "x", "size": "8M", "dirty": 10}}"#,
            ["10", "9"],
        ),
    ] {
        let settings: TmemSettings = serde_json::from_str(settings).expect("well-formed");
        let error = settings.check_new().expect_err("contradictory");
        for value in values {
            assert!(error.contains(&format!(" {value}")), "{error}");
        }
    }
    for settings in [
        r#"{"size": 0}"#,
        r#"{"size": 9, "share": {"minimum": 9, "maximum": 9}, "governor": {"minimum": 9}}"#,
        r#"{"size": 9, "share": {"maximum": 100}}"#,
        r#"{"size": 9, "spill": {"path": "x", "size": "8M", "dirty": 9}}"#,
    ] {
        let settings: TmemSettings = serde_json::from_str(settings).expect("well-formed");
        assert_eq!(settings.check_new(), Ok(()));
    }
}

#[test]
fn a_size_below_the_governors_minimum_is_no_patch() {
    let governed = patched(
        &TmemSettings::new(1 << 30),
        r#"{"governor": {"minimum": "512M"}}"#,
    );
    assert_eq!(governed.check(), Ok(()));
    assert!(patched(&governed, r#"{"size": "256M"}"#).check().is_err());
    let both = patched(
        &governed,
        r#"{"size": "256M", "governor": {"minimum": "64M"}}"#,
    );
    assert_eq!(both.check(), Ok(()));
}
