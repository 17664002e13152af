use super::*;

#[test]
fn what_kconfig_drops_is_noticed() {
    let wanted = "# why\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_N=8\n";
    let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=64\n";
    assert_eq!(refused(wanted, config), ["CONFIG_B=y", "CONFIG_N=8"]);
    assert!(refused(wanted, "CONFIG_A=y\nCONFIG_B=y\nCONFIG_N=8\n").is_empty());
}

#[test]
fn only_the_line_behind_the_mark_goes() {
    let text = "a\n\tx\nconfig F\n\tbool\n\tx\n\ty\nb\n\tx\n";
    let without = "a\n\tx\nconfig F\n\tbool\n\ty\nb\n\tx\n";
    assert_eq!(without_line_after(text, "config F\n", "\tx\n"), without);
    assert_eq!(without_line_after(text, "config G\n", "\tx\n"), text);
}

#[test]
fn the_configuration_has_no_option_twice() {
    let mut seen = std::collections::BTreeSet::new();
    for line in CONFIG.lines().filter(|line| line.starts_with("CONFIG_")) {
        let (name, value) = line.split_once('=').expect("NAME=value");
        assert!(seen.insert(name), "{name}");
        assert_ne!(
            value, "m",
            "{name}: the guest loads no module but the driver"
        );
    }
}
