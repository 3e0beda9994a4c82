use std::ops::Range;

use crate::error::ModelError;

use super::budget::Budget;
use super::limits::{ADDED_TOKEN_BYTES_MAX, ASKED_BYTES, SPECIALS_EFFORT};

/// What becomes of the names of control tokens (`<|im_end|>`) in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// They become the tokens they name: for rendered chat templates and trusted text.
    Parse,
    /// They are text like any other: for text that came from somebody else. Tokens that the
    /// vocabulary adds without calling them control tokens (runs of line ends in Gemma, `<think>` in
    /// Qwen3) are found all the same, as the tokenizers library and llama.cpp find them.
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
    pub(super) role: Role,
    /// It takes the white space before it.
    pub(super) strips_before: bool,
    /// It takes the white space after it.
    pub(super) strips_after: bool,
    /// It is found only between characters that belong to no word.
    pub(super) single_word: bool,
}

/// In which texts a special token is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// It stands for text, so it is found everywhere.
    #[default]
    Text,
    /// It may stand for structure, though the vocabulary calls it no control token: found in every
    /// text but a message of a chat.
    Structure,
    /// The same, where other texts are searched for it only when they are normalised: found in what
    /// a chat's template wrote.
    StructureOfTemplate,
    /// A control token: found where the text is trusted, and in what a chat's template wrote.
    Control,
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

/// How far a search through a text has come.
#[derive(Default)]
struct Search {
    from: usize,
    /// Bytes of the text that were held against tokens, each as often as it was.
    compared: usize,
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

/// Which tokens a text is searched for.
#[derive(Debug)]
pub(super) enum Scope {
    /// All of them.
    Trusted,
    /// All but control tokens.
    AsText,
    /// A chat: in the ranges that its template wrote all of them, in messages those that stand for
    /// text.
    Chat(Own),
}

/// The bytes of a text that its template wrote.
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

    pub(super) fn covers(&self, at: &Range<usize>) -> bool {
        let next = self.0.partition_point(|range| range.end < at.end);
        self.0
            .get(next)
            .is_some_and(|range| range.start <= at.start)
    }
}

/// A text, and which tokens it is searched for.
#[derive(Clone, Copy)]
pub(super) struct Marked<'t> {
    pub(super) text: &'t str,
    pub(super) scope: &'t Scope,
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
        let mut search = Search::default();
        let (mut done, mut spaces_end) = (0, 0);
        while let Some((at, token)) = self.find(marked, &mut search, budget)? {
            search.from = at.end;
            let (mut start, mut end) = (at.start, at.end);
            if token.rules.strips_before {
                let open = done.min(start);
                start = open + text[open..start].trim_end().len();
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
        search: &mut Search,
        budget: &mut Budget<'_>,
    ) -> Result<Option<(Range<usize>, &Special)>, ModelError> {
        if self.is_empty() {
            return Ok(None);
        }
        let text = marked.text.as_bytes();
        for at in search.from..text.len() {
            if at % ASKED_BYTES == 0 {
                budget.spend(ASKED_BYTES)?;
            }
            if !self.may_begin(&text[at..]) {
                continue;
            }
            let (token, compared) = self.longest(marked, at);
            budget.spend(compared)?;
            search.compared += compared;
            if search.compared > SPECIALS_EFFORT.saturating_mul(text.len() + 1024) {
                let what = "the text begins like long added tokens again and again".to_owned();
                return Err(ModelError::Tokenizer { what });
            }
            if let Some(token) = token {
                return Ok(Some((at..at + token.text.len(), token)));
            }
        }
        Ok(None)
    }

    /// The longest token that begins here, and how many bytes were compared: the tokens that go on
    /// as the text does become fewer with each byte.
    fn longest(&self, marked: Marked<'_>, start: usize) -> (Option<&Special>, usize) {
        let mut left = &self.tokens[..];
        let (mut best, mut compared) = (None, 0);
        for (depth, byte) in marked.text.as_bytes()[start..].iter().enumerate() {
            compared = depth + 1;
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
        (best, compared)
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
                role: Role::Control,
                ..Rules::default()
            },
        }
    }

    fn is_found(&self, marked: Marked<'_>, at: Range<usize>) -> bool {
        let in_scope = match (self.rules.role, marked.scope) {
            (Role::Text, _) | (Role::Structure, Scope::Trusted | Scope::AsText) => true,
            (Role::Control, Scope::Trusted) => true,
            (Role::Control, Scope::AsText) => false,
            (Role::StructureOfTemplate, Scope::Trusted | Scope::AsText) => false,
            (_, Scope::Chat(own)) => own.covers(&at),
        };
        if !in_scope {
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
            role: Role::Control,
            ..Rules::default()
        };
        let structure = Rules {
            role: Role::Structure,
            ..Rules::default()
        };
        let of_template = Rules {
            role: Role::StructureOfTemplate,
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
            special("<think>", 6, structure),
            special("<tool>", 7, of_template),
        ]
    }

    fn check(text: &str, scope: &Scope, parts: &[&str]) {
        let specials = Specials::new(tokens()).unwrap();
        let mut shown = Vec::new();
        let mut budget = Budget::new(EncodeLimit::NONE, None);
        let mut sink = |fragment, _: &mut Budget<'_>| {
            shown.push(match fragment {
                Fragment::Text(at) => text[at].to_owned(),
                Fragment::Token(id) => format!("{id}"),
            });
            Ok(())
        };
        let marked = Marked { text, scope };
        specials.cut(marked, &mut budget, &mut sink).unwrap();
        assert_eq!(shown, parts, "{text:?}");
    }

    fn check_all(text: &str, parts: &[&str]) {
        check(text, &Scope::Trusted, parts);
    }

    fn check_chat(text: &str, own: &[Range<usize>], parts: &[&str]) {
        check(text, &Scope::Chat(Own::new(own)), parts);
    }

    #[test]
    fn the_longest_of_those_that_begin_first_is_taken() {
        check_all("<a>\n\n\n\n\nx<a><b>", &["0", "2", "1", "x", "3"]);
        check_all("<a", &["<a"]);
        check_all("", &[]);
    }

    #[test]
    fn control_tokens_are_found_only_where_all_their_bytes_are_the_templates() {
        check_chat("<a>\nx", &[], &["<a>", "1", "x"]);
        check_chat("<a>x<a>", std::slice::from_ref(&(0..3)), &["0", "x<a>"]);
        check_chat("<a>x<a>", &[0..2, 2..5], &["0", "x<a>"]);
        check_chat("<a>x<a>", &[0..2, 3..7], &["<a>x", "0"]);
        check_chat("<a><b>", &[], &["3"]);
    }

    #[test]
    fn structure_is_found_everywhere_but_in_messages() {
        let text = "<think><tool><a>\n";
        check(text, &Scope::Trusted, &["6", "<tool>", "0", "1"]);
        check(text, &Scope::AsText, &["6", "<tool><a>", "1"]);
        check_chat(text, &[], &["<think><tool><a>", "1"]);
        check_chat(text, &[0..7, 7..13], &["6", "7", "<a>", "1"]);
        check_chat(text, &[0..5, 8..13], &["<think><tool><a>", "1"]);
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

    /// The least processor's time, in seconds, that cutting takes of three tries.
    #[expect(clippy::disallowed_methods, reason = "the test is about time")]
    fn seconds(specials: &Specials, text: &str) -> f64 {
        let tries = (0..3).map(|_| {
            let begun = std::time::Instant::now();
            let scope = &Scope::Chat(Own::new(&[]));
            let mut budget = Budget::new(EncodeLimit::NONE, None);
            let cut = specials.cut(Marked { text, scope }, &mut budget, &mut |_, _| Ok(()));
            // Too much work is refused, which ends it too.
            assert!(matches!(cut, Ok(()) | Err(ModelError::Tokenizer { .. })));
            begun.elapsed().as_secs_f64()
        });
        tries.fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn time_grows_as_the_text_does_whatever_the_tokens_are() {
        let around = Rules {
            strips_before: true,
            strips_after: true,
            ..Rules::default()
        };
        let before = Rules {
            strips_before: true,
            ..Rules::default()
        };
        let control = Rules {
            role: Role::Control,
            ..Rules::default()
        };
        let cases = [
            (" ", special(" ", 0, before)),
            (" ", special("  ", 0, before)),
            (" ", special(" ", 0, around)),
            ("x ", special("x", 0, around)),
            ("x", special(&"x".repeat(ADDED_TOKEN_BYTES_MAX), 0, control)),
            ("x", special("y", 0, before)),
        ];
        for (part, token) in cases {
            let specials = Specials::new(vec![token]).unwrap();
            let time = |bytes: usize| seconds(&specials, &part.repeat(bytes / part.len()));
            let (small, large) = (time(1 << 18), time(1 << 20));
            // Four times the work, and room for a busy machine. A square would be sixteen times.
            assert!(large < 8.0 * small + 0.2, "{part:?}: {small} s, {large} s");
        }
    }

    #[test]
    fn a_text_that_begins_like_long_tokens_everywhere_is_refused() {
        let control = Rules {
            role: Role::Control,
            ..Rules::default()
        };
        let token = special(&"x".repeat(ADDED_TOKEN_BYTES_MAX), 0, control);
        let specials = Specials::new(vec![token]).unwrap();
        let cut = |text: &str| {
            let scope = &Scope::AsText;
            let mut budget = Budget::new(EncodeLimit::NONE, None);
            specials.cut(Marked { text, scope }, &mut budget, &mut |_, _| Ok(()))
        };
        let refused = cut(&"x".repeat(100_000));
        assert!(matches!(refused, Err(ModelError::Tokenizer { .. })));
        assert!(cut(&"x y".repeat(100_000)).is_ok());
    }

    #[test]
    fn a_single_word_is_not_found_within_another() {
        check_all("x<l>", &["x<l>"]);
        check_all("<l>é", &["<l>é"]);
        check_all("-<l>-", &["-", "5", "-"]);
    }
}
