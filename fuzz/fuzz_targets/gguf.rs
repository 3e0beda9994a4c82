//! Any bytes as a GGUF file: it opens and can be read to its last row, or is refused with the file's name.
#![no_main]

use std::fs;
use std::path::Path;

use gogrid_model::{Model, ModelError, OpenOptions, SpecialTokens, Tokenizer};
use libfuzzer_sys::fuzz_target;

const TEXT: &str = "a <s> b\u{301}  1";

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).expect("a file");
    for opened in [model(&path), vocabulary(&path)] {
        if let Err(error) = opened {
            assert!(error.to_string().contains("model.gguf"), "{error}");
        }
    }
});

fn model(path: &Path) -> Result<(), ModelError> {
    let model = Model::open(path, &OpenOptions::default())?;
    for weight in model.decoder().weights() {
        let mut row = vec![0; weight.row_bytes()];
        for at in [0, weight.rows - 1] {
            model.read_rows(weight, at..at + 1, &mut row)?;
        }
    }
    Ok(())
}

/// A file may have a vocabulary and nothing else.
fn vocabulary(path: &Path) -> Result<(), ModelError> {
    let tokenizer = Tokenizer::open(path)?;
    // A vocabulary's own rules may take too much for the text, which has no file's name.
    let ids = tokenizer.encode(TEXT, SpecialTokens::Parse);
    for id in ids.unwrap_or_default() {
        assert!(tokenizer.piece(id).is_some(), "{id}");
    }
    Ok(())
}
