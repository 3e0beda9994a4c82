//! The logits of the tokens that may be chosen, and finding the likeliest without sorting them or copying
//! them: a vocabulary has up to 262,144, and the model waits for each choice.

use std::cmp::Ordering;

use crate::constraint::TokenSet;

/// Logits in a block.
const BLOCK: usize = 64;
/// Logits that are looked at side by side.
const LANES: usize = 8;

/// A token that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) logit: f32,
}

/// The memory of a [`Pool`], kept from choice to choice.
#[derive(Debug, Default)]
pub(super) struct PoolMemory {
    ids: Vec<u32>,
    logits: Vec<f32>,
    greatest: Vec<f32>,
    sorted: Vec<f32>,
}

/// See the module. None of the logits is NaN.
pub(super) struct Pool<'a> {
    logits: &'a [f32],
    /// The tokens that they are of, where those are not all in order.
    ids: Option<&'a [u32]>,
    /// The greatest of each block.
    greatest: &'a [f32],
    /// To find one of those by its rank.
    sorted: &'a mut Vec<f32>,
}

impl<'a> Pool<'a> {
    /// Those of the vocabulary that are allowed.
    pub(super) fn new(
        vocabulary: &'a [f32],
        allowed: Option<&TokenSet>,
        memory: &'a mut PoolMemory,
    ) -> Self {
        let PoolMemory {
            ids,
            logits,
            greatest,
            sorted,
        } = memory;
        let (logits, ids) = match allowed {
            None => (vocabulary, None),
            Some(set) => {
                ids.clear();
                // A vocabulary fits 32 bits.
                ids.extend((0..vocabulary.len() as u32).filter(|&id| set.contains(id)));
                logits.clear();
                logits.extend(ids.iter().map(|&id| vocabulary[id as usize]));
                (&**logits, Some(&**ids))
            }
        };
        greatest.clear();
        greatest.extend(logits.chunks(BLOCK).map(greatest_of));
        Self {
            logits,
            ids,
            greatest,
            sorted,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.logits.len()
    }

    /// The greatest logit; `None` where there is none.
    pub(super) fn top(&self) -> Option<f32> {
        self.greatest.iter().copied().max_by(f32::total_cmp)
    }

    /// The first of the tokens with the greatest logit.
    pub(super) fn first_of_greatest(&self) -> Option<u32> {
        let top = self.top()?;
        let block = self.greatest.iter().position(|&greatest| greatest == top)?;
        let blocks = &self.logits[block * BLOCK..];
        let at = blocks.iter().position(|&logit| logit == top)?;
        Some(self.id(block * BLOCK + at))
    }

    fn id(&self, at: usize) -> u32 {
        // A vocabulary fits 32 bits.
        self.ids.map_or(at as u32, |ids| ids[at])
    }

    /// Those with at least this logit, by their numbers.
    pub(super) fn at_least(&self, least: f32, into: &mut Vec<Candidate>) {
        into.clear();
        let blocks = self.logits.chunks(BLOCK).zip(self.greatest).enumerate();
        for (block, (logits, _)) in blocks.filter(|(_, (_, greatest))| **greatest >= least) {
            for (at, &logit) in logits.iter().enumerate() {
                if logit >= least {
                    let id = self.id(block * BLOCK + at);
                    into.push(Candidate { id, logit });
                }
            }
        }
    }

    /// The `count` likeliest, in order; of equals, the lowest number first.
    pub(super) fn likeliest(&mut self, count: usize, into: &mut Vec<Candidate>) {
        let mut least = f32::MIN;
        if (1..self.greatest.len()).contains(&count) {
            // As many blocks have one with at least this logit.
            self.sorted.clear();
            self.sorted.extend_from_slice(self.greatest);
            let by_size = |a: &f32, b: &f32| b.total_cmp(a);
            least = *self.sorted.select_nth_unstable_by(count - 1, by_size).1;
        }
        self.at_least(least, into);
        sort_front(into, count);
        into.truncate(count);
    }

    /// The sum of all weights, to five parts in a million.
    pub(super) fn total(&self, weight: Weight) -> f64 {
        let blocks = self.logits.chunks(BLOCK);
        blocks.map(|block| weight.of_block(block)).sum()
    }

    /// The token at `chance` (0..1) of the way through all weights.
    pub(super) fn draw(&self, weight: Weight, chance: f64) -> Option<u32> {
        let mut left = chance * self.total(weight);
        let mut last = None;
        for (block, logits) in self.logits.chunks(BLOCK).enumerate() {
            let of_block = weight.of_block(logits);
            last = Some((block, logits));
            if left < of_block {
                break;
            }
            left -= of_block;
        }
        let (block, logits) = last?;
        let passes = |&logit: &f32| {
            left -= weight.of(logit);
            left < 0.0
        };
        // Rounding may have eaten the last sliver of it.
        let greatest = || {
            logits
                .iter()
                .position(|&logit| logit == self.greatest[block])
        };
        let at = logits.iter().position(passes).or_else(greatest)?;
        Some(self.id(block * BLOCK + at))
    }
}

/// What a logit weighs relative to the greatest: e^((logit - greatest) / temperature), in 0..=1. Made of sums
/// and products of floats in one order, so it is the same on every machine, and a compiler makes vectors of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    top: f32,
    /// By which a logit becomes an exponent of two.
    scale: f32,
}

impl Weight {
    pub(super) fn new(temperature: f32, top: f32) -> Self {
        let scale = (std::f32::consts::LOG2_E / temperature).min(f32::MAX);
        Self { top, scale }
    }

    pub(super) fn of(self, logit: f32) -> f64 {
        f64::from(power((logit - self.top) * self.scale))
    }

    /// The sum over at most a block.
    fn of_block(self, logits: &[f32]) -> f64 {
        let Self { top, scale } = self;
        let (eights, rest) = logits.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for eight in eights {
            for lane in 0..LANES {
                sums[lane] += power((eight[lane] - top) * scale);
            }
        }
        let rest = rest.iter().map(|&logit| power((logit - top) * scale));
        f64::from(sums.iter().sum::<f32>() + rest.sum::<f32>())
    }
}

fn greatest_of(logits: &[f32]) -> f32 {
    let (eights, rest) = logits.as_chunks::<LANES>();
    let mut greatest = [f32::MIN; LANES];
    for eight in eights {
        for lane in 0..LANES {
            if eight[lane] > greatest[lane] {
                greatest[lane] = eight[lane];
            }
        }
    }
    greatest
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::MIN, f32::max)
}

/// 2^x for x up to 0, within 4e-7 of it; nothing from -100 down.
#[inline(always)]
fn power(x: f32) -> f32 {
    // Adding this leaves an integer n in the low bits, and takes what is after the point.
    const ROUND: f32 = 12_582_912.0;
    // The Taylor series of 2^r.
    const SERIES: [f32; 7] = [
        1.0,
        std::f32::consts::LN_2,
        0.240_226_5,
        0.055_504_11,
        0.009_618_129,
        0.001_333_355_8,
        0.000_154_035_3,
    ];
    let is_something = x > -100.0;
    let x = if is_something { x } else { -100.0 };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let [a, b, c, d, e, f, g] = SERIES;
    let power = a + r * (b + r * (c + r * (d + r * (e + r * (f + r * g)))));
    // From n to the exponent: power is between 0.7 and 1.5, and 2^-100 of it a normal number.
    let power = f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23));
    if is_something { power } else { 0.0 }
}

/// The order of the likeliest; of equals, the lowest id first.
pub(super) fn likelier_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Puts the `count` likeliest first, in order.
fn sort_front(candidates: &mut [Candidate], count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, likelier_first);
    }
    let front = count.min(candidates.len());
    candidates[..front].sort_unstable_by(likelier_first);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn powers_of_two_are_near() {
        for step in 0..99_999 {
            let x = step as f32 * -1e-3;
            let want = f64::from(x).exp2();
            let off = (f64::from(power(x)) - want).abs() / want;
            assert!(off < 4e-7, "{x}: {off}");
        }
        for x in [-100.0, -101.0, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(power(x), 0.0, "{x}");
        }
    }

    /// All of the pool, likeliest first.
    fn sorted(logits: &[f32], allowed: Option<&TokenSet>) -> Vec<Candidate> {
        let ids = (0..logits.len() as u32).filter(|&id| allowed.is_none_or(|a| a.contains(id)));
        let candidate = |id| Candidate {
            id,
            logit: logits[id as usize],
        };
        let mut all: Vec<_> = ids.map(candidate).collect();
        let count = all.len();
        sort_front(&mut all, count);
        all
    }

    proptest! {
        /// Against sorting everything.
        #[test]
        fn the_likeliest_are_found(
            // Few values, so that many are equal.
            logits in prop::collection::vec((-40_i32..40).prop_map(|n| n as f32 / 4.0), 0..3000),
            count in 0_usize..300,
            least in -12.0_f32..12.0,
            every in prop::option::of(1_u32..5),
        ) {
            let allowed = every.map(|every| (0..5000).step_by(every as usize).collect::<TokenSet>());
            let all = sorted(&logits, allowed.as_ref());
            let mut memory = PoolMemory::default();
            let mut pool = Pool::new(&logits, allowed.as_ref(), &mut memory);
            prop_assert_eq!(pool.len(), all.len());
            let first = all.first();
            prop_assert_eq!(pool.top(), first.map(|c| c.logit));
            prop_assert_eq!(pool.first_of_greatest(), first.map(|c| c.id));
            let mut found = Vec::new();
            pool.likeliest(count, &mut found);
            prop_assert_eq!(&found[..], &all[..count.min(all.len())]);
            pool.at_least(least, &mut found);
            let mut expected: Vec<_> = all.iter().filter(|c| c.logit >= least).copied().collect();
            expected.sort_unstable_by_key(|c| c.id);
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn the_total_is_that_of_exact_weights(
            logits in prop::collection::vec(-30.0_f32..30.0, 1..3000),
            temperature in prop::sample::select(vec![1e-30_f32, 0.05, 0.7, 1.0, 3.0, 1e30]),
        ) {
            let mut memory = PoolMemory::default();
            let pool = Pool::new(&logits, None, &mut memory);
            let top = f64::from(pool.top().expect("there is one"));
            let weight = |&logit: &f32| ((f64::from(logit) - top) / f64::from(temperature)).exp();
            let total: f64 = logits.iter().map(weight).sum();
            let ours = Weight::new(temperature, pool.top().expect("there is one"));
            let off = (pool.total(ours) - total).abs() / total;
            // What is added to a logit, and the product with the scale, are rounded too.
            prop_assert!(off < 5e-6, "{}", off);
            let ends = [0.0, 1.0 - f64::EPSILON].map(|chance| pool.draw(ours, chance));
            prop_assert!(ends.iter().all(|id| id.is_some_and(|id| (id as usize) < logits.len())));
        }
    }
}
