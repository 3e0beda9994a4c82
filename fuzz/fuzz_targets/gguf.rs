//! Any bytes as a GGUF file: it opens, or is refused with the file's name.
#![no_main]

use std::fs;

use gogrid_model::{Model, OpenOptions, SpecialTokens};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).expect("a file");
    match Model::open(&path, &OpenOptions::default()) {
        Ok(model) => {
            let _ = model.tokenizer().encode("a <s> b\u{301}  1", SpecialTokens::Parse);
        }
        Err(error) => assert!(error.to_string().contains("model.gguf")),
    }
});
