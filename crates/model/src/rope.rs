//! From what a file says about rotary positions to one frequency for each pair.

use std::f64::consts::TAU;

use crate::decoder::RopePairs;

/// Rotary positions as a file describes them.
#[derive(Clone, Debug)]
pub(crate) struct RopeSpec {
    pub(crate) pairs: RopePairs,
    /// Leading elements of a head that are turned; an even number.
    pub(crate) rotated: usize,
    pub(crate) base: f64,
    pub(crate) scaling: Scaling,
    /// One for each pair; its frequency is divided by it.
    pub(crate) divisors: Option<Divisors>,
    /// LongRoPE: other divisors for long sequences.
    pub(crate) long: Option<LongDivisors>,
    /// What sine and cosine are multiplied by, beside what the scaling brings.
    pub(crate) magnitude: f64,
}

/// How positions beyond the first training length are made to fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// Chen et al. 2023, positional interpolation.
    Linear {
        factor: f64,
    },
    Llama3(Llama3),
    Yarn(Yarn),
}

/// Llama 3.1's scaling: long wavelengths are stretched, short ones kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Llama3 {
    pub(crate) factor: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) original_context: f64,
}

/// YaRN (Peng et al. 2023).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Yarn {
    pub(crate) factor: f64,
    pub(crate) original_context: f64,
    /// Turns over the original context from which a pair is kept as it is.
    pub(crate) beta_fast: f64,
    /// Turns over the original context up to which a pair is fully stretched.
    pub(crate) beta_slow: f64,
    pub(crate) magnitude: f64,
}

/// LongRoPE's divisors for sequences of more tokens than the original context.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LongDivisors {
    /// The original context, in tokens.
    pub(crate) above: usize,
    pub(crate) divisors: Divisors,
}

/// Where one divisor for each pair comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Divisors {
    Values(Vec<f32>),
    Tensor(&'static str),
}

impl RopeSpec {
    /// Plain rotation of `rotated` elements.
    pub(crate) const fn plain(pairs: RopePairs, rotated: usize, base: f64) -> Self {
        Self {
            pairs,
            rotated,
            base,
            scaling: Scaling::None,
            divisors: None,
            long: None,
            magnitude: 1.0,
        }
    }

    /// Radians per position of each pair, given its divisors, if there are any.
    pub(crate) fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<f32> {
        let frequency = |pair: usize| {
            let plain = self.base.powf(-2.0 * pair as f64 / self.rotated as f64);
            let divided = plain / divisors.map_or(1.0, |d| f64::from(d[pair]));
            self.scaled(pair, divided) as f32
        };
        (0..self.rotated / 2).map(frequency).collect()
    }

    /// What sine and cosine are multiplied by.
    pub(crate) fn total_magnitude(&self) -> f32 {
        let scaling = match self.scaling {
            Scaling::Yarn(yarn) => yarn.magnitude,
            _ => 1.0,
        };
        (self.magnitude * scaling) as f32
    }

    fn scaled(&self, pair: usize, frequency: f64) -> f64 {
        match self.scaling {
            Scaling::None => frequency,
            Scaling::Linear { factor } => frequency / factor,
            Scaling::Llama3(llama3) => llama3.scaled(frequency),
            Scaling::Yarn(yarn) => {
                let stretched = frequency / yarn.factor;
                let kept = yarn.kept(pair, self.rotated, self.base);
                stretched * (1.0 - kept) + frequency * kept
            }
        }
    }
}

impl Llama3 {
    fn scaled(self, frequency: f64) -> f64 {
        let turns = self.original_context * frequency / TAU;
        let kept = ((turns - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        frequency / self.factor * (1.0 - kept) + frequency * kept
    }
}

impl Yarn {
    /// The magnitude the paper gives for a factor.
    pub(crate) fn default_magnitude(factor: f64) -> f64 {
        if factor > 1.0 {
            0.1 * factor.ln() + 1.0
        } else {
            1.0
        }
    }

    /// How much of a pair's own frequency is kept: 1 below the fast bound, 0 above the slow one.
    fn kept(self, pair: usize, rotated: usize, base: f64) -> f64 {
        // The pair that turns `turns` times over the original context.
        let bound = |turns: f64| {
            rotated as f64 * (self.original_context / (turns * TAU)).ln() / (2.0 * base.ln())
        };
        let low = bound(self.beta_fast).floor().max(0.0);
        let high = bound(self.beta_slow).ceil().min(rotated as f64 - 1.0);
        // A ramp of no width is a step, as in the reference implementation.
        let width = if high > low { high - low } else { 0.001 };
        1.0 - ((pair as f64 - low) / width).clamp(0.0, 1.0)
    }
}

/// LongRoPE's magnitude (Ding et al. 2024) for a context `stretch` times the original.
pub(crate) fn long_magnitude(stretch: f64, original_context: f64) -> f64 {
    if stretch > 1.0 {
        (1.0 + stretch.ln() / original_context.ln()).sqrt()
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scaling: Scaling, pair: usize, ratio: f64) {
        let mut spec = RopeSpec::plain(RopePairs::Halves, 64, 500_000.0);
        let plain = spec.frequencies(None)[pair];
        spec.scaling = scaling;
        let scaled = spec.frequencies(None)[pair];
        let found = f64::from(scaled / plain);
        assert!((found - ratio).abs() < 1e-6, "{scaling:?}: {found}");
    }

    const LLAMA3: Scaling = Scaling::Llama3(Llama3 {
        factor: 8.0,
        low: 1.0,
        high: 4.0,
        original_context: 8192.0,
    });

    const YARN: Scaling = Scaling::Yarn(Yarn {
        factor: 4.0,
        original_context: 32_768.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        magnitude: 1.0,
    });

    #[test]
    fn linear_stretches_every_pair() {
        check(Scaling::Linear { factor: 4.0 }, 0, 0.25);
        check(Scaling::Linear { factor: 4.0 }, 31, 0.25);
    }

    #[test]
    fn llama3_keeps_fast_pairs_and_stretches_slow_ones() {
        check(LLAMA3, 0, 1.0);
        check(LLAMA3, 31, 0.125);
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_stretches_slow_ones() {
        check(YARN, 0, 1.0);
        check(YARN, 31, 0.25);
    }

    #[test]
    fn yarn_between_its_bounds_is_a_ramp_over_pairs() {
        // Bounds by hand: 64 ln(32768 / (32 tau)) / (2 ln 5e5) = 12.4, and 20.9 with one turn,
        // so the ramp goes from 12 to 21 and pair 15 keeps two thirds.
        let kept = 1.0 - 3.0 / 9.0;
        check(YARN, 15, 0.25 * (1.0 - kept) + kept);
    }

    #[test]
    fn divisors_divide() {
        let spec = RopeSpec::plain(RopePairs::Adjacent, 4, 10_000.0);
        assert_eq!(spec.frequencies(Some(&[2.0, 4.0])), [0.5, 0.0025]);
    }

    #[test]
    fn long_rope_magnitude_is_that_of_phi_3_mini_128k() {
        // sqrt(1 + ln 32 / ln 4096), as the model's config would give.
        assert!((long_magnitude(32.0, 4096.0) - 1.190_238).abs() < 1e-6);
    }
}
