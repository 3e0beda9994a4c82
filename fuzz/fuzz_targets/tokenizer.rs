//! A tokenizer.json of any text and, after a zero byte, a text for it: ids are tokens, and there are
//! not many more than bytes.
#![no_main]

use std::fs;

use gogrid_model::{EncodeLimit, SpecialTokens, TextDecoder, Tokenizer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (file, text) = input
        .split_once('\0')
        .unwrap_or((input, "a <s> b\u{301}  1"));
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("tokenizer.json"), file).expect("a file");
    let Ok(tokenizer) = Tokenizer::open(folder.path()) else {
        return;
    };
    let marked = tokenizer.encode_marked(text, &[], EncodeLimit::NONE);
    let as_text = tokenizer.encode(text, SpecialTokens::AsText);
    let parsed = tokenizer.encode(text, SpecialTokens::Parse);
    for ids in [marked, as_text, parsed].into_iter().flatten() {
        check(&tokenizer, text, &ids);
    }
});

fn check(tokenizer: &Tokenizer, text: &str, ids: &[u32]) {
    assert!(ids.len() <= 64 * text.len() + 1024);
    assert!(ids.len() >= tokenizer.tokens_at_least(text.len()));
    let mut decoder = TextDecoder::new(tokenizer);
    for &id in ids {
        assert!((id as usize) < tokenizer.vocab(), "{id}");
        assert!(tokenizer.piece(id).is_some(), "{id}");
        decoder.push(id);
    }
    decoder.finish();
}
