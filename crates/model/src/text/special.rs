use std::ops::Range;

use super::index::{Crowded, Index, hash_bytes};
use super::pieces::{Kind, Pieces};

/// What becomes of the names of control tokens (`<|im_end|>`) in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// They become the tokens they name: for rendered chat templates and trusted text.
    Parse,
    /// They are text like any other: for what a stranger wrote. Tokens that the vocabulary lists
    /// as added by its user (runs of line ends in Gemma) are found all the same.
    AsText,
}

/// The tokens that are found in a text before anything else.
#[derive(Debug)]
pub(super) struct Specials {
    index: Index,
    /// Every length they have, longest first.
    lengths: Vec<usize>,
    /// A bit for each first two bytes of a special token, and for each only byte of one.
    pairs: Vec<u64>,
    singles: Box<[bool; 256]>,
    /// Control tokens take the white space after them (Phi-3).
    strips_after: bool,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// Text without special tokens: a range of bytes, never empty.
    Text(Range<usize>),
    /// A special token.
    Token(u32),
}

/// A special token, or white space it has taken, found at these bytes.
struct Found {
    at: Range<usize>,
    id: u32,
}

impl Specials {
    pub(super) fn of(pieces: &Pieces, strips_after: bool) -> Result<Self, Crowded> {
        let is_special = |id: &u32| {
            matches!(pieces.kind(*id), Some(Kind::Added | Kind::Control))
                && !pieces.text(*id).is_empty()
        };
        // There are fewer than 2^31 tokens.
        let ids: Vec<u32> = (0..pieces.len() as u32).filter(is_special).collect();
        let mut specials = Self {
            index: Index::with_room_for(ids.len()),
            lengths: Vec::new(),
            pairs: vec![0; (1 << 16) / 64],
            singles: Box::new([false; 256]),
            strips_after,
        };
        for id in ids {
            let text = pieces.text(id);
            specials.index.insert(hash_bytes(text), id)?;
            specials.lengths.push(text.len());
            match text {
                [byte] => specials.singles[usize::from(*byte)] = true,
                _ => specials.pairs[pair(text) / 64] |= 1 << (pair(text) % 64),
            }
        }
        specials.lengths.sort_unstable_by(|a, b| b.cmp(a));
        specials.lengths.dedup();
        Ok(specials)
    }

    /// Cuts `text` at its special tokens as llama.cpp does: all of the longest first, leftmost
    /// first among equals, then the next longest in what is left. With
    /// [`SpecialTokens::AsText`] only those that the user or the model added count.
    pub(super) fn cut(&self, text: &str, pieces: &Pieces, parse: SpecialTokens) -> Vec<Fragment> {
        let mut found = self.find(text.as_bytes(), pieces, parse);
        found.sort_unstable_by_key(|found| found.at.start);
        let mut fragments = Vec::with_capacity(2 * found.len() + 1);
        let mut end = 0;
        for Found { at, id } in found {
            if at.start > end {
                fragments.push(Fragment::Text(end..at.start));
            }
            fragments.push(Fragment::Token(id));
            end = at.end;
        }
        if end < text.len() {
            fragments.push(Fragment::Text(end..text.len()));
        }
        fragments
    }

    fn find(&self, text: &[u8], pieces: &Pieces, parse: SpecialTokens) -> Vec<Found> {
        let mut found = Vec::new();
        let mut starts: Vec<usize> = (0..text.len())
            .filter(|at| self.may_begin(&text[*at..]))
            .collect();
        let mut taken = vec![false; if starts.is_empty() { 0 } else { text.len() }];
        for len in &self.lengths {
            for &start in &starts {
                let end = start + len;
                // What is taken is at least as long as this, so cannot lie between the two.
                if end > text.len() || taken[start] || taken[end - 1] {
                    continue;
                }
                let here = &text[start..end];
                let Some(id) = self
                    .index
                    .find(hash_bytes(here), |id| pieces.text(id) == here)
                else {
                    continue;
                };
                let control = pieces.kind(id) == Some(Kind::Control);
                if control && parse == SpecialTokens::AsText {
                    continue;
                }
                let strips = self.strips_after && control;
                let end = if strips {
                    past_space(text, &taken, end)
                } else {
                    end
                };
                taken[start..end].fill(true);
                found.push(Found { at: start..end, id });
            }
            starts.retain(|start| !taken[*start]);
        }
        found
    }

    fn may_begin(&self, text: &[u8]) -> bool {
        let two = text.len() > 1 && self.pairs[pair(text) / 64] >> (pair(text) % 64) & 1 == 1;
        two || self.singles[usize::from(text[0])]
    }
}

/// Both of the first two bytes as one number.
fn pair(text: &[u8]) -> usize {
    usize::from(text[0]) << 8 | usize::from(text[1])
}

fn past_space(text: &[u8], taken: &[bool], start: usize) -> usize {
    // As C's isspace has it, so with the vertical tab.
    let is_space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
    let more = (start..text.len()).take_while(|at| is_space(text[*at]) && !taken[*at]);
    start + more.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [(&str, Kind); 6] = [
        ("<a>", Kind::Control),
        ("\n", Kind::Added),
        ("\n\n\n\n", Kind::Added),
        ("<a><b>", Kind::Added),
        ("", Kind::Control),
        ("x", Kind::Plain),
    ];

    fn check(text: &str, parse: SpecialTokens, strips: bool, parts: &[&str]) {
        let mut pieces = Pieces::default();
        TOKENS
            .iter()
            .for_each(|(text, kind)| pieces.push(text.as_bytes(), *kind));
        let cut = Specials::of(&pieces, strips)
            .unwrap()
            .cut(text, &pieces, parse);
        let shown = cut.into_iter().map(|fragment| match fragment {
            Fragment::Text(at) => text[at].to_owned(),
            Fragment::Token(id) => format!("{id}"),
        });
        assert_eq!(shown.collect::<Vec<_>>(), parts, "{text:?}");
    }

    #[test]
    fn the_longest_goes_first_wherever_it_is() {
        check(
            "<a>\n\n\n\n\nx<a><b>",
            SpecialTokens::Parse,
            false,
            &["0", "2", "1", "x", "3"],
        );
        check("<a", SpecialTokens::Parse, false, &["<a"]);
        check("", SpecialTokens::Parse, false, &[]);
    }

    #[test]
    fn control_tokens_can_be_text() {
        check("<a>\nx", SpecialTokens::AsText, false, &["<a>", "1", "x"]);
    }

    #[test]
    fn white_space_after_a_control_token_can_go_with_it() {
        check(
            "<a> \t x <a>",
            SpecialTokens::Parse,
            true,
            &["0", "x ", "0"],
        );
        check(
            "<a> \n\n\n\n x",
            SpecialTokens::Parse,
            true,
            &["0", "2", " x"],
        );
    }
}
