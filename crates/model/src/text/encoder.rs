use std::borrow::Cow;

use crate::error::ModelError;

use super::bpe::Bpe;
use super::budget::Budget;
use super::merge::Merger;
use super::normalise::Normaliser;
use super::pieces::Pieces;
use super::special::{Fragment, Marked, Own, Scope, Specials};
use super::split::Splitter;
use super::spm::Spm;

/// How a text becomes tokens, whatever file says so: special tokens are found first, what is
/// between them is normalised, cut into words, and merged within them.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) specials: Specials,
    pub(super) normaliser: Normaliser,
    /// Tokens that are looked for in the normalised text; no control tokens.
    pub(super) normalised: Specials,
    pub(super) prefix: Option<Prefix>,
    pub(super) splitter: Splitter,
    pub(super) merging: Merging,
}

/// How words become tokens.
#[derive(Debug)]
pub(super) enum Merging {
    Bpe(Bpe),
    Spm(Spm),
}

/// A space that is put before a text.
#[derive(Debug, PartialEq)]
pub(super) struct Prefix {
    /// What is written for it, and for every other space.
    pub(super) mark: char,
    pub(super) before: Before,
}

/// Before which parts of a text a [`Prefix`] is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    None,
    /// What the text begins with.
    First,
    /// What the text begins with and what follows a special token.
    All,
}

/// What came out of a text so far.
pub(super) struct Run<'r> {
    pub(super) pieces: &'r Pieces,
    pub(super) merger: Merger,
    pub(super) out: Vec<u32>,
}

impl Encoder {
    /// The tokens of a text.
    pub(super) fn encode(
        &self,
        pieces: &Pieces,
        marked: Marked<'_>,
        budget: &mut Budget<'_>,
    ) -> Result<Vec<u32>, ModelError> {
        let mut run = Run {
            pieces,
            merger: Merger::default(),
            out: Vec::new(),
        };
        let text = marked.text;
        let within = match marked.scope {
            Scope::Trusted | Scope::AsText => Scope::AsText,
            Scope::Chat(_) => Scope::Chat(Own::new(&[])),
        };
        let mut after_special = true;
        self.specials.cut(marked, budget, &mut |fragment, budget| {
            match &fragment {
                Fragment::Token(id) => run.token(*id, budget)?,
                Fragment::Text(at) => {
                    let part = Part {
                        text: &text[at.clone()],
                        is_first: at.start == 0,
                        after_special,
                    };
                    self.fragment((part, &within), &mut run, budget)?;
                }
            }
            after_special = matches!(fragment, Fragment::Token(_));
            Ok(())
        })?;
        Ok(run.out)
    }

    /// `scope` is for the tokens that are looked for in the normalised text, whose bytes are no
    /// longer those that a template's ranges count.
    fn fragment(
        &self,
        (part, scope): (Part<'_>, &Scope),
        run: &mut Run<'_>,
        budget: &mut Budget<'_>,
    ) -> Result<(), ModelError> {
        budget.check(run.out.len(), part.text.len())?;
        let text = self.normaliser.run(part.text, budget)?;
        let part = Part {
            text: &text,
            ..part
        };
        if self.normalised.is_empty() {
            return self.words(part, run, budget);
        }
        let marked = Marked { text: &text, scope };
        self.normalised
            .cut(marked, budget, &mut |fragment, budget| match fragment {
                Fragment::Token(id) => run.token(id, budget),
                Fragment::Text(at) => {
                    let part = Part {
                        is_first: part.is_first && at.start == 0,
                        text: &text[at],
                        ..part
                    };
                    self.words(part, run, budget)
                }
            })
    }

    fn words(
        &self,
        part: Part<'_>,
        run: &mut Run<'_>,
        budget: &mut Budget<'_>,
    ) -> Result<(), ModelError> {
        let text = match &self.prefix {
            Some(prefix) => prefix.put(part.text, part.is_first),
            None => Cow::Borrowed(part.text),
        };
        if text.is_empty() {
            return Ok(());
        }
        self.splitter.split(&text, budget, &mut |word, budget| {
            match &self.merging {
                Merging::Bpe(bpe) => bpe.encode(word, run, budget)?,
                Merging::Spm(spm) => spm.encode(Part { text: word, ..part }, run, budget)?,
            }
            budget.check(run.out.len(), 0)
        })
    }

    /// Bytes of text that a token stands for at most; `None` where there is no such number.
    pub(super) fn token_bytes_max(&self, pieces: &Pieces) -> Option<usize> {
        let swallows = match &self.merging {
            Merging::Bpe(bpe) => bpe.swallows(),
            Merging::Spm(_) => false,
        };
        let strips = self.specials.strip() || self.normalised.strip();
        if swallows || strips || self.splitter.removes() {
            return None;
        }
        Some(
            self.normaliser
                .shrinks_by()?
                .saturating_mul(pieces.longest().max(4)),
        )
    }
}

/// A part of a text without special tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'t> {
    pub(super) text: &'t str,
    /// It begins at the first byte of the whole text.
    pub(super) is_first: bool,
    /// It is the first of the text, or comes directly after a special token.
    pub(super) after_special: bool,
}

impl Run<'_> {
    fn token(&mut self, id: u32, budget: &mut Budget<'_>) -> Result<(), ModelError> {
        budget.spend(1)?;
        self.out.push(id);
        budget.check(self.out.len(), 0)
    }
}

impl Prefix {
    fn put<'t>(&self, text: &'t str, first: bool) -> Cow<'t, str> {
        let mut buffer = [0; 4];
        let mark: &str = self.mark.encode_utf8(&mut buffer);
        let mut text = match self.mark {
            ' ' => Cow::Borrowed(text),
            _ => Cow::Owned(text.replace(' ', mark)),
        };
        let wanted = match self.before {
            Before::None => false,
            Before::First => first,
            Before::All => true,
        };
        if wanted && !text.is_empty() && !text.starts_with(self.mark) {
            text.to_mut().insert(0, self.mark);
        }
        text
    }
}
