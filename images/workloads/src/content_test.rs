use super::*;
use std::collections::HashSet;

fn page(seed: u64, file: u32, number: u32) -> [u8; PAGE_SIZE] {
    let mut out = [0xa5; PAGE_SIZE];
    fill_page(seed, file, number, &mut out);
    out
}

#[test]
fn compresses_about_two_to_one() {
    let pages = 4000;
    let sizes: Vec<usize> = (0..pages)
        .map(|n| lz4_flex::block::compress(&page(7, n / 256, n % 256)).len())
        .collect();
    let ratio = (pages as usize * PAGE_SIZE) as f64 / sizes.iter().sum::<usize>() as f64;
    assert!((1.8..2.2).contains(&ratio), "ratio {ratio}");
    // Real files have pages of every kind.
    assert!(
        sizes.iter().any(|s| *s < PAGE_SIZE * 3 / 10),
        "no page compresses well"
    );
    assert!(
        sizes.iter().any(|s| *s > PAGE_SIZE * 8 / 10),
        "no page compresses badly"
    );
}

#[test]
fn no_two_pages_are_equal() {
    let mut seen = HashSet::new();
    for file in 0..64 {
        for number in 0..256 {
            assert!(
                seen.insert(page(1, file, number)),
                "file {file} page {number}"
            );
        }
    }
    assert_ne!(page(1, 3, 4), page(2, 3, 4), "the seed matters");
}

#[test]
fn is_the_same_every_time() {
    assert_eq!(page(1, 2, 3), page(1, 2, 3));
    let sum = page(1, 2, 3).iter().fold(0u64, |sum, b| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*b))
    });
    assert_eq!(
        sum, GOLDEN,
        "data disks that were built earlier would no longer verify"
    );
}

/// A hash of page (1, 2, 3).
const GOLDEN: u64 = 14_990_938_835_117_021_272;

#[test]
fn every_byte_counts() {
    let good = page(9, 1, 1);
    assert_eq!(corrupt_bytes(9, 1, 1, &good), 0);
    for place in 0..PAGE_SIZE {
        let mut bad = good;
        bad[place] ^= 1;
        assert_eq!(corrupt_bytes(9, 1, 1, &bad), 1, "byte {place}");
    }
    assert!(corrupt_bytes(9, 1, 2, &good) > PAGE_SIZE as u64 / 2);
}
