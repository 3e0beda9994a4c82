use regex::Regex;

/// How a byte-level vocabulary cuts a text into words before it merges within them.
#[derive(Debug)]
pub(super) struct Splitter {
    steps: Vec<Step>,
    /// A word that is a token as a whole is that token, whatever the merges say.
    pub(super) whole_words: bool,
    /// Whether a file that does not say so wants its first token before every text.
    pub(super) adds_bos: bool,
}

/// One regular expression. Its matches and what lies between them are cut apart, and each goes on
/// to the next step.
///
/// The published expressions end in `\s+(?!\S)|\s+`: white space leaves its last character to the
/// word that follows. Without look-ahead, which only a backtracking engine has (one that gives up
/// on long texts), that is one `\s+`, shortened afterwards.
#[derive(Debug)]
struct Step {
    regex: Regex,
    spaces: Spaces,
}

/// What becomes of a match that is white space only.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spaces {
    /// It stays as it is.
    Whole,
    /// It leaves its last character to the word that follows, if there is one.
    Shared,
    /// The same, unless it ends a line (those have an alternative of their own).
    SharedWithinLine,
}

/// The name of `tokenizer.ggml.pre`, and what it stands for. Vocabularies whose tokenizer has the
/// same rules share an entry.
struct Known {
    names: &'static [&'static str],
    steps: &'static [(&'static str, Spaces)],
    whole_words: bool,
    adds_bos: bool,
}

const DIGIT: (&str, Spaces) = (r"\p{N}", Spaces::Whole);
const GPT2: (&str, Spaces) = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+",
    Spaces::Shared,
);

const KNOWN: &[Known] = &[
    Known {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "pixtral",
            "midm-2.0",
        ],
        steps: &[LLAMA3],
        whole_words: true,
        adds_bos: true,
    },
    Known {
        names: &["dbrx", "smaug-bpe"],
        steps: &[LLAMA3],
        whole_words: false,
        adds_bos: false,
    },
    Known {
        names: &["smollm", "starcoder", "refact", "command-r", "minerva-7b"],
        steps: &[DIGIT, GPT2],
        whole_words: false,
        adds_bos: false,
    },
    Known {
        names: &["gpt-2", "phi-2", "olmo", "mellum", "trillion", "a.x-4.0"],
        steps: &[GPT2],
        whole_words: false,
        adds_bos: false,
    },
    Known {
        names: &["qwen2", "deepseek-r1-qwen", "megrez", "kormo"],
        steps: &[(
            r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
            Spaces::SharedWithinLine,
        )],
        whole_words: false,
        adds_bos: false,
    },
    Known {
        names: &["tekken"],
        steps: &[(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
            Spaces::SharedWithinLine,
        )],
        whole_words: true,
        adds_bos: true,
    },
    Known {
        names: &["gpt-4o"],
        steps: &[(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD]))?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD]))?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
            Spaces::SharedWithinLine,
        )],
        whole_words: false,
        adds_bos: false,
    },
    Known {
        names: &["deepseek-coder"],
        steps: &[
            (r"[\r\n]", Spaces::Whole),
            (r"\s?\p{L}+", Spaces::Whole),
            (r"\s?\p{P}+", Spaces::Whole),
            (r"[一-龥ࠀ-一가-퟿]+", Spaces::Whole),
            DIGIT,
        ],
        whole_words: false,
        adds_bos: false,
    },
];

const LLAMA3: (&str, Spaces) = (
    r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    Spaces::SharedWithinLine,
);

impl Splitter {
    /// The splitter `tokenizer.ggml.pre` names, or `None` when it is not known.
    pub(super) fn named(name: &str) -> Option<Self> {
        let known = KNOWN.iter().find(|known| known.names.contains(&name))?;
        let steps = known.steps.iter().map(|(pattern, spaces)| Step {
            regex: Regex::new(pattern).expect("a pattern of this file"),
            spaces: *spaces,
        });
        Some(Self {
            steps: steps.collect(),
            whole_words: known.whole_words,
            adds_bos: known.adds_bos,
        })
    }

    /// Every name that is known.
    pub(super) fn names() -> Vec<&'static str> {
        KNOWN
            .iter()
            .flat_map(|known| known.names)
            .copied()
            .collect()
    }

    /// Gives the words of `text` to `sink`, in order and without gaps.
    pub(super) fn split<'t>(&self, text: &'t str, sink: &mut dyn FnMut(&'t str)) {
        split(&self.steps, text, sink);
    }
}

fn split<'t>(steps: &[Step], text: &'t str, sink: &mut dyn FnMut(&'t str)) {
    let Some((step, rest)) = steps.split_first() else {
        return sink(text);
    };
    let mut at = 0;
    while let Some(found) = step.regex.find_at(text, at) {
        if found.start() > at {
            split(rest, &text[at..found.start()], sink);
        }
        at = found.start() + step.kept(found.as_str(), found.end() == text.len());
        split(rest, &text[found.start()..at], sink);
    }
    if at < text.len() {
        split(rest, &text[at..], sink);
    }
}

impl Step {
    /// How many bytes of a match belong to it. Never zero: no pattern matches nothing.
    fn kept(&self, found: &str, at_end: bool) -> usize {
        let last = found
            .chars()
            .next_back()
            .filter(|last| last.is_whitespace());
        let (Some(last), false) = (last, at_end) else {
            return found.len();
        };
        let shared = match self.spaces {
            Spaces::Whole => false,
            Spaces::Shared => true,
            Spaces::SharedWithinLine => !matches!(last, '\r' | '\n'),
        };
        let alone = found.len() == last.len_utf8();
        if shared && !alone && found.chars().all(char::is_whitespace) {
            found.len() - last.len_utf8()
        } else {
            found.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, words: &[&str]) {
        let mut found = Vec::new();
        Splitter::named(name)
            .unwrap()
            .split(text, &mut |word| found.push(word));
        assert_eq!(found, words, "{name}");
    }

    #[test]
    fn words_take_the_last_space_before_them() {
        check("gpt-2", "a   b", &["a", "  ", " b"]);
        check("gpt-2", "a\n\n b \t", &["a", "\n\n", " b", " \t"]);
        check("gpt-2", "\nb", &["\n", "b"]);
        check("gpt-2", "we'll  don't", &["we", "'ll", " ", " don", "'t"]);
        check("llama-bpe", "a  \n\n  b", &["a", "  \n\n", " ", " b"]);
        check("llama-bpe", "!\n x", &["!\n", " x"]);
    }

    #[test]
    fn digits_go_by_the_vocabulary() {
        check("gpt-2", "x 12345", &["x", " 12345"]);
        check("smollm", "x 123  4", &["x", " ", "1", "2", "3", "  ", "4"]);
        check("qwen2", "x 123", &["x", " ", "1", "2", "3"]);
        check("llama-bpe", "x 12345", &["x", " ", "123", "45"]);
    }

    #[test]
    fn capitals_begin_a_word_in_tekken() {
        check(
            "tekken",
            "fooBar HTTPServer",
            &["foo", "Bar", " HTTPServer"],
        );
        check("gpt-4o", "We'LL go/\n", &["We'LL", " go", "/\n"]);
    }

    #[test]
    fn a_long_run_of_spaces_is_one_word() {
        let text = " ".repeat(3 << 20) + "x";
        check("llama-bpe", &text, &[&text[..(3 << 20) - 1], " x"]);
    }

    #[test]
    fn an_unknown_name_is_not_guessed() {
        assert!(Splitter::named("default").is_none());
        assert!(
            Splitter::names()
                .iter()
                .all(|name| Splitter::named(name).is_some())
        );
    }
}
