//! Writes what the coverage-guided targets of `fuzz/` begin with, a folder for each:
//! `cargo run -p gogrid-testkit --example fuzz_seeds -- fuzz/corpus`.

#[path = "../../model/tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use gogrid_testkit::{
    Rng, TokenizerCase, chat_template, control_message, limits_file, prompt_text,
};
use support::{ARCHITECTURES, Gguf, i32s, text, texts};

/// Seeds of each kind.
const SEEDS: u64 = 100;
/// Longer ones slow the fuzzer down.
const BYTES_MAX: usize = 16 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1);
    let folder = PathBuf::from(folder.ok_or("usage: fuzz_seeds FOLDER")?);
    for (target, seeds) in [
        ("gguf", models()),
        ("tokenizer", tokenizers()),
        ("template", drawn(|rng| chat_template(rng).into_bytes())),
        (
            "control",
            [drawn(control_message), drawn(limits_file)].concat(),
        ),
    ] {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        for (number, seed) in seeds.iter().enumerate() {
            if seed.len() <= BYTES_MAX {
                fs::write(folder.join(format!("seed-{number}")), seed)?;
            }
        }
    }
    Ok(())
}

fn drawn(draw: impl Fn(&mut Rng) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..SEEDS).map(|seed| draw(&mut Rng::new(seed))).collect()
}

/// A small model of each architecture, with both kinds of tokenizer.
fn models() -> Vec<Vec<u8>> {
    let mut models = Vec::new();
    for architecture in ARCHITECTURES {
        let sentence_piece = Gguf::tiny(architecture);
        let mut byte_level = sentence_piece.clone();
        byte_level.unset("tokenizer.ggml.scores");
        for (key, value) in [
            ("model", text("gpt2")),
            ("pre", text("qwen2")),
            ("tokens", texts(&["<unk>", "<s>", "</s>", "a", "b", "ab"])),
            ("token_type", i32s(&[3, 3, 3, 1, 1, 1])),
            ("merges", texts(&["a b"])),
        ] {
            byte_level.set(&format!("tokenizer.ggml.{key}"), value);
        }
        models.extend([sentence_piece.bytes(), byte_level.bytes()]);
    }
    models
}

/// A `tokenizer.json`, a zero byte and a text.
fn tokenizers() -> Vec<Vec<u8>> {
    let small = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
 "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
 "use_regex": false}, "post_processor": null, "decoder": {"type": "ByteLevel"}, "model":
 {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}"#;
    let cases = (0..SEEDS).map(|seed| {
        let text = prompt_text(&mut Rng::new(seed)).replace('\0', "");
        [&TokenizerCase::new(seed).tokenizer, "\0", &text].concat()
    });
    let files = cases.chain([format!("{small}\0abba ")]);
    files.map(String::into_bytes).collect()
}
