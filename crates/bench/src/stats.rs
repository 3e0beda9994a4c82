//! Quantiles of samples in groups, and intervals by drawing the groups anew.

use serde::Serialize;

/// Times the groups are drawn anew for an interval.
const DRAWS: usize = 1000;
const SEED: u64 = 1;

/// A figure with the interval that holds it with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) figure: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Samples that came in groups, such as one for each triple.
pub(crate) struct Pool {
    /// In order; each with its group.
    samples: Vec<(u64, usize)>,
    /// Samples in each group.
    sizes: Vec<usize>,
}

impl Pool {
    /// Of the samples of each group, which may come in parts with other groups' between them.
    pub(crate) fn new<'a>(groups: usize, parts: impl Iterator<Item = (usize, &'a [u64])>) -> Self {
        let mut sizes = vec![0; groups];
        let mut samples = Vec::new();
        for (group, part) in parts {
            sizes[group] += part.len();
            samples.extend(part.iter().map(|&sample| (sample, group)));
        }
        samples.sort_unstable();
        Self { samples, sizes }
    }

    /// The least sample that is no less than a share `q` of all, with each group counted
    /// `weights[group]` times; `None` if that leaves no sample.
    pub(crate) fn quantile(&self, weights: &[usize], q: f64) -> Option<u64> {
        let total: usize = self.sizes.iter().zip(weights).map(|(n, w)| n * w).sum();
        // Samples that may be greater; a share of a count is within it.
        let mut above = total
            - ((q * total as f64).ceil() as usize)
                .clamp(1, total.max(1))
                .min(total);
        for &(sample, group) in self.samples.iter().rev() {
            let weight = weights[group];
            if weight > above {
                return Some(sample);
            }
            above -= weight;
        }
        None
    }

    /// The share of samples over `limit`, with each group counted `weights[group]` times.
    pub(crate) fn share_over(&self, weights: &[usize], limit: u64) -> f64 {
        let total: usize = self.sizes.iter().zip(weights).map(|(n, w)| n * w).sum();
        let first = self.samples.partition_point(|&(sample, _)| sample <= limit);
        let over: usize = self.samples[first..].iter().map(|s| weights[s.1]).sum();
        over as f64 / total as f64
    }

    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }
}

/// The `figure` of groups that count once each, with the interval of the same figure when as many
/// groups are drawn from them at random, some more than once. `figure` takes how often each
/// group counts.
pub(crate) fn interval(groups: usize, figure: impl Fn(&[usize]) -> f64) -> Interval {
    let mut chance = Chance(SEED);
    let mut drawn: Vec<_> = (0..DRAWS)
        .map(|_| {
            let mut weights = vec![0; groups];
            for _ in 0..groups {
                weights[chance.below(groups)] += 1;
            }
            figure(&weights)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    Interval {
        figure: figure(&vec![1; groups]),
        low: drawn[DRAWS / 40],
        high: drawn[DRAWS - 1 - DRAWS / 40],
    }
}

/// The mean of `values`, each counted `weights` times.
pub(crate) fn mean(values: impl Iterator<Item = f64>, weights: &[usize]) -> f64 {
    let (sum, count) = values
        .zip(weights)
        .fold((0.0, 0), |(sum, count), (value, &weight)| {
            (sum + value * weight as f64, count + weight)
        });
    sum / count as f64
}

/// The middle one; the mean of the two in the middle of an even number. There is at least one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    f64::midpoint(low, high)
}

/// The order of `legs` legs, an even number, in round `round`: over `legs` rounds each leg comes
/// once at each place, and once right after each other one (a Williams square), so that neither
/// drift nor what a leg leaves behind favours any.
pub(crate) fn order(round: usize, legs: usize) -> Vec<usize> {
    (0..legs)
        .map(|place| {
            let first = if place % 2 == 1 {
                place.div_ceil(2)
            } else {
                (legs - place / 2) % legs
            };
            (first + round) % legs
        })
        .collect()
}

/// Numbers that look random and are the same each time (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The high half of a product of 64 bits each is under `limit`.
        ((u128::from(z) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(groups: &[&[u64]]) -> Pool {
        Pool::new(groups.len(), groups.iter().copied().enumerate())
    }

    #[test]
    fn quantiles_are_samples_at_their_rank() {
        let hundred: Vec<u64> = (1..=100).rev().collect();
        let pool = pool(&[&hundred]);
        let check = |q, expected| assert_eq!(pool.quantile(&[1], q), Some(expected), "{q}");
        check(0.0, 1);
        check(0.01, 1);
        check(0.5, 50);
        check(0.501, 51);
        check(0.99, 99);
        check(1.0, 100);
    }

    #[test]
    fn a_group_counts_as_often_as_it_was_drawn() {
        let pool = pool(&[&[1, 1, 1], &[5], &[9, 9]]);
        let check = |weights: &[usize], q, expected| {
            assert_eq!(pool.quantile(weights, q), expected, "{weights:?} {q}");
        };
        check(&[1, 1, 1], 0.5, Some(1));
        check(&[0, 1, 1], 0.5, Some(9));
        check(&[0, 3, 1], 0.5, Some(5));
        check(&[0, 3, 1], 0.61, Some(9));
        check(&[0, 0, 0], 0.5, None);
        assert_eq!(pool.share_over(&[1, 1, 1], 5), 2.0 / 6.0);
        assert_eq!(pool.share_over(&[1, 0, 1], 4), 2.0 / 5.0);
        assert_eq!(pool.share_over(&[1, 2, 0], 9), 0.0);
    }

    #[test]
    fn weighted_quantiles_are_those_of_the_samples_written_out() {
        let groups: [&[u64]; 3] = [&[3, 8, 8, 20], &[1, 30], &[7, 9, 11, 13, 15]];
        let pool = pool(&groups);
        for weights in [[1, 1, 1], [2, 0, 1], [0, 3, 0], [1, 5, 2]] {
            let mut all: Vec<u64> = Vec::new();
            for (group, &weight) in groups.iter().zip(&weights) {
                (0..weight).for_each(|_| all.extend(*group));
            }
            all.sort_unstable();
            for percent in 1..=100 {
                let q = f64::from(percent) / 100.0;
                let rank = (q * all.len() as f64).ceil() as usize;
                let found = pool.quantile(&weights, q);
                assert_eq!(found, Some(all[rank - 1]), "{weights:?} {q}");
            }
        }
    }

    #[test]
    fn an_interval_is_as_wide_as_the_groups_differ() {
        let check = |values: &[f64], low: f64, high: f64| {
            let found = interval(values.len(), |weights| {
                mean(values.iter().copied(), weights)
            });
            assert!(
                (found.low - low).abs() < 0.15 && (found.high - high).abs() < 0.15,
                "{found:?}"
            );
            assert!(found.low <= found.figure && found.figure <= found.high);
        };
        check(&[5.0; 20], 5.0, 5.0);
        // A mean of 100 that are 1 apart, half of each: a standard error of 0.05.
        let halves: Vec<_> = (0..100).map(|n| f64::from(n % 2)).collect();
        check(&halves, 0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05);
        check(&[7.0], 7.0, 7.0);
    }

    #[test]
    fn an_interval_is_the_same_each_time() {
        let values = [1.0, 4.0, 2.0, 8.0];
        let once = || interval(4, |weights| mean(values.iter().copied(), weights));
        assert_eq!(once(), once());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    #[test]
    fn over_as_many_rounds_as_legs_each_comes_once_at_each_place_and_after_each_other() {
        for legs in [2, 4, 6, 12] {
            let mut places = std::collections::BTreeSet::new();
            let mut follows = std::collections::BTreeSet::new();
            for round in 0..legs {
                let order = order(round, legs);
                places.extend(order.iter().copied().enumerate());
                follows.extend(order.windows(2).map(|pair| (pair[0], pair[1])));
            }
            assert_eq!(places.len(), legs * legs);
            assert_eq!(follows.len(), legs * (legs - 1));
        }
    }
}
