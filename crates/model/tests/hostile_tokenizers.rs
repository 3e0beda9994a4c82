//! Damaged and hostile tokenizers of Hugging Face directories: each is refused with an error or works
//! within bounds. Nothing panics, hangs or takes memory without end.
//!
//! `GOGRID_CASES=1000000 cargo test --release -p gogrid-model --test hostile_tokenizers -- --nocapture`
//! tries a million and prints the figures.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gogrid_model::{EncodeLimit, ModelError, SpecialTokens, TextDecoder, Tokenizer};
use gogrid_testkit::{Family, RandomModel, Spec, TokenizerCase, cases, in_time};
use gogrid_units::WeightType;
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The bytes that a case may take: a small file, and the automata of its expressions.
const HEAP_BYTES_MAX: usize = 256 << 20;
/// How often encoding one of the texts below may ask whether it goes on, each time for 64 KiB.
const QUESTIONS_MAX: usize = 100;

fn texts() -> [String; 8] {
    [
        String::new(),
        "the cat's 123 hats\n\n  <|im_start|>a<|im_end|> \u{2581}the e\u{301} 🙂".to_owned(),
        "a".repeat(4_000),
        " ".repeat(4_000),
        "\u{fdfa}\u{301}".repeat(400),
        "<|".repeat(1_000),
        "1a".repeat(1_000),
        "🙂\0\u{301}\r\n".repeat(200),
    ]
}

/// Encodes and decodes the texts; ids are tokens, and there are not many more than bytes.
fn use_it(seed: u64, tokenizer: &Tokenizer) {
    for text in texts() {
        let asked = Cell::new(0);
        let goes_on = || {
            asked.set(asked.get() + 1);
            asked.get() < QUESTIONS_MAX
        };
        let limit = EncodeLimit {
            tokens_max: usize::MAX,
            goes_on: &goes_on,
        };
        let all = 0..text.len();
        let own = [&[][..], std::slice::from_ref(&all)];
        for own in own {
            let ids = match tokenizer.encode_marked(&text, own, limit) {
                Ok(ids) => ids,
                Err(ModelError::Tokenizer { .. }) => continue,
                Err(error) => panic!("{seed}: {error}"),
            };
            assert!(
                ids.len() <= 64 * text.len() + 1024,
                "{seed}: {} of {}",
                ids.len(),
                text.len()
            );
            assert!(ids.len() >= tokenizer.tokens_at_least(text.len()));
            let mut decoder = TextDecoder::new(tokenizer);
            for id in ids {
                assert!(tokenizer.piece(id).is_some(), "{id}");
                assert!(decoder.push(id).len() <= 16 << 10);
            }
        }
    }
}

fn write(folder: &Path, case: &TokenizerCase) {
    let files = [
        ("tokenizer.json", &case.tokenizer),
        ("tokenizer_config.json", &case.config),
        ("generation_config.json", &case.generation),
    ];
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
}

#[test]
fn damaged_tokenizers_are_refused_or_work_within_bounds() {
    let cases = cases();
    let folder = tempfile::tempdir().unwrap();
    let (mut opened, mut refused) = (0_u64, BTreeMap::<String, u64>::new());
    let mut heap_max = 0;
    for seed in 0..cases {
        write(folder.path(), &TokenizerCase::new(seed));
        HEAP.reset_peak_usage();
        let tried = in_time(seed, || {
            let tokenizer = Tokenizer::open(folder.path())?;
            use_it(seed, &tokenizer);
            Ok::<(), ModelError>(())
        });
        match tried {
            Ok(()) => opened += 1,
            Err(error) => {
                let message = error.to_string();
                let place = folder.path().display().to_string();
                assert!(message.starts_with(&place), "{seed}: {message}");
                assert!(message.len() < place.len() + 2000, "{seed}: {message}");
                let kind = message[place.len()..].split(' ').nth(1).unwrap_or_default();
                *refused.entry(kind.to_owned()).or_default() += 1;
            }
        }
        heap_max = heap_max.max(HEAP.peak_usage());
        assert!(
            HEAP.peak_usage() < HEAP_BYTES_MAX,
            "{seed}: {}",
            HEAP.peak_usage()
        );
    }
    println!("{cases} cases: {opened} opened, refused {refused:?}, heap at most {heap_max} bytes");
    assert!(opened > cases / 20 && opened < cases);
}

/// The refusal of a directory whose `tokenizer.json` has these keys changed.
fn refusal(family: Family, changes: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec {
        family,
        weights: WeightType::F32,
        seed: 1,
    };
    RandomModel::new(spec)
        .write_hugging_face(folder.path(), 1)
        .unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        match key.strip_prefix("model.") {
            Some(key) => json["model"][key] = value.clone(),
            None => json[key] = value.clone(),
        }
    }
    fs::write(&path, json.to_string()).unwrap();
    Tokenizer::open(folder.path())
        .expect_err("it is not supported")
        .to_string()
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let check = |changes: Value, words: &str| {
        let message = refusal(Family::Qwen2, &changes);
        assert!(message.contains(words), "no {words:?} in {message:?}");
    };
    check(
        json!({"model.continuing_subword_prefix": "prefixlong"}),
        "model.continuing_subword_prefix",
    );
    check(
        json!({"model.end_of_word_suffix": "</w>"}),
        "model.end_of_word_suffix",
    );
    check(json!({"model.dropout": 0.1}), "model.dropout");
    check(
        json!({"model.type": "Unigram"}),
        "model.type: Unigram is not supported",
    );
    check(
        json!({"model": {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 0}}),
        "model.type: Unigram is not supported; supported: BPE",
    );
    check(
        json!({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}}),
        "unknown variant `Precompiled`",
    );
    check(
        json!({"pre_tokenizer": {"type": "FixedLength", "length": 0}}),
        "`FixedLength`",
    );
    let replace = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaa"});
    check(
        json!({"normalizer": {"type": "Sequence", "normalizers": vec![replace; 14]}}),
        "normalizer: it can make a text 6103515625 times as long; at most 64 times",
    );
    check(json!({"decoder": null}), "decoder: none is not supported");
    check(json!({"colour": 1}), "unknown field `colour`");
    check(
        json!({"model.merges": [["t", "zz"]]}),
        "merge 0, \\\"t zz\\\", is not two tokens",
    );
}

#[test]
fn a_text_that_is_long_in_any_way_is_encoded_in_time_that_grows_as_it_does() {
    // Questions whether to go on count the work that is accounted for: 64 KiB each.
    let folder = tempfile::tempdir().unwrap();
    for family in [Family::Qwen2, Family::Gemma3, Family::Llama3] {
        let spec = Spec {
            family,
            weights: WeightType::F32,
            seed: 1,
        };
        let model = RandomModel::new(spec);
        model.write_hugging_face(folder.path(), 1).unwrap();
        fs::write(folder.path().join("a.gguf"), model.gguf().bytes()).unwrap();
        for path in [folder.path().to_owned(), folder.path().join("a.gguf")] {
            let tokenizer = Tokenizer::open(&path).unwrap();
            for part in [
                "a", "the", " ", "7", "🙂", "\u{301}", "<|", "\n ", "a\n     ",
            ] {
                let work = |bytes: usize| {
                    let text = part.repeat(bytes / part.len());
                    let asked = Cell::new(0_usize);
                    let goes_on = || {
                        asked.set(asked.get() + 1);
                        true
                    };
                    let limit = EncodeLimit {
                        tokens_max: usize::MAX,
                        goes_on: &goes_on,
                    };
                    #[expect(clippy::disallowed_methods, reason = "the test is about time")]
                    let begun = std::time::Instant::now();
                    tokenizer.encode_marked(&text, &[], limit).unwrap();
                    (asked.get(), begun.elapsed().as_secs_f64())
                };
                let ((small, brief), (large, long)) = (work(256 << 10), work(1 << 20));
                assert!(small >= 4, "{part:?}: {small}");
                assert!(large <= 4 * small + 8, "{part:?}: {small} and {large}");
                // Work that nobody accounted for. A square would be sixteen times; a busy machine
                // is allowed for.
                assert!(long < 8.0 * brief + 1.0, "{part:?}: {brief} s and {long} s");
            }
        }
    }
}

#[test]
fn a_prompt_that_cannot_fit_is_refused_before_it_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec {
        family: Family::Llama3,
        weights: WeightType::F32,
        seed: 1,
    };
    RandomModel::new(spec)
        .write_hugging_face(folder.path(), 1)
        .unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let text = "the ".repeat(4 << 20);
    assert!(tokenizer.tokens_at_least(text.len()) > 100_000);
    let limit = EncodeLimit {
        tokens_max: 100_000,
        goes_on: &|| panic!("nothing is done"),
    };
    let refused = tokenizer.encode_marked(&text, &[], limit);
    assert!(matches!(
        refused,
        Err(ModelError::TooManyTokens {
            tokens_max: 100_000
        })
    ));
    let typed = tokenizer
        .encode("<|im_end|>", SpecialTokens::AsText)
        .unwrap();
    assert!(typed.len() > 1);
}

/// Files that are no files: opened, they would wait for ever or never end.
#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    use std::os::unix::fs::symlink;
    let spec = Spec {
        family: Family::Qwen2,
        weights: WeightType::F32,
        seed: 1,
    };
    let names = [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "config.json",
        "chat_template.jinja",
    ];
    for name in names {
        for target in ["/dev/zero", "/", "pipe"] {
            let folder = tempfile::tempdir().unwrap();
            RandomModel::new(spec)
                .write_hugging_face(folder.path(), 1)
                .unwrap();
            let (file, pipe) = (folder.path().join(name), folder.path().join("pipe"));
            let made = std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap();
            assert!(made.success());
            let _ = fs::remove_file(&file);
            symlink(
                if target == "pipe" {
                    pipe.as_path()
                } else {
                    Path::new(target)
                },
                &file,
            )
            .unwrap();
            let message = Tokenizer::open(folder.path()).unwrap_err().to_string();
            assert!(message.ends_with("not a regular file"), "{name}: {message}");
        }
    }
}
