//! Choosing the next token from logits, and watching the text for stop strings. Pure: the same
//! logits, history and seed give the same token.

mod chance;
mod log_probs;
mod penalties;
mod stop;

pub(crate) use log_probs::Distribution;
pub(crate) use stop::StopWatch;

use crate::constraint::TokenSet;
use crate::request::Sampling;
use chance::unit;

/// Candidates sorted at first; doubled until they hold the probability that is asked for.
const SORTED_AT_FIRST: usize = 256;

/// Chooses the tokens of one request.
#[derive(Debug)]
pub(crate) struct Sampler {
    settings: Sampling,
    /// Logits after penalties, `[vocab]`; kept for its memory.
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
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

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Sampler {
    pub(crate) fn new(settings: Sampling) -> Self {
        Self {
            settings,
            logits: Vec::new(),
            candidates: Vec::new(),
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
        if self.settings.temperature == 0.0 {
            return likeliest(&self.logits, allowed);
        }
        self.cut(allowed);
        if self.candidates.is_empty() {
            return None;
        }
        let chance = unit(self.settings.seed, index);
        let weight = weight_by(self.settings.temperature, self.top());
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

    fn top(&self) -> f32 {
        self.candidates
            .iter()
            .map(|c| c.logit)
            .fold(f32::MIN, f32::max)
    }

    /// Fills `candidates` with the tokens that may be drawn: at least one, where one is allowed.
    fn cut(&mut self, allowed: Option<&TokenSet>) {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            ..
        } = self.settings;
        self.candidates.clear();
        // A model's vocabulary fits 32 bits.
        let all = (0_u32..).zip(&self.logits);
        let all = all.map(|(id, &logit)| Candidate { id, logit });
        let may_be = |candidate: &Candidate| is_allowed(allowed, candidate.id);
        self.candidates.extend(all.filter(may_be));
        if top_k > 0 && top_k < self.candidates.len() {
            sort_front(&mut self.candidates, top_k);
            self.candidates.truncate(top_k);
        }
        let weight = weight_by(temperature, self.top());
        if top_p < 1.0 {
            keep_share(&mut self.candidates, f64::from(top_p), weight);
        }
        if min_p > 0.0 {
            // The likeliest has weight one.
            self.candidates
                .retain(|c| weight(c.logit) >= f64::from(min_p));
        }
    }
}

/// The logit of what is impossible: the end of the range, so that every sum and order below is defined.
const IMPOSSIBLE: f32 = f32::MIN;

fn sane(logit: f32) -> f32 {
    if logit.is_finite() { logit } else { IMPOSSIBLE }
}

fn is_allowed(allowed: Option<&TokenSet>, id: u32) -> bool {
    allowed.is_none_or(|set| set.contains(id))
}

/// The allowed token with the greatest logit, the lowest of equals.
fn likeliest(logits: &[f32], allowed: Option<&TokenSet>) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    // A model's vocabulary fits 32 bits.
    for (id, &logit) in (0_u32..).zip(logits) {
        if best.is_none_or(|(_, most)| logit > most) && is_allowed(allowed, id) {
            best = Some((id, logit));
        }
    }
    best.map(|(id, _)| id)
}

/// A logit's weight at a temperature, relative to that of `top`: in 0..=1.
fn weight_by(temperature: f32, top: f32) -> impl Fn(f32) -> f64 + Copy {
    move |logit| ((f64::from(logit) - f64::from(top)) / f64::from(temperature)).exp()
}

/// Puts the `count` likeliest first, in order; of equals, the lowest id first.
fn sort_front(candidates: &mut [Candidate], count: usize) {
    let order = |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id));
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, order);
    }
    let front = count.min(candidates.len());
    candidates[..front].sort_unstable_by(order);
}

/// Keeps the likeliest that together reach `share` of all weight; at least one.
fn keep_share(candidates: &mut Vec<Candidate>, share: f64, weight: impl Fn(f32) -> f64) {
    let total: f64 = candidates.iter().map(|c| weight(c.logit)).sum();
    let mut sorted = SORTED_AT_FIRST;
    loop {
        sort_front(candidates, sorted);
        let mut sum = 0.0;
        let reached = candidates.iter().take(sorted).position(|c| {
            sum += weight(c.logit);
            sum >= share * total
        });
        match reached {
            Some(last) => return candidates.truncate(last + 1),
            None if sorted >= candidates.len() => return,
            None => sorted *= 2,
        }
    }
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
