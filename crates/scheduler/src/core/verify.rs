//! A sequence's drafts: what it may draft, and choosing tokens from the rows of a draft.

use super::draft;
use super::gain::{Gain, Given};
use super::moment::Instance;
use super::sequence::{Sequence, Task};
use crate::error::GenerateError;
use crate::limits::DRAFT_TOKENS_MAX;

impl Sequence {
    /// Whether its next step feeds the token that was chosen last, and chooses the next.
    pub(super) fn decodes(&self) -> bool {
        let is_sampled = matches!(self.task, Task::Sample { .. });
        is_sampled && self.content.added() > 0 && self.written + 1 == self.content.len()
    }

    /// What it could draft after the one row with which it decodes: no more than it may have, and none past
    /// the border from which on rows are turned otherwise. A matcher knows one token at a time.
    pub(super) fn drafts(&self, border: Option<usize>) -> Vec<u32> {
        let Task::Sample { most, .. } = &self.task else {
            return Vec::new();
        };
        if self.mask.is_constrained() {
            return Vec::new();
        }
        let len = self.content.len();
        // The step chooses one token more than it is given.
        let may_have = most.saturating_sub(self.content.added() + 1);
        let to_border = border.and_then(|border| border.checked_sub(len));
        let most = may_have.min(to_border.unwrap_or(usize::MAX));
        draft::look_up(self.content.tokens(), most.min(DRAFT_TOKENS_MAX))
    }

    /// Chooses tokens as long as they are those of the draft, which has some, and then one more.
    pub(super) fn verify(
        &mut self,
        given: Given<'_>,
        at: Instance<'_>,
    ) -> Result<Gain, GenerateError> {
        let draft = given.draft;
        let vocab = given.logits.len() / (draft.len() + 1);
        let mut gain = Gain::default();
        let (mut chosen, mut right) = (0, 0);
        for logits in given.logits.chunks_exact(vocab).take(given.sound) {
            self.written += 1;
            let one = match self.hold(logits).and_then(|()| self.choose_due(at)) {
                Ok(one) => one,
                Err(error) if chosen == 0 => return Err(error),
                // It comes again in a step of its own, after what was chosen is told.
                Err(_) => {
                    self.written -= 1;
                    self.due = None;
                    break;
                }
            };
            let drafted = draft.get(chosen);
            chosen += 1;
            let is_as_drafted = drafted.is_some() && one.ids.first() == drafted;
            right += usize::from(is_as_drafted);
            gain.append(one);
            if gain.finish.is_some() || !is_as_drafted {
                break;
            }
        }
        self.acceptance.learn(draft.len(), right);
        self.accepted += chosen.saturating_sub(1);
        Ok(gain)
    }
}
