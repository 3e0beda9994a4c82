//! A small byte-level vocabulary.

use std::sync::OnceLock;

use gogrid_model::Tokenizer;
use serde_json::{Map, Value, json};

use crate::grammars::Grammars;

/// Tokens 256 and on: pieces of JSON and of words, each with the bytes of several characters.
const PIECES: [&str; 39] = [
    "{\"",
    "\":",
    "\": ",
    "\",",
    "\", \"",
    "\"}",
    "{}",
    "[]",
    "[{",
    "}]",
    "},",
    "},{",
    "true",
    "false",
    "null",
    "tr",
    "ue",
    "  ",
    "\n  ",
    "name",
    "\"name",
    "\"name\":",
    "arguments",
    "12",
    "345",
    "-1",
    "0.5",
    "e+",
    "\\u00",
    "\\n",
    "ab",
    "abc",
    "bb",
    "é",
    "語",
    "tool",
    "<tool",
    "_call>",
    "fun",
];

/// Ids after the pieces: two control tokens, of which the first ends a text, and two that are text.
pub(crate) const END: u32 = 256 + PIECES.len() as u32;
pub(crate) const CONTROL: u32 = END + 1;

const ADDED: [(&str, bool); 4] = [
    ("<|im_end|>", true),
    ("<|tool_call|>", true),
    ("<tool_call>", false),
    ("</tool_call>", false),
];

/// GPT-2's letters for bytes.
fn letters() -> Vec<char> {
    let printed = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    let letter = |byte: u32| {
        let code = if printed(byte) { byte } else { next };
        next += u32::from(!printed(byte));
        char::from_u32(code).unwrap()
    };
    (0..256).map(letter).collect()
}

/// A tokenizer with the bytes, the pieces and the added tokens; with `ends`, one token ends a text.
pub(crate) fn tokenizer(ends: bool) -> Tokenizer {
    let letters = letters();
    let written = |text: &[u8]| {
        text.iter()
            .map(|byte| letters[usize::from(*byte)])
            .collect()
    };
    let bytes = (0..=255u8).map(|byte| written(&[byte]));
    let pieces = PIECES.iter().map(|piece| written(piece.as_bytes()));
    let tokens = bytes.chain(pieces).zip(0..);
    let vocab: Map<String, Value> = tokens
        .map(|(text, id): (String, u32)| (text, id.into()))
        .collect();
    let added = ADDED.iter().zip(END..).map(|((text, special), id)| {
        json!({
            "id": id, "content": text, "special": special,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    });
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    let tokenizer = json!({
        "version": "1.0", "added_tokens": added.collect::<Vec<_>>(),
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    let config = match ends {
        true => json!({ "eos_token": "<|im_end|>" }),
        false => json!({}),
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    write("tokenizer.json", &tokenizer);
    write("tokenizer_config.json", &config);
    Tokenizer::open(folder.path()).unwrap()
}

/// The grammars over it, which are made once.
pub(crate) fn grammars() -> &'static Grammars {
    static GRAMMARS: OnceLock<Grammars> = OnceLock::new();
    GRAMMARS.get_or_init(|| Grammars::new(&tokenizer(true)).unwrap())
}
