//! Pages that a tier below the pool has: which tier, and as which record.

use super::PoolKind;
use super::entries::Place;
use crate::tier::Handle;

/// Tiers that a pool may have at most.
pub(super) const MAX_TIERS: usize = 1 << 8;

/// A record in one of the pool's tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// The tier's number.
    pub tier: u8,
    pub handle: Handle,
}

/// A spot as segments keep it, one for each page that a tier has too.
pub(super) type PackedSpot = [u8; 6];

impl Spot {
    pub fn pack(self) -> PackedSpot {
        let [a, b, c, d, e, ..] = self.handle.bits().to_le_bytes();
        [a, b, c, d, e, self.tier]
    }

    /// `None` if it was not packed by [`Spot::pack`].
    pub fn unpack([a, b, c, d, e, tier]: PackedSpot) -> Option<Self> {
        let handle = Handle::from_bits(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]))?;
        Some(Spot { tier, handle })
    }
}

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// In memory; perhaps a tier has it too, which its segment knows.
    Here(Place),
    /// In a tier alone. The kind is that of the page's pool.
    Below(Spot, PoolKind),
}

/// [`At`], as entries keep it: 8 bytes that begin at a multiple of 4.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedAt {
    /// The segment's number, or the lower 32 bits of the handle.
    low: u32,
    /// The record's number; or [`BELOW`], perhaps [`EPHEMERAL`], the tier's number and the upper 8 bits of the handle.
    high: u32,
}

const BELOW: u32 = 1 << 31;
const EPHEMERAL: u32 = 1 << 30;
const TIER_SHIFT: u32 = 8;

impl From<At> for PackedAt {
    fn from(at: At) -> Self {
        match at {
            At::Here(place) => PackedAt {
                low: place.segment,
                high: place.record.into(),
            },
            At::Below(spot, kind) => {
                let bits = spot.handle.bits();
                let kind = match kind {
                    PoolKind::Ephemeral => EPHEMERAL,
                    PoolKind::Persistent => 0,
                };
                PackedAt {
                    low: bits as u32,
                    high: BELOW | kind | u32::from(spot.tier) << TIER_SHIFT | (bits >> 32) as u32,
                }
            }
        }
    }
}

impl From<PackedAt> for At {
    fn from(PackedAt { low, high }: PackedAt) -> Self {
        if high & BELOW == 0 {
            return At::Here(Place {
                segment: low,
                record: high as u16,
            });
        }
        let bits = u64::from(high & 0xff) << 32 | u64::from(low);
        let spot = Spot {
            tier: (high >> TIER_SHIFT) as u8,
            handle: Handle::from_bits(bits).expect("packed from a handle"),
        };
        let kind = match high & EPHEMERAL {
            0 => PoolKind::Persistent,
            _ => PoolKind::Ephemeral,
        };
        At::Below(spot, kind)
    }
}

const _: () = assert!(Handle::BITS == 40 && MAX_TIERS <= 1 << 8);

#[cfg(test)]
#[path = "below_test.rs"]
mod tests;
