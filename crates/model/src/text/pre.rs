use super::normalise::{Change, Form, Normaliser};
use super::split::{Behaviour, Splitter, Step};

/// What the name in `tokenizer.ggml.pre` stands for.
pub(super) struct Pre {
    pub(super) splitter: Splitter,
    pub(super) normaliser: Normaliser,
    /// A word that is a token as a whole is that token, whatever the merges say.
    pub(super) whole_words: bool,
    /// Whether a file that does not say so wants its first token before every text.
    pub(super) adds_bos: bool,
}

/// A name, and what the tokenizer does that it was named for. How a text is normalised is known
/// only from that: no key of a GGUF file says so.
struct Known {
    name: &'static str,
    rules: &'static Rules,
    /// The original's normaliser is NFC.
    nfc: bool,
}

/// Rules that several tokenizers share.
struct Rules {
    steps: &'static [&'static str],
    whole_words: bool,
    adds_bos: bool,
}

const fn not_normalised(name: &'static str, rules: &'static Rules) -> Known {
    Known {
        name,
        rules,
        nfc: false,
    }
}

const fn nfc(name: &'static str, rules: &'static Rules) -> Known {
    Known {
        name,
        rules,
        nfc: true,
    }
}

/// The originals are those of llama.cpp's `convert_hf_to_gguf_update.py`, which gives each name its
/// repository.
const KNOWN: &[Known] = &[
    // Looked up: no normaliser in Llama 3's published tokenizer.json.
    not_normalised("llama-bpe", &LLAMA3),
    not_normalised("llama3", &LLAMA3),
    not_normalised("llama-v3", &LLAMA3),
    // Looked up: none in transformers' GPT2Converter.
    not_normalised("gpt-2", &GPT2),
    // Looked up: NFC in transformers' Qwen2Converter. The second is Qwen's tokenizer under the name
    // of the model that was distilled into it.
    nfc("qwen2", &QWEN2),
    nfc("deepseek-r1-qwen", &QWEN2),
    // Looked up at second hand, in a public table of tokenizers' settings, which has NFC for
    // Command R and for GPT-NeoX, whose tokenizer OLMo has.
    nfc("command-r", &DIGITS),
    nfc("olmo", &GPT2),
    // Not looked up: as in the tokenizer whose rules each shares.
    nfc("megrez", &QWEN2),
    nfc("kormo", &QWEN2),
    // Not looked up: as most byte-level tokenizers, none.
    not_normalised("falcon3", &LLAMA3),
    not_normalised("pixtral", &LLAMA3),
    not_normalised("midm-2.0", &LLAMA3),
    not_normalised("dbrx", &DBRX),
    not_normalised("smaug-bpe", &DBRX),
    not_normalised("smollm", &DIGITS),
    not_normalised("starcoder", &DIGITS),
    not_normalised("refact", &DIGITS),
    not_normalised("minerva-7b", &DIGITS),
    not_normalised("phi-2", &GPT2),
    not_normalised("mellum", &GPT2),
    not_normalised("trillion", &GPT2),
    not_normalised("a.x-4.0", &GPT2),
    not_normalised("tekken", &TEKKEN),
    not_normalised("gpt-4o", &GPT4O),
    not_normalised("deepseek-coder", &DEEPSEEK_CODER),
];

const DIGIT: &str = r"\p{N}";
/// Also what the `ByteLevel` step of a `tokenizer.json` cuts by.
pub(super) const GPT2_WORDS: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const LLAMA3: Rules = Rules {
    steps: &[LLAMA3_WORDS],
    whole_words: true,
    adds_bos: true,
};
const DBRX: Rules = Rules {
    steps: &[LLAMA3_WORDS],
    whole_words: false,
    adds_bos: false,
};
const DIGITS: Rules = Rules {
    steps: &[DIGIT, GPT2_WORDS],
    whole_words: false,
    adds_bos: false,
};
const GPT2: Rules = Rules {
    steps: &[GPT2_WORDS],
    whole_words: false,
    adds_bos: false,
};
const QWEN2: Rules = Rules {
    steps: &[
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ],
    whole_words: false,
    adds_bos: false,
};
const TEKKEN: Rules = Rules {
    steps: &[
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ],
    whole_words: true,
    adds_bos: true,
};
const GPT4O: Rules = Rules {
    steps: &[
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ],
    whole_words: false,
    adds_bos: false,
};
const DEEPSEEK_CODER: Rules = Rules {
    steps: &[
        r"[\r\n]",
        r"\s?\p{L}+",
        r"\s?\p{P}+",
        r"[一-龥ࠀ-一가-\u{d7ff}]+",
        DIGIT,
    ],
    whole_words: false,
    adds_bos: false,
};

impl Pre {
    /// What `name` stands for, or `None` when it is not known.
    pub(super) fn named(name: &str) -> Option<Self> {
        let known = KNOWN.iter().find(|known| known.name == name)?;
        let step = |pattern: &&str| {
            let step = Step::of(pattern, Behaviour::Isolated);
            step.expect("a pattern of this file")
        };
        let form = known.nfc.then_some(Change::Form(Form::Nfc));
        let normaliser = Normaliser::new(Vec::from_iter(form));
        Some(Self {
            splitter: Splitter::new(known.rules.steps.iter().map(step).collect()),
            normaliser: normaliser.expect("NFC grows a text by less than the limit"),
            whole_words: known.rules.whole_words,
            adds_bos: known.rules.adds_bos,
        })
    }

    /// Every name that is known.
    pub(super) fn names() -> Vec<&'static str> {
        KNOWN.iter().map(|known| known.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::budget::{Budget, EncodeLimit};

    fn check(name: &str, text: &str, words: &[&str]) {
        let mut found = Vec::new();
        let mut budget = Budget::new(EncodeLimit::NONE, None);
        let pre = Pre::named(name).unwrap();
        let mut sink = |word: &str, _: &mut Budget<'_>| {
            found.push(word.to_owned());
            Ok(())
        };
        pre.splitter.split(text, &mut budget, &mut sink).unwrap();
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
        assert!(Pre::named("default").is_none());
        assert!(Pre::names().iter().all(|name| Pre::named(name).is_some()));
    }
}
