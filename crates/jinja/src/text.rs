use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::budget::Budget;
use crate::error::Error;

/// A text that knows which of its bytes the template wrote and which came from the caller. A part
/// of a text shares its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    whole: Arc<Whole>,
    start: u32,
    end: u32,
}

#[derive(Debug)]
struct Whole {
    text: Box<str>,
    own: Own,
}

/// Which bytes of a text are the template's own.
#[derive(Clone, Debug)]
enum Own {
    All,
    None,
    /// Sorted, apart from each other, not empty.
    Some(Box<[(u32, u32)]>),
}

impl Text {
    /// A text that the template wrote.
    pub(crate) fn own(text: impl Into<Box<str>>) -> Self {
        Self::new(text.into(), Own::All)
    }

    /// A text from the caller.
    pub(crate) fn given(text: impl Into<Box<str>>) -> Self {
        Self::new(text.into(), Own::None)
    }

    /// A text of one origin.
    pub(crate) fn of(text: impl Into<Box<str>>, own: bool) -> Self {
        Self::new(text.into(), if own { Own::All } else { Own::None })
    }

    fn new(text: Box<str>, own: Own) -> Self {
        // Bounds on sources, given values and budgets keep every text below 4 GiB.
        let end = u32::try_from(text.len()).expect("a text is shorter than 4 GiB");
        Self {
            whole: Arc::new(Whole { text, own }),
            start: 0,
            end,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.whole.text[self.start as usize..self.end as usize]
    }

    pub(crate) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether it reads `other`; pays for the bytes compared.
    pub(crate) fn is(&self, other: &str, budget: &Budget) -> Result<bool, Error> {
        if self.len() != other.len() {
            return Ok(false);
        }
        budget.work(other.len())?;
        Ok(self.as_str() == other)
    }

    /// The bytes of `range`, whose ends are borders of characters.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        debug_assert!(self.as_str().get(range.clone()).is_some());
        Self {
            whole: Arc::clone(&self.whole),
            start: self.start + range.start as u32,
            end: self.start + range.end as u32,
        }
    }

    /// The part of this text that `part`, a slice of it, is.
    pub(crate) fn part_of(&self, part: &str) -> Self {
        let start = part.as_ptr() as usize - self.as_str().as_ptr() as usize;
        self.part(start..start + part.len())
    }

    /// Whether the template wrote all of it.
    pub(crate) fn is_own(&self) -> bool {
        self.runs().all(|(_, own)| own)
    }

    /// The characters; `true` for the template's own.
    pub(crate) fn chars(&self) -> impl Iterator<Item = (char, bool)> {
        self.runs()
            .flat_map(|(run, own)| run.chars().map(move |char| (char, own)))
    }

    /// Runs of bytes with one origin, in order; `true` for the template's own.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&str, bool)> {
        let ranges: &[(u32, u32)] = match &self.whole.own {
            Own::Some(ranges) => {
                let first = ranges.partition_point(|range| range.1 <= self.start);
                let last = ranges.partition_point(|range| range.0 < self.end);
                &ranges[first..last.max(first)]
            }
            Own::All | Own::None => &[],
        };
        let all_own = matches!(self.whole.own, Own::All);
        let (mut at, mut ranges) = (self.start, ranges.iter());
        let mut pending: Option<(u32, u32)> = None;
        std::iter::from_fn(move || {
            let run =
                |from: u32, to: u32, own| Some((&self.whole.text[from as usize..to as usize], own));
            if let Some((from, to)) = pending.take() {
                at = to;
                return run(from, to, true);
            }
            if at >= self.end {
                return None;
            }
            let from = at;
            let Some(&(start, end)) = ranges.next() else {
                at = self.end;
                return run(from, self.end, all_own);
            };
            let (start, end) = (start.max(from), end.min(self.end));
            if start > from {
                pending = Some((start, end));
                return run(from, start, false);
            }
            at = end;
            run(start, end, true)
        })
    }
}

/// A text that grows, paid for as it does.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    text: String,
    own: Vec<(u32, u32)>,
}

/// Bytes that remembering a run of own text takes.
const RUN_BYTES: usize = 16;

impl Builder {
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn push(&mut self, text: &Text, budget: &Budget) -> Result<(), Error> {
        for (run, own) in text.runs() {
            self.push_str(run, own, budget)?;
        }
        Ok(())
    }

    pub(crate) fn own(&mut self, text: &str, budget: &Budget) -> Result<(), Error> {
        self.push_str(text, true, budget)
    }

    pub(crate) fn char(&mut self, char: char, own: bool, budget: &Budget) -> Result<(), Error> {
        self.push_str(char.encode_utf8(&mut [0; 4]), own, budget)
    }

    /// Adds text of one origin.
    pub(crate) fn push_str(&mut self, text: &str, own: bool, budget: &Budget) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        budget.piece(text.len())?;
        let (from, to) = (
            self.text.len() as u32,
            (self.text.len() + text.len()) as u32,
        );
        match self.own.last_mut() {
            Some(last) if own && last.1 == from => last.1 = to,
            _ if own => {
                budget.memory(RUN_BYTES)?;
                self.own.push((from, to));
            }
            _ => {}
        }
        self.text.push_str(text);
        Ok(())
    }

    /// Adds `text` so many times.
    pub(crate) fn repeat(
        &mut self,
        text: &Text,
        count: usize,
        budget: &Budget,
    ) -> Result<(), Error> {
        let mut runs = text.runs();
        match (runs.next(), runs.next()) {
            (None, _) => Ok(()),
            (Some((run, own)), None) => {
                budget.memory(run.len().saturating_mul(count))?;
                self.push_str(&run.repeat(count), own, budget)
            }
            _ => (0..count).try_for_each(|_| self.push(text, budget)),
        }
    }

    /// Adds `text`, in which the characters that `written` knows are written its way.
    pub(crate) fn rewritten(
        &mut self,
        text: &Text,
        written: impl Fn(char) -> Option<Cow<'static, str>>,
        budget: &Budget,
    ) -> Result<(), Error> {
        for (run, own) in text.runs() {
            let mut from = 0;
            for (at, char) in run.char_indices() {
                let Some(other) = written(char) else { continue };
                budget.steps(1)?;
                self.push_str(&run[from..at], own, budget)?;
                self.push_str(&other, own, budget)?;
                from = at + char.len_utf8();
            }
            self.push_str(&run[from..], own, budget)?;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Text {
        let all = self.text.len() as u32;
        let own = match self.own.as_slice() {
            [] => Own::None,
            [range] if *range == (0, all) => Own::All,
            _ => Own::Some(self.own.into()),
        };
        Text::new(self.text.into(), own)
    }

    /// The text, and the ranges that are the template's own.
    pub(crate) fn into_parts(self) -> (String, Vec<Range<usize>>) {
        let ranges = self
            .own
            .iter()
            .map(|&(from, to)| from as usize..to as usize);
        let ranges = ranges.collect();
        (self.text, ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(text: &Text) -> Vec<(String, bool)> {
        text.runs()
            .map(|(run, own)| (run.to_owned(), own))
            .collect()
    }

    #[test]
    fn every_part_of_a_text_keeps_the_origin_of_its_bytes() {
        let budget = Budget::of_given(0, 0, &|| true);
        let mut builder = Builder::default();
        let pieces = [
            ("ab", true),
            ("cd", false),
            ("ef", true),
            ("gh", true),
            ("", false),
            ("ij", false),
        ];
        for (text, own) in pieces {
            builder.push_str(text, own, &budget).unwrap();
        }
        let text = builder.finish();
        let origin = |at: usize| {
            text.as_str().as_bytes()[at] != b'c' && !b"dij".contains(&text.as_str().as_bytes()[at])
        };
        for from in 0..=text.len() {
            for to in from..=text.len() {
                let part = text.part(from..to);
                let mut at = from;
                for (run, own) in runs(&part) {
                    assert!(!run.is_empty());
                    for byte in run.bytes() {
                        assert_eq!((text.as_str().as_bytes()[at], origin(at)), (byte, own));
                        at += 1;
                    }
                }
                assert_eq!(at, to);
                let mut copy = Builder::default();
                copy.push(&part, &budget).unwrap();
                assert_eq!(runs(&copy.finish()), runs(&part));
            }
        }
        assert_eq!(runs(&Text::given("x")), [("x".to_owned(), false)]);
    }
}
