//! The token that is due: its logits are there, and which token may be chosen is known or not yet.

use super::gain::Gain;
use super::moment::Instance;
use super::sequence::{Sequence, Task};
use crate::constraint::Allowed;
use crate::error::GenerateError;
use crate::generation::Finish;
use crate::sampling::Distribution;

/// A token to choose from the logits that its sampler keeps.
#[derive(Debug)]
pub(super) struct Due {
    /// Of these logits, where log-probabilities are told.
    distribution: Option<Distribution>,
}

/// Which token a sequence may choose next.
#[derive(Debug)]
pub(super) enum Mask {
    /// Any: it has no constraint.
    Any,
    /// Its matcher has been asked.
    Asked,
    /// What its matcher said.
    Known(Result<Allowed, String>),
}

impl Mask {
    /// Of a sequence that has chosen no token.
    pub(super) fn first(is_constrained: bool) -> Self {
        match is_constrained {
            true => Self::Asked,
            false => Self::Any,
        }
    }

    /// Whether a matcher says what may follow.
    pub(super) fn is_constrained(&self) -> bool {
        !matches!(self, Self::Any)
    }

    fn is_known(&self) -> bool {
        !matches!(self, Self::Asked)
    }

    /// What it says, for one token.
    fn take(&mut self) -> Option<Result<Allowed, String>> {
        let next = Self::first(self.is_constrained());
        match std::mem::replace(self, next) {
            Self::Known(allowed) => Some(allowed),
            Self::Any | Self::Asked => None,
        }
    }
}

impl Sequence {
    /// Keeps the logits of the token that is due.
    pub(super) fn hold(&mut self, logits: &[f32]) -> Result<(), GenerateError> {
        check_finite(logits, self.written)?;
        if let Task::Sample { sampler, .. } = &mut self.task {
            let held = sampler.hold(logits);
            held.ok_or_else(|| meaningless(self.written))?;
        }
        let log_probs = self.log_probs.as_ref();
        let distribution = log_probs.map(|told| told.of(logits));
        self.due = Some(Due { distribution });
        Ok(())
    }

    /// Its matcher has said which token may be next.
    pub(super) fn allow(
        &mut self,
        allowed: Result<Allowed, String>,
        at: Instance<'_>,
    ) -> Result<Gain, GenerateError> {
        self.mask = Mask::Known(allowed);
        self.choose_due(at)
    }

    /// Chooses the token that is due, once it is known which may be chosen.
    pub(super) fn choose_due(&mut self, at: Instance<'_>) -> Result<Gain, GenerateError> {
        let (Task::Sample { sampler, most }, true) = (&mut self.task, self.mask.is_known()) else {
            return Ok(Gain::default());
        };
        let Some(Due { distribution }) = self.due.take() else {
            return Ok(Gain::default());
        };
        let allowed = self.mask.take().transpose();
        let allowed = match allowed.map_err(GenerateError::Constraint)? {
            None => None,
            Some(Allowed::Tokens(set)) => Some(set),
            Some(Allowed::Nothing) => {
                self.token_came(at);
                return Ok(self.last_text(Finish::Stop));
            }
        };
        let (most, ignores_end) = (*most, sampler.settings().ignore_eos);
        let index = self.content.added() as u64;
        let choice = sampler.choose(self.content.tokens(), index, allowed.as_ref());
        let choice = choice.ok_or_else(nothing_allowed)?;
        self.token_came(at);
        if !ignores_end && at.ends.binary_search(&choice.id).is_ok() {
            return Ok(self.last_text(Finish::Stop));
        }
        let told = distribution.map(|its| its.token(choice.id, choice.logit));
        Ok(self.add((choice.id, told), most))
    }
}

fn nothing_allowed() -> GenerateError {
    let problem = "it allows no token that the model has";
    GenerateError::Constraint(problem.to_owned())
}

/// Logits after so many tokens mean something where one is finite and none is NaN or infinite.
pub(super) fn check_finite(logits: &[f32], tokens: usize) -> Result<(), GenerateError> {
    // A fold without a way out early, which the compiler makes vectors of.
    let is_bad = |bad, logit: &f32| bad | logit.is_nan() | (*logit == f32::INFINITY);
    let is_bad = logits.iter().fold(false, is_bad);
    let says_something = logits.iter().any(|logit| logit.is_finite());
    match says_something && !is_bad {
        true => Ok(()),
        false => Err(meaningless(tokens)),
    }
}

fn meaningless(written: usize) -> GenerateError {
    let problem = format!("the logits after {written} tokens are not finite");
    GenerateError::BadOutput(problem)
}
