use clap::ValueEnum as _;

use super::*;

#[test]
fn names_are_those_of_the_command_line_and_each_switches_something_else_off() {
    for policy in Policy::ALL {
        let value = policy.to_possible_value().expect("none is hidden");
        assert_eq!(value.get_name(), policy.name());
        assert_eq!(Policy::from_name(policy.name()), Some(policy));
        for other in Policy::ALL {
            let same = policy.driver_arguments() == other.driver_arguments();
            assert_eq!(same, policy == other);
        }
    }
    assert_eq!(Policy::value_variants(), Policy::ALL);
}

#[test]
fn a_variant_says_what_it_is() {
    assert_eq!(Variant::from(Mode::None).to_string(), "none");
    let variant = Variant::without(Policy::NoWindows);
    assert_eq!(variant.to_string(), "tmem with no-windows");
    assert_eq!((variant.mode, variant.label()), (Mode::Tmem, "no-windows"));
}
