//! A tokenizer.json of any text, and a text for it: ids stay in the vocabulary.
#![no_main]

use std::fs;

use gogrid_model::{SpecialTokens, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (file, text) = input;
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("tokenizer.json"), file).expect("a file");
    let Ok(tokenizer) = Tokenizer::open(folder.path()) else {
        return;
    };
    for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
        if let Ok(ids) = tokenizer.encode(text, special) {
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab()));
        }
    }
});
