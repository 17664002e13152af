use super::*;

struct Slab {
    hashes: Vec<u64>,
    next: Vec<u32>,
}

impl Links for Slab {
    fn hash(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    fn next(&self, slot: u32) -> u32 {
        self.next[slot as usize]
    }

    fn set_next(&mut self, slot: u32, next: u32) {
        self.next[slot as usize] = next;
    }
}

fn found(chains: &Chains, slab: &Slab, wanted: u32) -> bool {
    let mut slot = chains.first(slab.hash(wanted));
    while slot != NIL && slot != wanted {
        slot = slab.next(slot);
    }
    slot == wanted
}

#[test]
fn every_slot_is_found_while_the_table_grows_and_shrinks() {
    const SLOTS: u32 = 30_000;
    let mut slab = Slab {
        hashes: (0..SLOTS)
            .map(|slot| u64::from(slot % 19_000).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20)
            .collect(),
        next: vec![NIL; SLOTS as usize],
    };
    let mut chains = Chains::default();
    for slot in 0..SLOTS {
        assert!(!found(&chains, &slab, slot));
        chains.insert(&mut slab, slot);
        assert!(
            (0..=slot)
                .step_by(977)
                .all(|slot| found(&chains, &slab, slot))
        );
    }
    assert_eq!(chains.buckets, SLOTS as usize);
    assert!(chains.heads.len() > 3);
    for slot in (0..SLOTS).step_by(2) {
        chains.remove(&mut slab, slot);
    }
    for slot in 0..SLOTS {
        assert_eq!(found(&chains, &slab, slot), slot % 2 == 1);
    }
    for slot in (1..SLOTS).step_by(2) {
        chains.remove(&mut slab, slot);
    }
    assert_eq!(
        (chains.slots, chains.buckets, chains.heads.len()),
        (0, 1, 1)
    );
}

#[test]
fn a_moved_slot_is_found_at_its_new_place() {
    let mut slab = Slab {
        hashes: vec![5; 4],
        next: vec![NIL; 4],
    };
    let mut chains = Chains::default();
    for slot in 0..3 {
        chains.insert(&mut slab, slot);
    }
    for moved in [0, 1, 2] {
        let next = slab.next(moved);
        slab.set_next(3, next);
        chains.redirect(&mut slab, moved, 3);
        assert!(found(&chains, &slab, 3) && !found(&chains, &slab, moved));
        let next = slab.next(3);
        slab.set_next(moved, next);
        chains.redirect(&mut slab, 3, moved);
        assert!((0..3).all(|slot| found(&chains, &slab, slot)));
    }
}
