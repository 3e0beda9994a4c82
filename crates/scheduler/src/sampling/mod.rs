//! Choosing the next token from logits, and watching the text for stop strings. Pure: the same
//! logits, history and seed give the same token.

mod chance;
mod log_probs;
mod penalties;
mod pool;
mod stop;

pub(crate) use log_probs::Distribution;
pub(crate) use stop::StopWatch;

use crate::constraint::TokenSet;
use crate::request::Sampling;
use chance::unit;
use pool::{Candidate, Pool, PoolMemory, likelier_first};

/// Candidates looked at first; doubled until they hold the probability that is asked for.
const SORTED_AT_FIRST: usize = 256;

/// Chooses the tokens of one request.
#[derive(Debug)]
pub(crate) struct Sampler {
    settings: Sampling,
    /// Logits after penalties, `[vocab]`; kept for its memory.
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
    memory: PoolMemory,
    /// Logits that penalties and bias have changed, as they were, by token.
    changed: Vec<(u32, f32)>,
}

/// A token that was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) id: u32,
    /// Its logit, before penalties and bias.
    pub(crate) logit: f32,
}

impl Sampler {
    pub(crate) fn new(settings: Sampling) -> Self {
        Self {
            settings,
            logits: Vec::new(),
            candidates: Vec::new(),
            memory: PoolMemory::default(),
            changed: Vec::new(),
        }
    }

    pub(crate) fn settings(&self) -> &Sampling {
        &self.settings
    }

    /// Keeps the logits, `[vocab]`, of the token to choose next: its probabilities are their softmax.
    /// NaN counts as impossible. `None` where the greatest is not finite: such logits say nothing.
    pub(crate) fn hold(&mut self, logits: &[f32]) -> Option<()> {
        // The greatest but NaN.
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !greatest.is_finite() {
            return None;
        }
        self.logits.clear();
        self.logits.extend(logits.iter().map(|&logit| sane(logit)));
        Some(())
    }

    /// The next token after `history`, by the logits that are kept, which it uses up. Only one of the
    /// `allowed` can be chosen; `None` where the vocabulary has none of them. `index` numbers the
    /// tokens of the request.
    pub(crate) fn choose(
        &mut self,
        history: &[u32],
        index: u64,
        allowed: Option<&TokenSet>,
    ) -> Option<Choice> {
        self.changed.clear();
        penalties::apply(
            &self.settings,
            history,
            (&mut self.logits, &mut self.changed),
        );
        self.bias();
        let id = self.chosen(index, allowed)?;
        let changed = self.changed.iter().find(|(other, _)| *other == id);
        let logit = changed.map_or(self.logits[id as usize], |&(_, before)| before);
        Some(Choice { id, logit })
    }

    fn chosen(&mut self, index: u64, allowed: Option<&TokenSet>) -> Option<u32> {
        let temperature = self.settings.temperature;
        if temperature == 0.0 {
            let pool = Pool::new(&self.logits, allowed, &mut self.memory);
            return pool.first_of_greatest();
        }
        let top = self.cut(allowed)?;
        let chance = unit(self.settings.seed, index);
        Some(draw(&self.candidates, weight_by(temperature, top), chance))
    }

    fn bias(&mut self) {
        for (&id, &bias) in &self.settings.logit_bias {
            if let Some(logit) = self.logits.get_mut(id as usize) {
                self.changed.push((id, *logit));
                *logit = (*logit + bias).clamp(f32::MIN, f32::MAX);
            }
        }
    }

    /// Fills `candidates` with the tokens that may be drawn, and gives the greatest logit; `None` where no token
    /// is allowed.
    fn cut(&mut self, allowed: Option<&TokenSet>) -> Option<f32> {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.settings;
        let (share, least) = (f64::from(top_p), f64::from(min_p));
        let mut pool = Pool::new(&self.logits, allowed, &mut self.memory);
        let candidates = &mut self.candidates;
        let top = pool.top()?;
        let weight = weight_by(temperature, top);
        let is_likely = |candidate: &Candidate| weight(candidate.logit) >= least;
        if top_k > 0 && top_k < pool.len() {
            pool.likeliest(top_k, candidates);
            if top_p < 1.0 {
                let total: f64 = candidates.iter().map(|c| weight(c.logit)).sum();
                if let Some(count) = reaching(candidates, share * total, weight) {
                    candidates.truncate(count);
                }
            }
            candidates.retain(is_likely);
        } else if min_p > 0.0 {
            // The likeliest has weight one. Those that weigh as much are few, so only they are sorted.
            pool.at_least(logit_of(least, top, temperature), candidates);
            candidates.retain(is_likely);
            if top_p < 1.0 {
                let total = pool.total(temperature);
                candidates.sort_unstable_by(likelier_first);
                if let Some(count) = reaching(candidates, share * total, weight) {
                    candidates.truncate(count);
                }
            }
        } else if top_p < 1.0 {
            let total = pool.total(temperature);
            let mut count = SORTED_AT_FIRST;
            loop {
                pool.likeliest(count, candidates);
                if let Some(count) = reaching(candidates, share * total, weight) {
                    candidates.truncate(count);
                    break;
                }
                if count >= pool.len() {
                    break;
                }
                count *= 2;
            }
        } else {
            pool.at_least(f32::MIN, candidates);
        }
        Some(top)
    }
}

/// The logit of what is impossible: the end of the range, so that every sum and order below is defined.
const IMPOSSIBLE: f32 = f32::MIN;

fn sane(logit: f32) -> f32 {
    if logit.is_finite() { logit } else { IMPOSSIBLE }
}

/// A logit's weight at a temperature, relative to that of `top`: in 0..=1.
fn weight_by(temperature: f32, top: f32) -> impl Fn(f32) -> f64 + Copy {
    move |logit| ((f64::from(logit) - f64::from(top)) / f64::from(temperature)).exp()
}

/// A logit that is no greater than those with this weight.
fn logit_of(weight: f64, top: f32, temperature: f32) -> f32 {
    let logit = f64::from(top) + f64::from(temperature) * weight.ln();
    // Below what rounding may do.
    (logit - (1.0 + logit.abs()) * 1e-6) as f32
}

/// How many of these in order, the likeliest first, weigh so much together.
fn reaching(sorted: &[Candidate], goal: f64, weight: impl Fn(f32) -> f64) -> Option<usize> {
    let mut sum = 0.0;
    let last = sorted.iter().position(|c| {
        sum += weight(c.logit);
        sum >= goal
    });
    last.map(|last| last + 1)
}

/// The candidate at `chance` (0..1) of the way through all weights.
fn draw(candidates: &[Candidate], weight: impl Fn(f32) -> f64, chance: f64) -> u32 {
    let total: f64 = candidates.iter().map(|c| weight(c.logit)).sum();
    let mut left = chance * total;
    for candidate in candidates {
        left -= weight(candidate.logit);
        if left < 0.0 {
            return candidate.id;
        }
    }
    // Rounding ate the last sliver.
    candidates
        .last()
        .expect("at least one candidate is kept")
        .id
}

#[cfg(test)]
mod tests;
