use proptest::prelude::*;

use super::*;

fn spot() -> impl Strategy<Value = Spot> {
    (any::<u8>(), 1u64..1 << Handle::BITS).prop_map(|(tier, bits)| Spot {
        tier,
        handle: Handle::from_bits(bits).expect("not 0, and short enough"),
    })
}

proptest! {
    #[test]
    fn what_is_packed_comes_back(
        spot in spot(), ephemeral in any::<bool>(), segment in any::<u32>(), record in any::<u16>()
    ) {
        prop_assert_eq!(Spot::unpack(spot.pack()), Some(spot));
        let kind = if ephemeral { PoolKind::Ephemeral } else { PoolKind::Persistent };
        for at in [At::Below(spot, kind), At::Here(Place { segment, record })] {
            prop_assert_eq!(At::from(PackedAt::from(at)), at);
        }
    }
}

#[test]
fn a_place_that_was_never_packed_is_no_spot() {
    assert_eq!(Spot::unpack([0; 6]), None);
    assert_eq!(size_of::<PackedAt>(), 8);
}
