use super::*;
use std::collections::BTreeSet;

#[test]
fn the_driver_has_exactly_these() {
    let sources = [
        include_str!("../../../guest-driver/compat/pagecache-6.1.c"),
        include_str!("../../../guest-driver/cleancache.c"),
        include_str!("../../../guest-driver/swapload.c"),
        include_str!("../../../guest-driver/swaphome.c"),
    ];
    let in_driver: BTreeSet<_> = sources
        .iter()
        .flat_map(|source| source.split("vtmem_left_out(\"").skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    let here: BTreeSet<_> = all().collect();
    assert_eq!(here, in_driver);
}
