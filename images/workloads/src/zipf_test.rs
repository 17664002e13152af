use super::*;

fn picks(n: u32, exponent: f64, seed: u64, count: usize) -> Vec<u32> {
    let zipf = Zipf::new(n, exponent, seed);
    let mut random = Random::new(seed, 1);
    (0..count).map(|_| zipf.pick(&mut random)).collect()
}

#[test]
fn the_seed_decides_everything() {
    assert_eq!(picks(1000, 0.8, 7, 500), picks(1000, 0.8, 7, 500));
    assert_ne!(picks(1000, 0.8, 7, 500), picks(1000, 0.8, 8, 500));
    // These figures may not change: results of two versions would no longer be of the same work.
    assert_eq!(picks(16384, 0.6, 1, 6), GOLDEN);
}

const GOLDEN: [u32; 6] = [4194, 2307, 13353, 7103, 2355, 8109];

#[test]
fn follows_the_distribution() {
    let n = 100;
    let mut counts = vec![0u32; n as usize];
    for pick in picks(n, 1.0, 3, 200_000) {
        counts[pick as usize] += 1;
    }
    counts.sort_unstable_by(|a, b| b.cmp(a));
    // With exponent 1 over 100 items the first has 1/5.187 of all picks, the second half of that.
    assert!(
        (0.18..0.205).contains(&(f64::from(counts[0]) / 200_000.0)),
        "{}",
        counts[0]
    );
    assert!(
        (0.088..0.105).contains(&(f64::from(counts[1]) / 200_000.0)),
        "{}",
        counts[1]
    );
    assert!(counts[99] > 0);
}

#[test]
fn one_item_is_always_picked() {
    assert!(picks(1, 0.8, 1, 10).iter().all(|p| *p == 0));
    assert!(picks(0, 0.8, 1, 10).iter().all(|p| *p == 0));
}
