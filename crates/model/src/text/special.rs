use std::ops::Range;

use crate::error::ModelError;

use super::budget::Budget;
use super::limits::{ADDED_TOKEN_BYTES_MAX, ASKED_BYTES};

/// What becomes of the names of control tokens (`<|im_end|>`) in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// They become the tokens they name: for rendered chat templates and trusted text.
    Parse,
    /// They are text like any other: for what a stranger wrote. Tokens that the vocabulary lists
    /// as added by its user (runs of line ends in Gemma) are found all the same.
    AsText,
}

/// A token that is found in a text before anything else.
#[derive(Clone, Debug)]
pub(super) struct Special {
    /// At least one byte.
    pub(super) text: Box<str>,
    pub(super) id: u32,
    pub(super) rules: Rules,
}

/// How a special token is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// A control token: found only where all its bytes are the template's own.
    pub(super) control: bool,
    /// It takes the white space before it.
    pub(super) strips_before: bool,
    /// It takes the white space after it.
    pub(super) strips_after: bool,
    /// It is found only between characters that belong to no word.
    pub(super) single_word: bool,
}

/// The tokens that are found in a text before anything else.
#[derive(Debug)]
pub(super) struct Specials {
    /// Sorted by text, each text once.
    tokens: Vec<Special>,
    /// A bit for each first two bytes of a special token, and for each only byte of one.
    pairs: Vec<u64>,
    singles: Box<[bool; 256]>,
}

/// A special token whose text is longer than [`ADDED_TOKEN_BYTES_MAX`].
#[derive(Debug, PartialEq)]
pub(super) struct TooLong(pub(super) u32);

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// Text without special tokens: a range of bytes, never empty.
    Text(Range<usize>),
    /// A special token.
    Token(u32),
}

/// The bytes of a text that its template wrote, in which control tokens are found.
#[derive(Debug)]
pub(super) struct Own(Vec<Range<usize>>);

impl Own {
    /// `ranges` are sorted. Those that touch are one.
    pub(super) fn new(ranges: &[Range<usize>]) -> Self {
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range.clone()),
            }
        }
        Self(merged)
    }

    fn covers(&self, at: &Range<usize>) -> bool {
        let next = self.0.partition_point(|range| range.end < at.end);
        self.0
            .get(next)
            .is_some_and(|range| range.start <= at.start)
    }
}

/// A text, and where control tokens are found in it.
#[derive(Clone, Copy)]
pub(super) struct Marked<'t> {
    pub(super) text: &'t str,
    pub(super) own: &'t Own,
}

impl Specials {
    /// No tokens.
    pub(super) fn none() -> Self {
        Self {
            tokens: Vec::new(),
            pairs: Vec::new(),
            singles: Box::new([false; 256]),
        }
    }

    /// Of two tokens with the same text the last counts.
    pub(super) fn new(mut tokens: Vec<Special>) -> Result<Self, TooLong> {
        let long = |token: &&Special| token.text.len() > ADDED_TOKEN_BYTES_MAX;
        if let Some(token) = tokens.iter().find(long) {
            return Err(TooLong(token.id));
        }
        tokens.reverse();
        tokens.sort_by(|a, b| a.text.cmp(&b.text));
        tokens.dedup_by(|a, b| a.text == b.text);
        let mut specials = Self {
            tokens,
            pairs: vec![0; (1 << 16) / 64],
            singles: Box::new([false; 256]),
        };
        for token in &specials.tokens {
            match token.text.as_bytes() {
                [] => {}
                [byte] => specials.singles[usize::from(*byte)] = true,
                text => specials.pairs[pair(text) / 64] |= 1 << (pair(text) % 64),
            }
        }
        Ok(specials)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether a token may take more text than its own.
    pub(super) fn strip(&self) -> bool {
        let strips = |token: &Special| token.rules.strips_before || token.rules.strips_after;
        self.tokens.iter().any(strips)
    }

    /// Gives the parts of a text to `sink`, in order: special tokens, the leftmost first and the
    /// longest of those that begin there, and what is between them.
    pub(super) fn cut(
        &self,
        marked: Marked<'_>,
        budget: &mut Budget<'_>,
        sink: &mut dyn FnMut(Fragment, &mut Budget<'_>) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let text = marked.text;
        let (mut done, mut from, mut spaces_end) = (0, 0, 0);
        while let Some((at, token)) = self.find(marked, from, budget)? {
            from = at.end;
            let (mut start, mut end) = (at.start, at.end);
            if token.rules.strips_before {
                start = text[..start].trim_end().len().max(done.min(start));
            }
            if token.rules.strips_after {
                // White space that is taken again and again is looked at once.
                if end >= spaces_end {
                    spaces_end = text.len() - text[end..].trim_start().len();
                }
                end = end.max(spaces_end);
            }
            if start > done {
                sink(Fragment::Text(done..start), budget)?;
            }
            sink(Fragment::Token(token.id), budget)?;
            done = end;
        }
        if done < text.len() {
            sink(Fragment::Text(done..text.len()), budget)?;
        }
        Ok(())
    }

    fn find(
        &self,
        marked: Marked<'_>,
        from: usize,
        budget: &mut Budget<'_>,
    ) -> Result<Option<(Range<usize>, &Special)>, ModelError> {
        if self.is_empty() {
            return Ok(None);
        }
        let text = marked.text.as_bytes();
        for at in from..text.len() {
            if at % ASKED_BYTES == 0 {
                budget.spend(ASKED_BYTES)?;
            }
            if !self.may_begin(&text[at..]) {
                continue;
            }
            if let Some(token) = self.longest(marked, at) {
                return Ok(Some((at..at + token.text.len(), token)));
            }
        }
        Ok(None)
    }

    /// The longest token that begins here: the tokens that go on as the text does become fewer
    /// with each byte.
    fn longest(&self, marked: Marked<'_>, start: usize) -> Option<&Special> {
        let mut left = &self.tokens[..];
        let mut best = None;
        for (depth, byte) in marked.text.as_bytes()[start..].iter().enumerate() {
            let at = |token: &Special| token.text.as_bytes().get(depth).copied();
            let first = left.partition_point(|token| at(token) < Some(*byte));
            let past = left.partition_point(|token| at(token) <= Some(*byte));
            left = &left[first..past];
            let Some(token) = left.first() else { break };
            let end = start + depth + 1;
            if token.text.len() == depth + 1 && token.is_found(marked, start..end) {
                best = Some(token);
            }
        }
        best
    }

    fn may_begin(&self, text: &[u8]) -> bool {
        let two = text.len() > 1 && self.pairs[pair(text) / 64] >> (pair(text) % 64) & 1 == 1;
        two || self.singles[usize::from(text[0])]
    }
}

impl Special {
    /// A control token that takes no white space.
    pub(super) fn control(text: &str, id: u32) -> Self {
        Self {
            text: text.into(),
            id,
            rules: Rules {
                control: true,
                ..Rules::default()
            },
        }
    }

    fn is_found(&self, marked: Marked<'_>, at: Range<usize>) -> bool {
        if self.rules.control && !marked.own.covers(&at) {
            return false;
        }
        let is_word = regex_syntax::is_word_character;
        let before = marked.text[..at.start].chars().next_back();
        let after = marked.text[at.end..].chars().next();
        !self.rules.single_word || !before.is_some_and(is_word) && !after.is_some_and(is_word)
    }
}

/// Both of the first two bytes as one number.
fn pair(text: &[u8]) -> usize {
    usize::from(text[0]) << 8 | usize::from(text[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::budget::EncodeLimit;

    fn special(text: &str, id: u32, rules: Rules) -> Special {
        let text = text.into();
        Special { text, id, rules }
    }

    fn tokens() -> Vec<Special> {
        let control = Rules {
            control: true,
            ..Rules::default()
        };
        let stripping = Rules {
            strips_after: true,
            ..control
        };
        vec![
            special("<a>", 0, control),
            special("\n", 1, Rules::default()),
            special("\n\n\n\n", 2, Rules::default()),
            special("<a><b>", 3, Rules::default()),
            special("<r>", 4, stripping),
            special(
                "<l>",
                5,
                Rules {
                    strips_before: true,
                    single_word: true,
                    ..Rules::default()
                },
            ),
        ]
    }

    fn check(text: &str, own: &[Range<usize>], parts: &[&str]) {
        let specials = Specials::new(tokens()).unwrap();
        let mut shown = Vec::new();
        let own = Own::new(own);
        let mut budget = Budget::new(EncodeLimit::NONE, None);
        let mut sink = |fragment, _: &mut Budget<'_>| {
            shown.push(match fragment {
                Fragment::Text(at) => text[at].to_owned(),
                Fragment::Token(id) => format!("{id}"),
            });
            Ok(())
        };
        let marked = Marked { text, own: &own };
        specials.cut(marked, &mut budget, &mut sink).unwrap();
        assert_eq!(shown, parts, "{text:?}");
    }

    fn check_all(text: &str, parts: &[&str]) {
        check(text, std::slice::from_ref(&(0..text.len())), parts);
    }

    #[test]
    fn the_longest_of_those_that_begin_first_is_taken() {
        check_all("<a>\n\n\n\n\nx<a><b>", &["0", "2", "1", "x", "3"]);
        check_all("<a", &["<a"]);
        check_all("", &[]);
    }

    #[test]
    fn control_tokens_are_found_only_where_all_their_bytes_are_the_templates() {
        check("<a>\nx", &[], &["<a>", "1", "x"]);
        check("<a>x<a>", std::slice::from_ref(&(0..3)), &["0", "x<a>"]);
        check("<a>x<a>", &[0..2, 2..5], &["0", "x<a>"]);
        check("<a>x<a>", &[0..2, 3..7], &["<a>x", "0"]);
        check("<a><b>", &[], &["3"]);
    }

    #[test]
    fn white_space_around_a_token_can_go_with_it() {
        check_all("<r> \t x <r>", &["4", "x ", "4"]);
        check_all("<r>\u{a0}\u{2003}x", &["4", "x"]);
        check_all("<a> x", &["0", " x"]);
        // A token within the white space counts, and what follows it is text again.
        check_all("<r> \n\n\n\n x", &["4", "2", " x"]);
        check_all("x \t<l> y", &["x", "5", " y"]);
    }

    #[test]
    fn a_single_word_is_not_found_within_another() {
        check_all("x<l>", &["x<l>"]);
        check_all("<l>é", &["<l>é"]);
        check_all("-<l>-", &["-", "5", "-"]);
    }
}
