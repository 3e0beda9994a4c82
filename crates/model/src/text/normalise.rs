use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfd_quick};

use crate::error::ModelError;

use super::budget::Budget;
use super::limits::{ASKED_BYTES, GROWTH_MAX, NORMALISED_BYTES_MAX};

/// What is done to a text before it is cut into words.
#[derive(Debug, Default)]
pub(super) struct Normaliser {
    steps: Vec<Change>,
}

/// One step of a [`Normaliser`].
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// A form of the Unicode Standard Annex 15.
    Form(Form),
    /// `content` wherever `pattern`, which is not empty, stands.
    Replace {
        pattern: Box<str>,
        content: Box<str>,
    },
    /// This before a text that is not empty.
    Prepend(Box<str>),
}

/// A normal form of Unicode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Canonical composition.
    Nfc,
    /// Canonical decomposition.
    Nfd,
    /// Compatibility composition.
    Nfkc,
    /// Compatibility decomposition.
    Nfkd,
}

impl Normaliser {
    /// A normaliser of these steps, or by which factor they could make a text longer when that is
    /// above [`GROWTH_MAX`].
    pub(super) fn new(steps: Vec<Change>) -> Result<Self, usize> {
        let factors = steps.iter().map(|step| step.factors().0);
        let growth = factors.fold(1_usize, usize::saturating_mul);
        if growth > GROWTH_MAX {
            return Err(growth);
        }
        Ok(Self { steps })
    }

    /// Bytes of a text that one byte of what comes out can stand for at most; `None` where there is
    /// no such number.
    pub(super) fn shrinks_by(&self) -> Option<usize> {
        let mut factors = self.steps.iter().map(|step| step.factors().1);
        factors.try_fold(1_usize, |all, one| Some(all.saturating_mul(one?)))
    }

    pub(super) fn run<'t>(
        &self,
        text: &'t str,
        budget: &mut Budget<'_>,
    ) -> Result<Cow<'t, str>, ModelError> {
        let mut text = Cow::Borrowed(text);
        for step in &self.steps {
            if let Some(changed) = step.run(&text, budget)? {
                text = Cow::Owned(changed);
            }
            if text.len() > NORMALISED_BYTES_MAX {
                let what = format!(
                    "the text has more than {NORMALISED_BYTES_MAX} bytes when it is normalised"
                );
                return Err(ModelError::Request { what });
            }
        }
        Ok(text)
    }
}

impl Change {
    /// By how much it can make a text longer and shorter, as factors.
    fn factors(&self) -> (usize, Option<usize>) {
        match self {
            // The longest cases of the standard are 3, 4, 11 and 11 bytes for one; three
            // characters of four bytes that become one letter are the shortest.
            Self::Form(Form::Nfc) => (3, Some(6)),
            Self::Form(Form::Nfd) => (4, Some(6)),
            Self::Form(Form::Nfkc | Form::Nfkd) => (11, Some(16)),
            Self::Replace { pattern, content } => {
                let shrinks =
                    (!content.is_empty()).then(|| pattern.len().div_ceil(content.len()).max(1));
                (content.len().div_ceil(pattern.len()).max(1), shrinks)
            }
            Self::Prepend(_) => (1, Some(1)),
        }
    }

    /// The changed text, or `None` where it is the same.
    fn run(&self, text: &str, budget: &mut Budget<'_>) -> Result<Option<String>, ModelError> {
        match self {
            Self::Form(form) => form.run(text, budget),
            Self::Replace { pattern, content } => replace(text, (pattern, content), budget),
            Self::Prepend(_) if text.is_empty() => Ok(None),
            Self::Prepend(first) => Ok(Some([first, text].concat())),
        }
    }
}

impl Form {
    fn run(self, text: &str, budget: &mut Budget<'_>) -> Result<Option<String>, ModelError> {
        if text.is_ascii() {
            budget.spend(text.len())?;
            return Ok(None);
        }
        match self {
            Self::Nfc if is_nfc_quick(text.chars()) == IsNormalized::Yes => Ok(None),
            Self::Nfd if is_nfd_quick(text.chars()) == IsNormalized::Yes => Ok(None),
            Self::Nfc => collect(text.nfc(), budget),
            Self::Nfd => collect(text.nfd(), budget),
            Self::Nfkc => collect(text.nfkc(), budget),
            Self::Nfkd => collect(text.nfkd(), budget),
        }
    }
}

fn collect(
    chars: impl Iterator<Item = char>,
    budget: &mut Budget<'_>,
) -> Result<Option<String>, ModelError> {
    let (mut text, mut spent) = (String::new(), 0);
    for char in chars {
        text.push(char);
        if text.len() >= spent + ASKED_BYTES / 4 {
            budget.spend(text.len() - spent)?;
            spent = text.len();
        }
    }
    Ok(Some(text))
}

fn replace(
    text: &str,
    (pattern, content): (&str, &str),
    budget: &mut Budget<'_>,
) -> Result<Option<String>, ModelError> {
    let (mut made, mut done) = (String::with_capacity(text.len()), 0);
    for (at, found) in text.match_indices(pattern) {
        budget.spend(at + found.len() - done)?;
        made.push_str(&text[done..at]);
        made.push_str(content);
        done = at + found.len();
    }
    if done == 0 {
        return Ok(None);
    }
    made.push_str(&text[done..]);
    Ok(Some(made))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::budget::EncodeLimit;

    fn replace(pattern: &str, content: &str) -> Change {
        Change::Replace {
            pattern: pattern.into(),
            content: content.into(),
        }
    }

    fn check(steps: Vec<Change>, text: &str, normal: &str) {
        let mut budget = Budget::new(EncodeLimit::NONE, None);
        let normaliser = Normaliser::new(steps).unwrap();
        assert_eq!(normaliser.run(text, &mut budget).unwrap(), normal);
    }

    #[test]
    fn forms_are_those_of_unicode() {
        check(
            vec![Change::Form(Form::Nfc)],
            "e\u{301}\u{1112}\u{1161}",
            "é하",
        );
        check(vec![Change::Form(Form::Nfd)], "é", "e\u{301}");
        check(vec![Change::Form(Form::Nfkc)], "ﬁ①", "fi1");
        check(vec![Change::Form(Form::Nfkd)], "é①", "e\u{301}1");
    }

    #[test]
    fn steps_follow_each_other() {
        let steps = || vec![Change::Prepend("▁".into()), replace(" ", "▁")];
        check(steps(), "a b", "▁a▁b");
        check(steps(), "", "");
    }

    #[test]
    fn growth_is_bounded() {
        let doubling = |n: usize| (0..n).map(|_| replace("a", "aa")).collect();
        assert_eq!(Normaliser::new(doubling(30)).unwrap_err(), 1 << 30);
        assert!(Normaliser::new(doubling(5)).is_ok());
        assert_eq!(Normaliser::new(doubling(200)).unwrap_err(), usize::MAX);
    }
}
