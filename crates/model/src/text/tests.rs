//! Whole tokenizers: small vocabularies written out here, and the real ones where they are at hand.

mod chats;

use std::cell::Cell;
use std::env;
use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use serde_json::{Value, json};

use crate::error::ModelError;
use crate::gguf::Gguf;

use super::alphabet::ByteAlphabet;
use super::directory::read_directory;
use super::{
    CivilTime, Conversation, EncodeLimit, GgufVocabulary, SpecialTokens, TextDecoder, Tokenizer,
};

/// Merges of the small byte-level vocabulary, best first. Their results are tokens 256 and on.
const MERGES: [&str; 11] = [
    "h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ġwor ld", "Ġ Ġ", "Ã ©",
];
const HELLO: u32 = 259;
const WORLD: u32 = 264;
const IM_START: u32 = 267;
const IM_END: u32 = 268;
const TOOL: u32 = 269;

/// Bytes in their own order as tokens 0 to 255, then the merges, two control tokens and an added.
fn byte_level_tokens() -> Vec<String> {
    let alphabet = ByteAlphabet::new();
    let mut bytes: Vec<_> = ('\0'..='\u{143}')
        .filter_map(|char| Some((alphabet.decode(&char.to_string())?, char.to_string())))
        .collect();
    bytes.sort();
    let mut tokens: Vec<String> = bytes.into_iter().map(|(_, text)| text).collect();
    tokens.extend(MERGES.map(|merge| merge.replace(' ', "")));
    tokens.extend(["<|im_start|>", "<|im_end|>", "<tool>"].map(str::to_owned));
    tokens
}

fn byte_level_vocabulary(tokens: &[String]) -> GgufVocabulary<'_> {
    let mut types = vec![1; tokens.len()];
    types[IM_START as usize] = 3;
    types[IM_END as usize] = 3;
    types[TOOL as usize] = 4;
    GgufVocabulary {
        file: Path::new("small.gguf"),
        model: "gpt2",
        pre: Some("gpt-2"),
        tokens: tokens.iter().map(String::as_str).collect(),
        scores: Vec::new(),
        types,
        merges: MERGES.to_vec(),
        bos: Some(IM_START),
        unknown: None,
        ends: vec![IM_START],
        add_bos: None,
        add_space_prefix: None,
        is_phi3: false,
    }
}

fn byte_level() -> Tokenizer {
    Tokenizer::from_gguf(&byte_level_vocabulary(&byte_level_tokens())).unwrap()
}

/// `<unk>`, `<s>` and `</s>`, the bytes as tokens 3 to 258, and pieces with their scores.
const PIECES: [(&str, f32); 14] = [
    ("▁", -20.0),
    ("h", -21.0),
    ("e", -22.0),
    ("l", -23.0),
    ("o", -24.0),
    ("he", -1.0),
    ("▁h", -2.0),
    ("ll", -3.0),
    ("▁he", -4.0),
    ("llo", -5.0),
    ("▁▁", -6.0),
    ("s>", -7.0),
    ("<", -25.0),
    ("lll", -3.0),
];

/// The id of a piece of [`PIECES`].
fn piece(text: &str) -> u32 {
    259 + PIECES.iter().position(|(piece, _)| *piece == text).unwrap() as u32
}

fn sentence_piece_tokens() -> Vec<String> {
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let named = ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter();
    named
        .chain(bytes)
        .chain(PIECES.map(|(text, _)| text.to_owned()))
        .collect()
}

fn sentence_piece_vocabulary(tokens: &[String]) -> GgufVocabulary<'_> {
    let scores = PIECES.iter().map(|(_, score)| *score);
    GgufVocabulary {
        model: "llama",
        pre: Some("default"),
        scores: std::iter::repeat_n(0.0, 259).chain(scores).collect(),
        types: [2, 3, 3]
            .into_iter()
            .chain([6; 256])
            .chain([1; PIECES.len()])
            .collect(),
        merges: Vec::new(),
        bos: Some(1),
        unknown: Some(0),
        ends: vec![2],
        ..byte_level_vocabulary(tokens)
    }
}

fn sentence_piece(space_prefix: bool) -> Tokenizer {
    let tokens = sentence_piece_tokens();
    let mut vocabulary = sentence_piece_vocabulary(&tokens);
    vocabulary.add_space_prefix = Some(space_prefix);
    Tokenizer::from_gguf(&vocabulary).unwrap()
}

fn check(tokenizer: &Tokenizer, text: &str, special: SpecialTokens, ids: &[u32]) {
    assert_eq!(tokenizer.encode(text, special).unwrap(), ids, "{text:?}");
}

fn decoded(mut decoder: TextDecoder, ids: &[u32]) -> String {
    let mut text: String = ids.iter().map(|id| decoder.push(*id)).collect();
    text += &decoder.finish();
    text
}

#[test]
fn control_tokens_have_names_that_are_text_only_where_they_are_to_be_shown() {
    let tokenizer = byte_level();
    assert_eq!(tokenizer.name(IM_END), Some("<|im_end|>"));
    for id in [TOOL, HELLO, 0, u32::MAX] {
        assert_eq!(tokenizer.name(id), None, "{id}");
    }
    let ids = [HELLO, IM_START, TOOL, IM_END, 0xc3, IM_START];
    let hidden = TextDecoder::new(&tokenizer);
    assert_eq!(decoded(hidden, &ids), "hello<tool>\u{fffd}");
    let shown = TextDecoder::new(&tokenizer).showing(vec![IM_START, HELLO, u32::MAX]);
    let text = "hello<|im_start|><tool>\u{fffd}<|im_start|>";
    assert_eq!(decoded(shown, &ids), text);
}

#[test]
fn bytes_merge_within_words() {
    let tokenizer = byte_level();
    let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
    check(
        &tokenizer,
        "hello world",
        SpecialTokens::Parse,
        &[HELLO, WORLD],
    );
    check(&tokenizer, "", SpecialTokens::Parse, &[]);
    // No merge crosses a word: the two spaces before "world" belong to two words.
    check(
        &tokenizer,
        "hello  world",
        SpecialTokens::Parse,
        &[HELLO, 32, WORLD],
    );
    check(&tokenizer, "   ", SpecialTokens::Parse, &[265, 32]);
    check(&tokenizer, "é", SpecialTokens::Parse, &[266]);
    check(&tokenizer, "日", SpecialTokens::Parse, &bytes("日"));
}

#[test]
fn control_tokens_are_found_only_on_request_and_added_ones_always() {
    let tokenizer = byte_level();
    let text = "<|im_start|>hello<tool>";
    check(
        &tokenizer,
        text,
        SpecialTokens::Parse,
        &[IM_START, HELLO, TOOL],
    );
    let as_text = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
    assert!(!as_text.contains(&IM_START));
    assert_eq!(as_text[as_text.len() - 2..], [HELLO, TOOL]);
    assert_eq!(decoded(TextDecoder::new(&tokenizer), &as_text), text);
}

#[test]
fn control_tokens_known_by_their_text_end_an_answer() {
    let tokenizer = byte_level();
    let ends: Vec<u32> = (0..300).filter(|id| tokenizer.ends(*id)).collect();
    assert_eq!(ends, [IM_START, IM_END]);
    assert_eq!(tokenizer.piece(IM_END), Some(Vec::new()));
    assert_eq!(tokenizer.piece(TOOL), Some(b"<tool>".to_vec()));
    assert_eq!(tokenizer.piece(270), None);
}

#[test]
fn a_token_that_is_text_ends_nothing_whatever_it_looks_like() {
    // HTML's strike-through in the vocabularies of Gemma (added by the user) and Qwen (plain).
    for kind in [1, 4] {
        let mut tokens = byte_level_tokens();
        tokens[TOOL as usize] = "</s>".to_owned();
        let mut vocabulary = byte_level_vocabulary(&tokens);
        vocabulary.types[TOOL as usize] = kind;
        let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
        assert!(!tokenizer.ends(TOOL));
        assert_eq!(tokenizer.piece(TOOL), Some(b"</s>".to_vec()));
        // One that a key names as an end is one, and a control token.
        vocabulary.ends = vec![TOOL];
        let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
        assert!(tokenizer.ends(TOOL));
        check(&tokenizer, "</s>", SpecialTokens::Parse, &[TOOL]);
        let typed = tokenizer.encode("</s>", SpecialTokens::AsText).unwrap();
        assert!(!typed.contains(&TOOL));
    }
}

#[test]
fn ends_that_are_no_tokens_are_left_out_and_said() {
    let tokens = byte_level_tokens();
    let mut vocabulary = byte_level_vocabulary(&tokens);
    vocabulary.ends = vec![9999];
    vocabulary.types[IM_START as usize..].fill(1);
    let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
    let notices = tokenizer.notices();
    assert!(notices[0].starts_with("token 9999, which should end a text"));
    assert!(notices[1].starts_with("no token ends a text"));
    assert!(byte_level().notices().is_empty());
}

#[test]
fn a_pre_name_normalises_as_the_tokenizer_it_was_named_for() {
    let tokens = byte_level_tokens();
    let mut vocabulary = byte_level_vocabulary(&tokens);
    // The composed e with its accent is the last merge.
    for (pre, ids) in [
        ("qwen2", &[266][..]),
        ("deepseek-r1-qwen", &[266]),
        ("gpt-2", &[101, 0xcc, 0x81]),
    ] {
        vocabulary.pre = Some(pre);
        let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
        check(&tokenizer, "e\u{301}", SpecialTokens::Parse, ids);
    }
    // Hangul syllables are composed of their letters.
    vocabulary.pre = Some("qwen2");
    let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
    let syllable = tokenizer.encode("하", SpecialTokens::Parse).unwrap();
    check(
        &tokenizer,
        "\u{1112}\u{1161}",
        SpecialTokens::Parse,
        &syllable,
    );
}

#[test]
fn white_space_after_phi3s_tokens_goes_only_where_their_rstrip_says() {
    let mut tokens = byte_level_tokens();
    for (id, text) in [
        (IM_START, "<|end|>"),
        (IM_END, "<|endoftext|>"),
        (TOOL, "</s>"),
    ] {
        tokens[id as usize] = text.to_owned();
    }
    let mut vocabulary = byte_level_vocabulary(&tokens);
    vocabulary.is_phi3 = true;
    let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
    check(
        &tokenizer,
        "<|end|> \n<|end|>",
        SpecialTokens::Parse,
        &[IM_START; 2],
    );
    check(&tokenizer, "</s> \t", SpecialTokens::Parse, &[TOOL]);
    check(
        &tokenizer,
        "<|endoftext|> ",
        SpecialTokens::Parse,
        &[IM_END, 32],
    );
}

#[test]
fn control_tokens_are_found_only_in_the_templates_own_text() {
    let tokenizer = byte_level();
    let text = "<|im_start|>hello<|im_end|><tool>hello<|im_end|>";
    let own = [0..12, text.len() - 10..text.len()];
    let ids = tokenizer
        .encode_marked(text, &own, EncodeLimit::NONE)
        .unwrap();
    let count = |id| ids.iter().filter(|found| **found == id).count();
    assert_eq!((count(IM_START), count(IM_END), count(TOOL)), (1, 1, 0));
    assert_eq!(ids[..2], [IM_START, HELLO]);
    assert_eq!(ids[ids.len() - 2..], [HELLO, IM_END]);
    // All of it is the template's: the same as any trusted text.
    let all = &(0..text.len());
    let all = std::slice::from_ref(all);
    let ids = tokenizer
        .encode_marked(text, all, EncodeLimit::NONE)
        .unwrap();
    check(&tokenizer, text, SpecialTokens::Parse, &ids);
    assert!(ids.contains(&TOOL));
}

/// The small vocabulary with `text` as its added token: as a GGUF file and as a directory whose
/// `tokenizer.json` does not call it special.
fn with_added(text: &str) -> [Tokenizer; 3] {
    let mut tokens = byte_level_tokens();
    tokens[TOOL as usize] = text.to_owned();
    let gguf = Tokenizer::from_gguf(&byte_level_vocabulary(&tokens)).unwrap();
    let [raw, normalised] = [false, true].map(|normalised| {
        let directory = directory(&json!({}), &json!({}));
        let file = directory.path().join("tokenizer.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let token = &mut json["added_tokens"][2];
        assert_eq!(token["special"], false);
        token["content"] = text.into();
        token["normalized"] = normalised.into();
        json["normalizer"] = json!({ "type": "NFC" });
        fs::write(&file, json.to_string()).unwrap();
        read_directory(directory.path()).unwrap().0
    });
    [gguf, raw, normalised]
}

#[test]
fn a_message_begins_no_turn_with_a_token_that_is_not_called_special() {
    // As DeepSeek's R1 distilled into Qwen and Qwen3 publish them.
    let names = [
        "<｜User｜>",
        "<｜Assistant｜>",
        "<think>",
        "</think>",
        "<tool_call>",
        "<tool_response>",
    ];
    for name in names {
        for tokenizer in with_added(name) {
            let text = format!("{name}hello{name}e\u{301}");
            let own = &(0..name.len());
            let own = std::slice::from_ref(own);
            let ids = tokenizer
                .encode_marked(&text, own, EncodeLimit::NONE)
                .unwrap();
            assert_eq!(ids[..2], [TOOL, HELLO], "{name}");
            assert!(!ids[2..].contains(&TOOL), "{name}: {ids:?}");
            for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
                let ids = tokenizer.encode(&text, special).unwrap();
                assert_eq!(ids[..3], [TOOL, HELLO, TOOL], "{name}");
            }
        }
    }
}

#[test]
fn added_tokens_that_are_text_are_found_in_messages() {
    // As Gemma has them.
    for name in ["\n\n\n", "  ", "<table>", "</h1>"] {
        for tokenizer in with_added(name) {
            let text = format!("{name}hello{name}");
            let ids = tokenizer
                .encode_marked(&text, &[], EncodeLimit::NONE)
                .unwrap();
            assert_eq!(ids, [TOOL, HELLO, TOOL], "{name:?}");
        }
    }
}

#[test]
fn structure_does_not_come_of_merging() {
    // A word that is a token as a whole, and the last of the merges.
    let mut tokens = byte_level_tokens();
    tokens.swap(TOOL as usize, HELLO as usize);
    tokens[HELLO as usize] = "hell<".to_owned();
    let mut vocabulary = byte_level_vocabulary(&tokens);
    vocabulary.types[HELLO as usize] = 4;
    vocabulary.merges = vec!["h e", "l l", "he ll", "hell <"];
    for pre in ["gpt-2", "llama-bpe"] {
        vocabulary.pre = Some(pre);
        let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
        let typed = tokenizer.encode_marked("hell<", &[], EncodeLimit::NONE);
        assert!(!typed.unwrap().contains(&HELLO), "{pre}");
        check(&tokenizer, "hell<", SpecialTokens::Parse, &[HELLO]);
    }
    let mut tokens = sentence_piece_tokens();
    tokens[piece("llo") as usize] = "l>".to_owned();
    tokens[piece("s>") as usize] = ">".to_owned();
    let mut vocabulary = sentence_piece_vocabulary(&tokens);
    vocabulary.types[piece("llo") as usize] = 4;
    let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
    let typed = tokenizer.encode_marked("l>", &[], EncodeLimit::NONE);
    assert!(!typed.unwrap().contains(&piece("llo")));
    let meant = tokenizer.encode("l>", SpecialTokens::Parse).unwrap();
    assert!(meant.contains(&piece("llo")));
}

#[test]
fn encoding_stops_at_its_limit() {
    let tokenizer = byte_level();
    let text = "hello world ".repeat(100_000);
    let limited = |tokens_max, goes_on: &dyn Fn() -> bool| {
        let limit = EncodeLimit {
            tokens_max,
            goes_on,
        };
        tokenizer.encode_marked(&text, &[], limit)
    };
    let ids = limited(usize::MAX, &|| true).unwrap();
    assert_eq!(limited(ids.len(), &|| true).unwrap(), ids);
    let short = limited(ids.len() - 1, &|| true);
    assert!(matches!(short, Err(ModelError::TooManyTokens { .. })));
    // So few tokens cannot hold this text, which is known before it is looked at.
    let asked = Cell::new(0_usize);
    let goes_on = |times: usize| {
        asked.set(asked.get() + 1);
        asked.get() <= times
    };
    let never = limited(tokenizer.tokens_at_least(text.len()) - 1, &|| {
        goes_on(usize::MAX)
    });
    assert!(matches!(never, Err(ModelError::TooManyTokens { .. })));
    assert_eq!(asked.get(), 0);
    assert!(matches!(
        limited(usize::MAX, &|| goes_on(3)),
        Err(ModelError::Stopped)
    ));
    assert_eq!(asked.get(), 4);
    asked.set(0);
    limited(usize::MAX, &|| goes_on(usize::MAX)).unwrap();
    assert!(asked.get() >= text.len() / (64 << 10));
}

#[test]
fn pieces_merge_by_score() {
    let tokenizer = sentence_piece(true);
    // ▁ h e l l o: he, then ll, then ▁he, then llo.
    check(
        &tokenizer,
        "hello",
        SpecialTokens::Parse,
        &[piece("▁he"), piece("llo")],
    );
    // ll and lll score the same: the leftmost candidate goes first.
    check(
        &tokenizer,
        "lll",
        SpecialTokens::Parse,
        &[piece("▁"), piece("lll")],
    );
    check(
        &tokenizer,
        "  h",
        SpecialTokens::Parse,
        &[piece("▁▁"), piece("▁h")],
    );
    // A character that is no piece becomes its bytes.
    check(
        &tokenizer,
        "hé",
        SpecialTokens::Parse,
        &[piece("▁h"), 3 + 0xc3, 3 + 0xa9],
    );
    check(&tokenizer, "", SpecialTokens::Parse, &[]);
}

#[test]
fn a_space_goes_before_what_begins_or_follows_a_control_token() {
    let text = "he</s>he";
    let he = [piece("▁he"), 2, piece("▁he")];
    check(&sentence_piece(true), text, SpecialTokens::Parse, &he);
    let he = [piece("he"), 2, piece("he")];
    check(&sentence_piece(false), text, SpecialTokens::Parse, &he);
}

#[test]
fn text_never_becomes_a_control_token_by_merging() {
    let tokenizer = sentence_piece(false);
    let ids = [piece("<"), 3 + u32::from(b's'), 3 + u32::from(b'>')];
    check(
        &tokenizer,
        "<s>",
        SpecialTokens::AsText,
        &[ids[0], piece("s>")],
    );
    check(&tokenizer, "<s>", SpecialTokens::Parse, &[1]);
}

#[test]
fn bos_is_as_the_model_says() {
    assert_eq!(byte_level().bos(), None);
    assert_eq!(sentence_piece(true).bos(), Some(1));
    let tokens = byte_level_tokens();
    let mut vocabulary = byte_level_vocabulary(&tokens);
    vocabulary.pre = Some("llama-bpe");
    assert_eq!(
        Tokenizer::from_gguf(&vocabulary).unwrap().bos(),
        Some(IM_START)
    );
    vocabulary.add_bos = Some(false);
    assert_eq!(Tokenizer::from_gguf(&vocabulary).unwrap().bos(), None);
}

#[test]
fn a_character_waits_until_it_is_complete() {
    let tokenizer = byte_level();
    let mut decoder = TextDecoder::new(&tokenizer);
    let pushed = [0xf0, 0x9f, IM_START, 0x99, 1_000_000, 0x82].map(|id| decoder.push(id));
    assert_eq!(pushed, ["", "", "", "", "", "🙂"]);
    // 0xff never becomes anything; 0xe6 only because h cannot follow it.
    assert_eq!(
        [0xff, 0xe6, HELLO].map(|id| decoder.push(id)),
        ["\u{fffd}", "", "\u{fffd}hello"]
    );
    assert_eq!(decoder.push(0xe6) + &decoder.finish(), "\u{fffd}");
    assert_eq!(decoder.push(HELLO), "hello");
}

#[test]
fn the_space_that_encoding_put_goes_again() {
    let tokenizer = sentence_piece(true);
    let ids = [1, piece("▁he"), piece("▁he")];
    assert_eq!(decoded(TextDecoder::new(&tokenizer), &ids), "he he");
    assert_eq!(decoded(TextDecoder::continuing(&tokenizer), &ids), " he he");
    assert_eq!(
        decoded(TextDecoder::new(&sentence_piece(false)), &ids),
        " he he"
    );
}

fn refused(change: impl Fn(&mut GgufVocabulary<'_>), message: &str) {
    let tokens = sentence_piece_tokens();
    let mut vocabulary = sentence_piece_vocabulary(&tokens);
    change(&mut vocabulary);
    let error = Tokenizer::from_gguf(&vocabulary).unwrap_err().to_string();
    assert!(
        error.starts_with("small.gguf: ") && error.contains(message),
        "{error}"
    );
}

#[test]
fn what_is_wrong_with_a_vocabulary_is_named() {
    refused(
        |v| v.model = "bert",
        "tokenizer.ggml.model: bert is not supported; supported: gpt2",
    );
    refused(
        |v| (v.model, v.pre) = ("gpt2", Some("default")),
        "tokenizer.ggml.pre: default is not supported; supported: llama-bpe",
    );
    refused(
        |v| (v.model, v.pre) = ("gpt2", None),
        "tokenizer.ggml.pre is missing",
    );
    refused(
        |v| (v.model, v.pre) = ("gpt2", Some("qwen2")),
        "tokenizer.ggml.merges is missing",
    );
    refused(
        |v| (v.model, v.pre, v.merges) = ("gpt2", Some("qwen2"), vec!["q"]),
        "merge 0, \"q\"",
    );
    refused(|v| v.tokens.clear(), "0 tokens");
    refused(
        |v| v.scores.truncate(5),
        "tokenizer.ggml.scores: 5 entries for 273 tokens",
    );
    refused(|v| v.scores.clear(), "tokenizer.ggml.scores is missing");
    refused(|v| v.scores[7] = f32::NAN, "the score of token 7 is NaN");
    refused(|v| v.types[0] = 9, "token 0 has type 9");
    refused(|v| v.types[260] = 6, "token 260 is a byte");
    refused(
        |v| v.tokens[270] = "he",
        "tokens 264 and 270 have the same text \"he\"",
    );
    refused(|v| v.bos = Some(273), "a token id is 273");
    refused(|v| v.bos = None, "tokenizer.ggml.bos_token_id is missing");
    refused(
        |v| (v.types[3], v.unknown) = (1, None),
        "no token for byte 0x00",
    );
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_encoded(chars in vec(any::<char>(), 0..80)) {
        let text: String = chars.into_iter().collect();
        let byte_level = byte_level();
        let ids = byte_level.encode(&text, SpecialTokens::AsText).unwrap();
        assert_eq!(decoded(TextDecoder::new(&byte_level), &ids), text);
        // The mark stands for a space, so comes back as one.
        let pieces = sentence_piece(true);
        let ids = pieces.encode(&text, SpecialTokens::AsText).unwrap();
        assert_eq!(decoded(TextDecoder::new(&pieces), &ids), text.replace('▁', " "));
    }

    #[test]
    fn deltas_add_up_to_the_whole(ids in vec(0_u32..300, 0..60)) {
        let tokenizer = byte_level();
        let bytes: Vec<u8> = ids.iter().filter_map(|id| tokenizer.piece(*id)).flatten().collect();
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(decoded(TextDecoder::new(&tokenizer), &ids), whole);
    }

    #[test]
    fn any_ids_decode(ids in vec(any::<u32>(), 0..30)) {
        let text = decoded(TextDecoder::new(&byte_level()), &ids);
        assert!(text.len() <= 16 * ids.len());
    }
}

/// A directory with the small byte-level vocabulary as `tokenizer.json`.
fn directory(config: &Value, generation: &Value) -> tempfile::TempDir {
    let tokens = byte_level_tokens();
    let added = |id: u32, special: bool| {
        json!({
            "id": id, "content": tokens[id as usize], "special": special,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let vocab: serde_json::Map<String, Value> = tokens
        .iter()
        .zip(0..IM_START)
        .map(|(text, id)| (text.clone(), id.into()))
        .collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [added(IM_START, true), added(IM_END, true), added(TOOL, false)],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": MERGES },
    });
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| {
        fs::write(directory.path().join(name), value.to_string()).unwrap();
    };
    write("tokenizer.json", &tokenizer);
    write("tokenizer_config.json", config);
    write("generation_config.json", generation);
    directory
}

#[test]
fn a_tokenizer_json_is_the_same_tokenizer() {
    let config = json!({ "bos_token": "<|im_start|>", "eos_token": { "content": "<|im_end|>" } });
    let directory = directory(&config, &json!({ "eos_token_id": [7, 268] }));
    let (tokenizer, template) = read_directory(directory.path()).unwrap();
    assert!(template.is_none());
    let same = byte_level();
    let texts = [
        "hello  world",
        "<|im_start|>hello<tool> <|im_end|>\n",
        "é日🙂\n\n x",
        "",
        "   ",
    ];
    for text in texts {
        for special in [SpecialTokens::Parse, SpecialTokens::AsText] {
            check(
                &tokenizer,
                text,
                special,
                &same.encode(text, special).unwrap(),
            );
        }
    }
    assert!((0..271).all(|id| tokenizer.piece(id) == same.piece(id)));
    assert_eq!((tokenizer.vocab(), tokenizer.bos()), (270, None));
    let ends: Vec<u32> = (0..300).filter(|id| tokenizer.ends(*id)).collect();
    assert_eq!(ends, [7, IM_END]);
}

#[test]
fn the_configuration_beside_it_is_heeded_and_checked() {
    let template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let config = json!({
        "add_bos_token": true, "bos_token": "<|im_start|>",
        "chat_template": [{ "name": "default", "template": template }],
    });
    let with_bos = directory(&config, &json!({}));
    let (tokenizer, template) = read_directory(with_bos.path()).unwrap();
    assert_eq!(tokenizer.bos(), Some(IM_START));
    let now = CivilTime::new([2024, 7, 26], [0; 3]).unwrap();
    let chat = template
        .unwrap()
        .render(&Conversation::default(), &now, &|| true)
        .unwrap();
    assert_eq!(chat.text(), "<|im_start|>");

    let refused = |config: Value, generation: Value| {
        let directory = directory(&config, &generation);
        read_directory(directory.path()).unwrap_err().to_string()
    };
    let error = refused(
        json!({ "add_bos_token": true }),
        json!({ "bos_token_id": 270 }),
    );
    assert!(
        error.contains("token id 270 is not in the vocabulary of 270"),
        "{error}"
    );
    let error = refused(json!({ "add_bos_token": true }), json!({}));
    assert!(error.contains("bos_token is missing"), "{error}");
    let error = refused(json!([1]), json!({}));
    assert!(error.contains("tokenizer_config.json: JSON"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        read_directory(empty.path()),
        Err(ModelError::Missing { .. })
    ));
}

#[test]
fn ends_are_read_wherever_transformers_reads_them() {
    let check = |file: &str, json: Value, ids: &[u32]| {
        let directory = directory(&json!({}), &json!({}));
        fs::write(directory.path().join(file), json.to_string()).unwrap();
        let (tokenizer, _) = read_directory(directory.path()).unwrap();
        let mut all = vec![IM_END];
        all.extend(ids);
        all.sort_unstable();
        all.dedup();
        let ends: Vec<u32> = (0..300).filter(|id| tokenizer.ends(*id)).collect();
        assert_eq!(ends, all, "{file} {json}");
    };
    for file in ["generation_config.json", "config.json"] {
        check(file, json!({"eos_token_id": 7}), &[7]);
        check(file, json!({"eos_token_id": [7, 8]}), &[7, 8]);
        check(file, json!({"eos_token_ids": [7, 8]}), &[7, 8]);
        check(
            file,
            json!({"eos_token_id": null, "bos_token_id": [3]}),
            &[],
        );
        check(file, json!({"eos_token_id": -1}), &[]);
    }
    for file in ["tokenizer_config.json", "special_tokens_map.json"] {
        check(file, json!({"eos_token": "<tool>"}), &[TOOL]);
        check(
            file,
            json!({"eos_token": {"content": "<tool>", "lstrip": false}}),
            &[TOOL],
        );
    }
}

#[test]
fn a_template_gets_its_tokens_from_either_file() {
    let template = "{{ bos_token }}|{{ eos_token }}";
    let names = json!({ "bos_token": "<|im_start|>", "eos_token": { "content": "<|im_end|>" } });
    let check = |config: Value, map: &Value| {
        let directory = directory(&config, &json!({}));
        let file = directory.path().join("special_tokens_map.json");
        fs::write(file, map.to_string()).unwrap();
        let (_, template) = read_directory(directory.path()).unwrap();
        let now = CivilTime::new([2024, 7, 26], [0; 3]).unwrap();
        let chat = template
            .unwrap()
            .render(&Conversation::default(), &now, &|| true)
            .unwrap();
        assert_eq!(chat.text(), "<|im_start|>|<|im_end|>");
    };
    check(json!({ "chat_template": template }), &names);
    let mut config = names.clone();
    config["chat_template"] = template.into();
    check(config.clone(), &json!({}));
    // The newer of the two files counts first.
    check(config, &json!({ "bos_token": "<a>", "eos_token": "<b>" }));
}

#[test]
fn an_added_token_of_the_configuration_alone_is_refused() {
    let read = |decoder: Value| {
        let directory = directory(&json!({ "added_tokens_decoder": decoder }), &json!({}));
        let read = read_directory(directory.path());
        read.map(drop).map_err(|error| error.to_string())
    };
    let token = |text: &str| json!({ "content": text, "special": false });
    assert_eq!(
        read(json!({ "269": token("<tool>"), "259": token("hello") })),
        Ok(())
    );
    for decoder in [
        json!({ "270": token("<new>") }),
        json!({ "269": token("<new>") }),
    ] {
        let error = read(decoder).unwrap_err();
        assert!(
            error.contains("tokenizer_config.json: added_tokens_decoder.2"),
            "{error}"
        );
        let what = "<new>, which tokenizer.json has not, is not supported";
        assert!(error.contains(what), "{error}");
    }
}

/// The file of a model in the folder that models are fetched to.
fn cached(name: &str) -> Option<PathBuf> {
    let folder = |variable: &str| env::var_os(variable).map(PathBuf::from);
    let under = |cache: PathBuf| cache.join("gogrid").join("models");
    let models = folder("GOGRID_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(under))
        .or_else(|| folder("HOME").map(|home| under(home.join(".cache"))))?;
    Some(models.join(name)).filter(|path| path.is_file())
}

/// Holds the tokenizer of a real model against vectors of another implementation.
fn check_golden(model: &str, golden: &str) {
    let Some(path) = cached(model) else {
        let required = std::env::var_os("GOGRID_REQUIRE_MODELS").is_some();
        assert!(!required, "{model} is not in the cache folder");
        println!("skipped: {model} is not in the cache folder; `gogrid pull` fetches it");
        return;
    };
    let gguf = Gguf::open(&path, &File::open(&path).unwrap()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&GgufVocabulary::read(gguf.metadata()).unwrap()).unwrap();
    let golden: Value = serde_json::from_str(golden).unwrap();
    let ids = |case: &Value| -> Vec<u32> { serde_json::from_value(case["ids"].clone()).unwrap() };
    let vectors = golden["tokenize"].as_array().unwrap();
    for case in vectors {
        let special = case["special"].as_bool().unwrap();
        let special = if special {
            SpecialTokens::Parse
        } else {
            SpecialTokens::AsText
        };
        check(
            &tokenizer,
            case["text"].as_str().unwrap(),
            special,
            &ids(case),
        );
    }
    for case in golden["texts"].as_object().unwrap().values() {
        let text = case["text"].as_str().unwrap();
        let mut found = Vec::from_iter(tokenizer.bos());
        found.extend(tokenizer.encode(text, SpecialTokens::Parse).unwrap());
        assert_eq!(found, ids(case));
        assert_eq!(decoded(TextDecoder::new(&tokenizer), &found), text);
    }
    assert!(vectors.len() > 10);
}

#[test]
fn smollm2_gives_the_golden_ids() {
    check_golden(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        include_str!("../../../testkit/golden/gold-smollm2-135m-instruct-q4_1-open.json"),
    );
}

#[test]
fn gemma_gives_the_golden_ids() {
    check_golden(
        "gemma-3-270m-q4_k_m.gguf",
        include_str!("../../../testkit/golden/gold-gemma-3-270m-q4_k_m-open.json"),
    );
}
