use super::pieces::SPACE_MARK;

/// Where a text with SentencePiece's marks for spaces may be cut before it is merged. In most
/// vocabularies no token has a mark after another character, so no merge goes over such a place,
/// and a text is merged word by word with the same tokens as at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct MarkCut {
    before_marks: bool,
}

impl MarkCut {
    /// For a vocabulary in which `texts` are the only results of merges.
    pub(super) fn of<'t>(mut texts: impl Iterator<Item = &'t [u8]>) -> Self {
        Self {
            before_marks: !texts.any(has_inner_mark),
        }
    }

    pub(super) fn never() -> Self {
        Self {
            before_marks: false,
        }
    }

    /// The words of `text`, without gaps.
    pub(super) fn words(self, text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let end = if self.before_marks {
                word_end(rest)
            } else {
                rest.len()
            };
            let (word, after) = rest.split_at(end);
            rest = after;
            (!word.is_empty()).then_some(word)
        })
    }
}

/// Past the marks that `text` begins with and all up to the next one.
fn word_end(text: &str) -> usize {
    let word = text.trim_start_matches(SPACE_MARK);
    let marks = text.len() - word.len();
    word.find(SPACE_MARK).map_or(text.len(), |end| marks + end)
}

fn has_inner_mark(text: &[u8]) -> bool {
    let mark = SPACE_MARK.as_bytes();
    let mut rest = text;
    while let Some(after) = rest.strip_prefix(mark) {
        rest = after;
    }
    rest.windows(mark.len()).any(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_marks_and_what_follows_them() {
        let check = |merged: &str, words: &[&str]| {
            let cut = MarkCut::of([merged.as_bytes()].into_iter());
            assert_eq!(cut.words("a▁▁b▁c▁").collect::<Vec<_>>(), words);
        };
        check("▁▁b", &["a", "▁▁b", "▁c", "▁"]);
        check("b▁", &["a▁▁b▁c▁"]);
        assert_eq!(MarkCut::never().words("").count(), 0);
    }
}
