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
use pool::{Candidate, Pool, PoolMemory, Weight, likelier_first};

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
        let chance = unit(self.settings.seed, index);
        let Sampling {
            top_k,
            top_p,
            min_p,
            ..
        } = self.settings;
        let cuts = top_p < 1.0 || min_p > 0.0 || (1..self.logits.len()).contains(&top_k);
        if !cuts {
            let pool = Pool::new(&self.logits, allowed, &mut self.memory);
            return pool.draw(Weight::new(temperature, pool.top()?), chance);
        }
        let weight = self.cut(allowed)?;
        Some(draw(&self.candidates, weight, chance))
    }

    fn bias(&mut self) {
        for (&id, &bias) in &self.settings.logit_bias {
            if let Some(logit) = self.logits.get_mut(id as usize) {
                self.changed.push((id, *logit));
                *logit = (*logit + bias).clamp(f32::MIN, f32::MAX);
            }
        }
    }

    /// Fills `candidates` with the tokens that may be drawn, and gives their weights; `None` where no token is
    /// allowed.
    fn cut(&mut self, allowed: Option<&TokenSet>) -> Option<Weight> {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.settings;
        let least = f64::from(min_p);
        let mut pool = Pool::new(&self.logits, allowed, &mut self.memory);
        let candidates = &mut self.candidates;
        let top = pool.top()?;
        let weight = Weight::new(temperature, top);
        let is_likely = |candidate: &Candidate| weight.of(candidate.logit) >= least;
        let share = |total: f64| f64::from(top_p) * total;
        if top_k > 0 && top_k < pool.len() {
            pool.likeliest(top_k, candidates);
            if top_p < 1.0 {
                let total = candidates.iter().map(|c| weight.of(c.logit)).sum();
                keep_reaching(candidates, share(total), weight);
            }
            candidates.retain(is_likely);
        } else if min_p > 0.0 {
            // The likeliest has weight one. Those that weigh enough are few, so only they are sorted.
            pool.at_least(logit_of(least, top, temperature), candidates);
            candidates.retain(is_likely);
            if top_p < 1.0 {
                candidates.sort_unstable_by(likelier_first);
                keep_reaching(candidates, share(pool.total(weight)), weight);
            }
        } else if top_p < 1.0 {
            let goal = share(pool.total(weight));
            let mut count = SORTED_AT_FIRST;
            pool.likeliest(count, candidates);
            while !keep_reaching(candidates, goal, weight) && count < pool.len() {
                count *= 2;
                pool.likeliest(count, candidates);
            }
        } else {
            pool.at_least(f32::MIN, candidates);
        }
        Some(weight)
    }
}

/// The logit of what is impossible: the end of the range, so that every sum and order below is defined.
const IMPOSSIBLE: f32 = f32::MIN;

fn sane(logit: f32) -> f32 {
    if logit.is_finite() { logit } else { IMPOSSIBLE }
}

/// A logit that is no greater than those with this weight.
fn logit_of(weight: f64, top: f32, temperature: f32) -> f32 {
    let logit = f64::from(top) + f64::from(temperature) * weight.ln();
    // Below what rounding may do.
    let margin = (1.0 + logit.abs() + f64::from(temperature)) * 1e-6;
    (logit - margin) as f32
}

/// Keeps as many of these in order, the likeliest first, as weigh so much together; says whether all of them do.
fn keep_reaching(sorted: &mut Vec<Candidate>, goal: f64, weight: Weight) -> bool {
    let mut sum = 0.0;
    let last = sorted.iter().position(|c| {
        sum += weight.of(c.logit);
        sum >= goal
    });
    if let Some(last) = last {
        sorted.truncate(last + 1);
    }
    last.is_some()
}

/// The candidate at `chance` (0..1) of the way through all weights.
fn draw(candidates: &[Candidate], weight: Weight, chance: f64) -> u32 {
    let total: f64 = candidates.iter().map(|c| weight.of(c.logit)).sum();
    let mut left = chance * total;
    for candidate in candidates {
        left -= weight.of(candidate.logit);
        if left < 0.0 {
            return candidate.id;
        }
    }
    // Rounding ate the last sliver.
    let last = candidates.last();
    last.expect("at least one candidate is kept").id
}

#[cfg(test)]
mod tests;
