use super::{IMPOSSIBLE, sane};
use crate::generation::TokenLogProb;

/// The distribution that a row of logits stands for, as far as it is told: the logarithm of the sum
/// of all weights, and the likeliest tokens.
#[derive(Clone, Debug)]
pub(crate) struct Distribution {
    log_sum: f64,
    top: Vec<(u32, f32)>,
}

impl Distribution {
    /// The softmax of `logits`, `[vocab]`, with so many of its likeliest tokens. NaN counts as impossible.
    /// The greatest of them is finite.
    pub(crate) fn of(logits: &[f32], top: usize) -> Self {
        // The greatest but NaN.
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let possible = logits.iter().filter(|logit| !logit.is_nan());
        let sum: f64 = possible
            .map(|&logit| f64::from((logit - greatest).exp()))
            .sum();
        let log_sum = f64::from(greatest) + sum.ln();
        let mut top = likeliest(logits, top);
        for (_, value) in &mut top {
            *value = log_prob(*value, log_sum);
        }
        Self { log_sum, top }
    }

    /// What is told of a token with this logit.
    pub(crate) fn token(self, id: u32, logit: f32) -> TokenLogProb {
        TokenLogProb {
            id,
            log_prob: log_prob(logit, self.log_sum),
            top: self.top,
        }
    }
}

/// Negative infinity where the token is impossible.
fn log_prob(logit: f32, log_sum: f64) -> f32 {
    match sane(logit) {
        IMPOSSIBLE => f32::NEG_INFINITY,
        possible => (f64::from(possible) - log_sum) as f32,
    }
}

/// The `count` greatest logits that are finite, in order; of equals, the lowest id first.
fn likeliest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    // A model's vocabulary fits 32 bits.
    for (id, &logit) in (0_u32..).zip(logits) {
        let is_full = best.len() == count;
        if !logit.is_finite() || is_full && best.last().is_none_or(|&(_, least)| logit <= least) {
            continue;
        }
        let place = best.partition_point(|&(_, other)| other >= logit);
        best.insert(place, (id, logit));
        best.truncate(count);
    }
    best
}
