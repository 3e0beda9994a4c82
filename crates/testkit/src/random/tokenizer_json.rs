//! The tokenizer's files of a Hugging Face directory.

use serde_json::{Map, Value, json};

use super::Family;
use super::vocabulary::Vocabulary;

/// How Llama 3 cuts text; Qwen 2 takes digits one by one.
const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `tokenizer.json`.
pub(crate) fn tokenizer_json(family: Family, vocabulary: &Vocabulary) -> Value {
    let ids = vocabulary.tokens.iter().enumerate();
    let vocab: Map<_, _> = ids.map(|(id, token)| (token.clone(), json!(id))).collect();
    let merges: Vec<_> = vocabulary.merges.iter().map(|(a, b)| [a, b]).collect();
    let gemma = family.is_gemma();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(vocabulary),
        "normalizer": normalizer(family),
        "pre_tokenizer": pre_tokenizer(family),
        "post_processor": post_processor(family, vocabulary),
        "decoder": decoder(family),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": gemma.then_some("<unk>"),
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": gemma,
            "byte_fallback": gemma,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

/// `tokenizer_config.json`.
pub(crate) fn tokenizer_config(family: Family, vocabulary: &Vocabulary) -> Value {
    let token = |id: u32| &vocabulary.tokens[id as usize];
    json!({
        "add_bos_token": family.is_gemma(),
        "bos_token": token(vocabulary.begin),
        "eos_token": token(vocabulary.end),
        "chat_template": (!family.is_gemma()).then_some(super::vocabulary::CHATML),
    })
}

fn added_tokens(vocabulary: &Vocabulary) -> Vec<Value> {
    let added = |&id: &u32| {
        json!({
            "id": id,
            "content": vocabulary.tokens[id as usize],
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true,
        })
    };
    vocabulary.control.iter().map(added).collect()
}

fn normalizer(family: Family) -> Value {
    match family {
        Family::Qwen2 | Family::Qwen3 => json!({"type": "NFC"}),
        _ if family.is_gemma() => {
            json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"})
        }
        _ => Value::Null,
    }
}

fn pre_tokenizer(family: Family) -> Value {
    let split = |pattern: &str| {
        json!({
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": false,
        })
    };
    let first = match family {
        _ if family.is_gemma() => {
            return json!({
                "type": "Split",
                "pattern": {"String": " "},
                "behavior": "MergedWithPrevious",
                "invert": false,
            });
        }
        Family::Llama3 | Family::Olmo2 | Family::Olmo3 | Family::SmolLm3 => split(LLAMA3_PATTERN),
        Family::Qwen2 | Family::Qwen3 => split(&LLAMA3_PATTERN.replace("{1,3}", "")),
        _ => json!({"type": "Digits", "individual_digits": true}),
    };
    // After a pattern of its own, the letters are all that the second part does.
    let use_regex = first["type"] == "Digits";
    let letters = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": true,
        "use_regex": use_regex,
    });
    json!({"type": "Sequence", "pretokenizers": [first, letters]})
}

fn post_processor(family: Family, vocabulary: &Vocabulary) -> Value {
    if !family.is_gemma() {
        return Value::Null;
    }
    let begin = &vocabulary.tokens[vocabulary.begin as usize];
    let special = json!({"SpecialToken": {"id": begin, "type_id": 0}});
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    json!({
        "type": "TemplateProcessing",
        "single": [special, text("A")],
        "pair": [special, text("A"), special, text("B")],
        "special_tokens": {
            begin: {"id": begin, "ids": [vocabulary.begin], "tokens": [begin]},
        },
    })
}

fn decoder(family: Family) -> Value {
    if family.is_gemma() {
        json!({
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        })
    } else {
        json!({
            "type": "ByteLevel",
            "add_prefix_space": true,
            "trim_offsets": true,
            "use_regex": true,
        })
    }
}
