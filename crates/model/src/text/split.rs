use std::mem;
use std::ops::Range;

use crate::error::ModelError;

use super::budget::Budget;
use super::pattern::Pattern;

/// How a text is cut into words before merging begins, which stays within them.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The parts that one step makes each go on to the next.
    steps: Vec<Step>,
}

/// One step: the matches of an expression, and what becomes of them.
#[derive(Debug)]
pub(super) struct Step {
    pattern: Pattern,
    behaviour: Behaviour,
    /// What does not match counts as the match.
    inverted: bool,
}

/// What becomes of the matches of an expression and the gaps between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// All are words.
    Isolated,
    /// Only the gaps are.
    Removed,
    /// Matches in a row are one word.
    Contiguous,
    /// A match ends the word before it.
    MergedWithPrevious,
    /// A match begins the word after it.
    MergedWithNext,
}

/// Takes the words of a text one by one.
pub(super) type WordSink<'s> = &'s mut dyn FnMut(&str, &mut Budget<'_>) -> Result<(), ModelError>;

impl Step {
    /// A step, or what is wrong with its expression.
    pub(super) fn of(pattern: &str, behaviour: Behaviour) -> Result<Self, String> {
        Ok(Self::with(Pattern::new(pattern)?, behaviour))
    }

    pub(super) fn with(pattern: Pattern, behaviour: Behaviour) -> Self {
        Self {
            pattern,
            behaviour,
            inverted: false,
        }
    }

    pub(super) fn inverted(self, inverted: bool) -> Self {
        Self { inverted, ..self }
    }

    fn split(
        &self,
        text: &str,
        sink: &mut dyn FnMut(&str) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let mut joiner = Joiner {
            behaviour: self.behaviour,
            word: 0..0,
            was_match: false,
        };
        let done = self.pattern.parts(text, |part, is_match| {
            match joiner.take(part.len(), is_match != self.inverted) {
                Some(word) => sink(&text[word]),
                None => Ok(()),
            }
        });
        done.map_err(|_| ModelError::Tokenizer {
            what: "an expression that cuts words goes over this text again and again".to_owned(),
        })??;
        if joiner.word.is_empty() {
            return Ok(());
        }
        sink(&text[joiner.word])
    }
}

/// Makes words of matches and gaps.
struct Joiner {
    behaviour: Behaviour,
    /// What may still grow.
    word: Range<usize>,
    was_match: bool,
}

impl Joiner {
    /// Takes the next part, and gives the word that it completes.
    fn take(&mut self, len: usize, is_match: bool) -> Option<Range<usize>> {
        let part = self.word.end..self.word.end + len;
        let was_match = mem::replace(&mut self.was_match, is_match);
        let joins = match self.behaviour {
            Behaviour::Isolated => false,
            Behaviour::Removed if is_match => {
                // What is removed leaves an empty word behind it.
                let word = mem::replace(&mut self.word, part.end..part.end);
                return (!word.is_empty()).then_some(word);
            }
            Behaviour::Removed => false,
            Behaviour::Contiguous => is_match == was_match,
            Behaviour::MergedWithPrevious => is_match && !was_match,
            Behaviour::MergedWithNext => !is_match && was_match,
        };
        if joins || self.word.is_empty() {
            self.word = if joins { self.word.start } else { part.start }..part.end;
            return None;
        }
        Some(mem::replace(&mut self.word, part))
    }
}

impl Splitter {
    pub(super) fn new(steps: Vec<Step>) -> Self {
        Self { steps }
    }

    /// Whether parts of a text can get lost.
    pub(super) fn removes(&self) -> bool {
        let removes = |step: &Step| step.behaviour == Behaviour::Removed;
        self.steps.iter().any(removes)
    }

    /// Gives the words of `text` to `sink`, in order.
    pub(super) fn split(
        &self,
        text: &str,
        budget: &mut Budget<'_>,
        sink: WordSink<'_>,
    ) -> Result<(), ModelError> {
        split(&self.steps, text, &mut |word| {
            budget.spend(word.len())?;
            sink(word, budget)
        })
    }
}

fn split(
    steps: &[Step],
    text: &str,
    sink: &mut dyn FnMut(&str) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    match steps.split_first() {
        None => sink(text),
        Some((step, rest)) => step.split(text, &mut |part| split(rest, part, sink)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::budget::EncodeLimit;

    fn check(behaviour: Behaviour, inverted: bool, words: &[&str]) {
        let step = Step::of("[0-9]", behaviour).unwrap().inverted(inverted);
        let mut found = Vec::new();
        let mut budget = Budget::new(EncodeLimit::NONE, None);
        let mut sink = |word: &str, _: &mut Budget<'_>| {
            found.push(word.to_owned());
            Ok(())
        };
        let splitter = Splitter::new(vec![step]);
        splitter.split("1ab23c4", &mut budget, &mut sink).unwrap();
        assert_eq!(found, words, "{behaviour:?}");
    }

    #[test]
    fn matches_become_what_the_behaviour_says() {
        check(Behaviour::Isolated, false, &["1", "ab", "2", "3", "c", "4"]);
        check(Behaviour::Removed, false, &["ab", "c"]);
        check(Behaviour::Removed, true, &["1", "2", "3", "4"]);
        check(Behaviour::Contiguous, false, &["1", "ab", "23", "c", "4"]);
        check(
            Behaviour::MergedWithPrevious,
            false,
            &["1", "ab2", "3", "c4"],
        );
        check(Behaviour::MergedWithNext, false, &["1ab", "2", "3c", "4"]);
    }
}
