//! Damaged tokenizers of Hugging Face directories, field by field.

use serde_json::{Value, json};

use super::Family;
use super::tokenizer_json::{tokenizer_config, tokenizer_json};
use super::vocabulary::Vocabulary;
use crate::rng::Rng;

/// The files of a tokenizer, which may be wrong anywhere.
#[derive(Clone, Debug)]
pub struct TokenizerCase {
    /// `tokenizer.json`.
    pub tokenizer: String,
    /// `tokenizer_config.json`.
    pub config: String,
    /// `generation_config.json`.
    pub generation: String,
}

impl TokenizerCase {
    /// The case with this number: a tokenizer that works, with none to six changes.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let families = [Family::Llama3, Family::Qwen2, Family::Gemma3, Family::Llama];
        let family = families[rng.below(families.len())];
        let vocabulary = if family.is_gemma() {
            Vocabulary::sentence_piece()
        } else {
            Vocabulary::byte_level()
        };
        let mut tokenizer = tokenizer_json(family, &vocabulary);
        let mut config = tokenizer_config(family, &vocabulary);
        let mut generation = json!({"eos_token_id": vocabulary.end, "bos_token_id": 0});
        for _ in 0..rng.below(7) {
            match rng.below(12) {
                0 => spoil(&mut config, &mut rng),
                1 => spoil(&mut generation, &mut rng),
                2 => spoil(&mut tokenizer, &mut rng),
                // What was spoiled may have no fields left.
                _ if !tokenizer["model"].is_object() => {}
                _ => CHANGES[rng.below(CHANGES.len())](&mut tokenizer, &mut rng),
            }
        }
        let mut case = Self {
            tokenizer: tokenizer.to_string(),
            config: config.to_string(),
            generation: generation.to_string(),
        };
        if rng.below(8) == 0 {
            case.tokenizer = spoil_text(&case.tokenizer, &mut rng);
        }
        case
    }
}

/// What is done to a `tokenizer.json`.
const CHANGES: [fn(&mut Value, &mut Rng); 9] = [
    ids,
    vocabulary,
    merges,
    normalizer,
    pre_tokenizer,
    decoder,
    model,
    added_tokens,
    post_processor,
];

const TEXTS: [&str; 22] = [
    "",
    " ",
    "a",
    "e",
    "th",
    "the",
    "\u{120}",
    "\u{120}the",
    "\u{2581}",
    "\u{2581}the",
    "\n",
    "\u{301}",
    "\u{fdfa}",
    "🙂",
    "<s>",
    "</s>",
    "<unk>",
    "<0x0A>",
    "<|im_end|>",
    "aaaaaaaaaaaaaaaa",
    "\0",
    "\u{1112}\u{1161}",
];

const PATTERNS: [&str; 24] = [
    "",
    "a*",
    "a*b|a",
    "(a+)+b",
    "(?:a|aa)+$",
    r"\b\w+",
    r"(a)\1",
    "a++a",
    "[^a]?+a",
    r"\p{L}{1000}{1000}",
    r"(\p{L}{50}\p{N}{50}){20}",
    "(((((((((((((((((((((((((((((((((a)))))))))))))))))))))))))))))))))",
    "[",
    r"\s+(?!\S)|\s+",
    r"(?i:'s)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+",
    r"a(?=b)",
    r"(?<!a)b",
    r"[\p{L}&&[^\p{Lu}]]+",
    "(?x) a b # c",
    r"\x{10FFFF}",
    r"(?s-u:.)",
    ".",
    r"[a-z]{0,100000}x",
    r"\p{L}*\p{N}|\p{L}",
];

fn text(rng: &mut Rng) -> String {
    match rng.below(40) {
        0 => "x".repeat(1 << rng.below(14)),
        1 => TEXTS[rng.below(TEXTS.len())].repeat(1 + rng.below(100)),
        _ => TEXTS[rng.below(TEXTS.len())].to_owned(),
    }
}

fn pick(all: &[&'static str], rng: &mut Rng) -> &'static str {
    all[rng.below(all.len())]
}

fn number(rng: &mut Rng) -> Value {
    let numbers = [
        json!(0),
        json!(1),
        json!(2),
        json!(42),
        json!(258),
        json!(300),
        json!(65_536),
        json!(4_194_303),
        json!(4_194_304),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(-1),
        json!(1.5),
        json!(1e300),
    ];
    numbers[rng.below(numbers.len())].clone()
}

/// Any value at all.
fn value(rng: &mut Rng) -> Value {
    match rng.below(9) {
        0 => Value::Null,
        1 => json!(rng.below(2) == 0),
        2 | 3 => number(rng),
        4 | 5 => json!(text(rng)),
        6 => json!([number(rng), text(rng)]),
        7 => json!({"type": text(rng), "content": text(rng)}),
        _ => deep(rng),
    }
}

/// A list in a list, and so on.
fn deep(rng: &mut Rng) -> Value {
    (0..depth(rng)).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}

/// A sequence of steps in a sequence, and so on.
fn sequences(rng: &mut Rng, key: &str) -> Value {
    // `json!` would copy what is within at every level.
    (0..depth(rng)).fold(Value::Null, |inner, _| {
        let mut outer = serde_json::Map::new();
        outer.insert("type".to_owned(), json!("Sequence"));
        outer.insert(key.to_owned(), Value::Array(vec![inner]));
        Value::Object(outer)
    })
}

/// Far past what is read, and no deeper than a thread's stack holds when it is written out.
fn depth(rng: &mut Rng) -> usize {
    [2, 30, 100, 126, 200, 600][rng.below(6)]
}

/// Puts any value at any place, or takes a place away.
fn spoil(whole: &mut Value, rng: &mut Rng) {
    let place = match whole {
        Value::Object(map) if !map.is_empty() => {
            let at = rng.below(map.len());
            let key = map.keys().nth(at).cloned().unwrap_or_default();
            match rng.below(8) {
                0 => {
                    map.remove(&key);
                    return;
                }
                1 => {
                    map.insert(text(rng), value(rng));
                    return;
                }
                _ => map.get_mut(&key),
            }
        }
        Value::Array(all) if !all.is_empty() => {
            let at = rng.below(all.len());
            all.get_mut(at)
        }
        _ => None,
    };
    match place {
        Some(inner) if rng.below(3) > 0 => spoil(inner, rng),
        Some(inner) => *inner = value(rng),
        None => *whole = value(rng),
    }
}

/// Cuts the text, changes a byte of it, or puts half a surrogate pair into it.
fn spoil_text(text: &str, rng: &mut Rng) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = rng.below(bytes.len());
    match rng.below(4) {
        0 => bytes.truncate(at),
        1 => bytes[at] = b"\"[]{},:0\\x"[rng.below(10)],
        2 => {
            return text
                .replacen("\"the\"", "\"\\ud800\"", 1)
                .replacen("\"e\"", "\"\\udc00e\"", 1);
        }
        _ => {
            let deep = "[".repeat(1 << rng.below(16));
            bytes.splice(at..at, deep.bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ids(whole: &mut Value, rng: &mut Rng) {
    let Some(tokens) = whole["added_tokens"]
        .as_array_mut()
        .filter(|all| !all.is_empty())
    else {
        return;
    };
    let at = rng.below(tokens.len());
    if let Some(token) = tokens[at].as_object_mut() {
        token.insert("id".to_owned(), number(rng));
    }
}

fn vocabulary(whole: &mut Value, rng: &mut Rng) {
    let vocab = &mut whole["model"]["vocab"];
    if !vocab.is_object() {
        *vocab = json!({});
    }
    match rng.below(6) {
        0 => *vocab = json!({}),
        1 => *vocab = json!([["a", -1.0], ["b", -2.0]]),
        2 => vocab[text(rng)] = value(rng),
        3 => {
            for id in 0..rng.below(3000) {
                vocab[format!("extra{id}")] = json!(1000 + id * (1 + rng.below(3)));
            }
        }
        _ => vocab[text(rng)] = number(rng),
    }
}

fn merges(whole: &mut Value, rng: &mut Rng) {
    let merge = match rng.below(7) {
        0 => json!(format!("{} {}", text(rng), text(rng))),
        1 => json!([text(rng), text(rng)]),
        2 => json!([text(rng)]),
        3 => json!([text(rng), text(rng), text(rng)]),
        4 => json!(text(rng)),
        5 => json!(["t", "h"]),
        _ => value(rng),
    };
    match whole["model"]["merges"].as_array_mut() {
        Some(all) => {
            let at = rng.below(all.len() + 1);
            all.insert(at, merge);
        }
        None => whole["model"]["merges"] = json!([merge]),
    }
}

fn normalizer(whole: &mut Value, rng: &mut Rng) {
    let one = |rng: &mut Rng| match rng.below(12) {
        0 => json!({"type": "NFC"}),
        1 => json!({"type": "NFD"}),
        2 => json!({"type": "NFKC"}),
        3 => json!({"type": "NFKD"}),
        4 => json!({"type": "Prepend", "prepend": text(rng)}),
        5 => json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}),
        6 => {
            json!({"type": "Replace", "pattern": {"Regex": PATTERNS[rng.below(PATTERNS.len())]}, "content": text(rng)})
        }
        7 => {
            json!({"type": pick(&["Lowercase", "Nmt", "StripAccents", "BertNormalizer", "ByteLevel"], rng)})
        }
        8 => sequences(rng, "normalizers"),
        _ => json!({"type": "Replace", "pattern": {"String": text(rng)}, "content": text(rng)}),
    };
    let steps: Vec<Value> = (0..1 + rng.below(4)).map(|_| one(rng)).collect();
    whole["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
}

fn pre_tokenizer(whole: &mut Value, rng: &mut Rng) {
    let behaviours = [
        "Isolated",
        "Removed",
        "Contiguous",
        "MergedWithPrevious",
        "MergedWithNext",
        "None",
    ];
    let one = |rng: &mut Rng| match rng.below(10) {
        0 => json!({"type": "Digits", "individual_digits": rng.below(2) == 0}),
        1 => json!({"type": "Punctuation", "behavior": behaviours[rng.below(6)]}),
        2 => {
            json!({"type": "Metaspace", "replacement": text(rng), "prepend_scheme": pick(&["first", "never", "always"], rng), "split": rng.below(2) == 0})
        }
        3 => json!({"type": "FixedLength", "length": 0}),
        4 => {
            json!({"type": "Split", "pattern": {"String": text(rng)}, "behavior": behaviours[rng.below(6)], "invert": rng.below(2) == 0})
        }
        5 => sequences(rng, "pretokenizers"),
        6 => {
            json!({"type": pick(&["Whitespace", "BertPreTokenizer", "UnicodeScripts", "CharDelimiterSplit"], rng)})
        }
        _ => {
            json!({"type": "Split", "pattern": {"Regex": PATTERNS[rng.below(PATTERNS.len())]}, "behavior": behaviours[rng.below(6)], "invert": rng.below(4) == 0})
        }
    };
    let mut steps: Vec<Value> = (0..1 + rng.below(3)).map(|_| one(rng)).collect();
    if rng.below(4) > 0 && whole["decoder"]["type"] == "ByteLevel" {
        let letters = json!({"type": "ByteLevel", "add_prefix_space": rng.below(2) == 0, "use_regex": rng.below(2) == 0});
        steps.push(letters);
    }
    whole["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": steps});
}

fn decoder(whole: &mut Value, rng: &mut Rng) {
    whole["decoder"] = match rng.below(8) {
        0 => Value::Null,
        1 => json!({"type": "ByteFallback"}),
        2 => json!({"type": "Metaspace", "replacement": "\u{2581}", "add_prefix_space": true}),
        3 => json!({"type": "Strip", "content": " ", "start": rng.below(3), "stop": rng.below(2)}),
        4 => json!({"type": "Replace", "pattern": {"String": text(rng)}, "content": text(rng)}),
        5 => sequences(rng, "decoders"),
        6 => json!({"type": pick(&["WordPiece", "CTC", "BPEDecoder"], rng)}),
        _ => json!({"type": "ByteLevel"}),
    };
}

fn model(whole: &mut Value, rng: &mut Rng) {
    let model = &mut whole["model"];
    match rng.below(9) {
        0 => model["unk_token"] = json!(text(rng)),
        1 => model["fuse_unk"] = json!(rng.below(2) == 0),
        2 => model["byte_fallback"] = json!(rng.below(2) == 0),
        3 => model["ignore_merges"] = json!(rng.below(2) == 0),
        4 => model["dropout"] = number(rng),
        5 => model["continuing_subword_prefix"] = json!(text(rng)),
        6 => model["end_of_word_suffix"] = json!(text(rng)),
        7 => model["type"] = json!(pick(&["Unigram", "WordPiece", "WordLevel", "BPE"], rng)),
        _ => spoil(model, rng),
    }
}

fn added_tokens(whole: &mut Value, rng: &mut Rng) {
    let mut flag = || json!(rng.below(2) == 0);
    let mut token = json!({
        "single_word": flag(), "lstrip": flag(), "rstrip": flag(), "normalized": flag(), "special": flag(),
    });
    token["content"] = json!(text(rng));
    token["id"] = match rng.below(3) {
        0 => number(rng),
        _ => json!(290 + rng.below(200)),
    };
    if let Some(all) = whole["added_tokens"].as_array_mut() {
        all.push(token);
    }
}

fn post_processor(whole: &mut Value, rng: &mut Rng) {
    whole["post_processor"] = match rng.below(4) {
        0 => sequences(rng, "processors"),
        1 => json!({"type": "RobertaProcessing", "sep": ["a", 1], "cls": ["b", 2]}),
        2 => {
            json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": text(rng), "type_id": 0}}], "pair": [], "special_tokens": {}})
        }
        _ => value(rng),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_case_and_seeds_differ() {
        assert_eq!(
            TokenizerCase::new(7).tokenizer,
            TokenizerCase::new(7).tokenizer
        );
        let mut all: Vec<String> = (0..100)
            .map(|seed| TokenizerCase::new(seed).tokenizer)
            .collect();
        all.sort();
        all.dedup();
        assert!(all.len() > 70, "{}", all.len());
    }
}
