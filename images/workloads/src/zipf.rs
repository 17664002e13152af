//! Zipf-distributed choices: a few things are wanted often, most hardly ever.

use crate::random::Random;

/// Picks from `0..n` so that the k-th most popular item is wanted in proportion to 1 / k^exponent. Which items are
/// popular is itself random, so neighbours have nothing in common.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// Upper ends of the ranks' intervals.
    cumulative: Vec<f64>,
    item_of_rank: Vec<u32>,
}

impl Zipf {
    /// Prepares choices among `n` items (at least one).
    pub fn new(n: u32, exponent: f64, seed: u64) -> Self {
        let n = n.max(1);
        let mut sum = 0.0;
        let cumulative = (1..=n)
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        let mut item_of_rank: Vec<u32> = (0..n).collect();
        let mut random = Random::new(seed, u64::from(n));
        for last in (1..n as usize).rev() {
            item_of_rank.swap(last, random.below(last as u64 + 1) as usize);
        }
        Self {
            cumulative,
            item_of_rank,
        }
    }

    /// The next choice.
    pub fn pick(&self, random: &mut Random) -> u32 {
        let total = self.cumulative[self.cumulative.len() - 1];
        // 53 bits are what a double holds exactly.
        let point = (random.word() >> 11) as f64 / (1u64 << 53) as f64 * total;
        let rank = self.cumulative.partition_point(|end| *end <= point);
        self.item_of_rank[rank.min(self.item_of_rank.len() - 1)]
    }
}

#[cfg(test)]
#[path = "zipf_test.rs"]
mod tests;
