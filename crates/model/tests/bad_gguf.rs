//! Wrong GGUF files, one by one: each is refused with a message that names the file, the field and
//! what is wrong with it.

mod support;

use std::fs::File;
use std::path::Path;

use gogrid_model::{Model, ModelError, OpenOptions};
use support::{
    F32, Gguf, Q4_0, Q8_0, Value, array, f32, i32, string, text, texts, u8, u32, u64, value,
};

/// Opens `bytes` as a file and returns the error's message, which must name the file first.
fn refusal(bytes: &[u8], options: &OpenOptions) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.gguf");
    std::fs::write(&path, bytes).unwrap();
    refusal_of(&path, options)
}

fn refusal_of(path: &Path, options: &OpenOptions) -> String {
    let error = Model::open(path, options).expect_err("the file is wrong");
    let message = error.to_string();
    let Some(rest) = message.strip_prefix(&format!("{}: ", path.display())) else {
        assert!(matches!(error, ModelError::Request { .. }), "{message}");
        return message;
    };
    rest.to_owned()
}

fn check(case: &str, bytes: &[u8], words: &[&str]) {
    let message = refusal(bytes, &OpenOptions::default());
    for word in words {
        assert!(message.contains(word), "{case}: no {word:?} in {message:?}");
    }
}

type Case = (&'static str, fn(&mut Gguf), &'static [&'static str]);

fn check_all(cases: &[Case]) {
    for (case, spoil, words) in cases {
        let mut file = Gguf::tiny("llama");
        spoil(&mut file);
        check(case, &file.bytes(), words);
    }
}

#[test]
fn the_files_that_are_spoilt_below_are_right_before() {
    let folder = tempfile::tempdir().unwrap();
    for architecture in support::ARCHITECTURES {
        for version in [2, 3] {
            let mut file = Gguf::tiny(architecture);
            file.version = version;
            let path = folder.path().join("right.gguf");
            std::fs::write(&path, file.bytes()).unwrap();
            let model = Model::open(&path, &OpenOptions::default()).unwrap();
            assert_eq!(model.decoder().architecture, architecture);
            assert_eq!(model.name(), "right");
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = Gguf::tiny("llama");
    let bytes = file.bytes();
    let header = file.header().len();
    for len in 0..bytes.len() {
        // The data is checked as a whole; every length of the header is tried.
        if len > header && len % 61 != 0 && len + 1 != bytes.len() {
            continue;
        }
        let words: &[&str] = if len < header {
            &["bytes expected", "at byte"]
        } else {
            &["end after the file's", "is the download complete?"]
        };
        check(&format!("cut to {len}"), &bytes[..len], words);
    }
}

const WRONG_HEADERS: &[Case] = &[
    (
        "magic",
        |f| f.magic = *b"GGML",
        &["no GGUF file: it begins with \"GGML\" instead of \"GGUF\""],
    ),
    (
        "version 0",
        |f| f.version = 0,
        &["version at byte 4", "version 0", "versions 2 and 3"],
    ),
    (
        "version 1",
        |f| f.version = 1,
        &["version 1 is not supported"],
    ),
    (
        "version 4",
        |f| f.version = 4,
        &["version 4 is not supported"],
    ),
    (
        "big endian",
        |f| f.version = 3_u32.swap_bytes(),
        &["version 3 in big-endian order"],
    ),
    (
        "tensors over the limit",
        |f| f.tensor_count = Some(u64::MAX),
        &[
            "tensor count at byte 8",
            "18446744073709551615 is over the limit of 65536",
        ],
    ),
    (
        "keys over the limit",
        |f| f.pair_count = Some(1 << 40),
        &["key count at byte 16", "over the limit"],
    ),
    (
        "more tensors than bytes",
        |f| f.tensor_count = Some(60_000),
        &["tensor count at byte 8", "1980000 bytes expected"],
    ),
    (
        "more keys than bytes",
        |f| f.pair_count = Some(60_000),
        &["key count at byte 16"],
    ),
    // The first tensor is read as a key: its dimensions' count is a type, and so on.
    (
        "one key too many",
        |f| f.pair_count = Some(f.pairs.len() as u64 + 1),
        &["at byte"],
    ),
    (
        "one key too few",
        |f| f.pair_count = Some(f.pairs.len() as u64 - 1),
        &["at byte"],
    ),
    (
        "one tensor too many",
        |f| f.tensor_count = Some(f.tensors.len() as u64 + 1),
        &["at byte"],
    ),
    (
        "no tensors",
        |f| f.tensors.clear(),
        &["tensor token_embd.weight is missing"],
    ),
];

#[test]
fn wrong_headers_are_refused() {
    check_all(WRONG_HEADERS);
}

const WRONG_KEYS: &[Case] = &[
    (
        "no name",
        |f| f.pairs[1].0 = Vec::new(),
        &["key 1 at byte", "name of 0 bytes"],
    ),
    (
        "name too long",
        |f| f.pairs[1].0 = vec![b'a'; 65_536],
        &["key 1", "name of 65536 bytes"],
    ),
    (
        "name not UTF-8",
        |f| f.pairs[1].0 = vec![b'a', 0xff],
        &["key 1", "\"a\\xff\" is not UTF-8"],
    ),
    (
        "twice",
        |f| f.pairs.push(f.pairs[3].clone()),
        &[
            "llama.embedding_length at byte",
            "there twice, first at byte",
        ],
    ),
    (
        "unknown type",
        |f| f.pairs[1].1.ty = 13,
        &["general.alignment", "value type 13 is unknown"],
    ),
    (
        "unknown type of an array",
        |f| f.pairs[1].1 = array(99, 1, &[0]),
        &["value type 99 is unknown"],
    ),
    (
        "string past the end",
        |f| f.pairs[0].1 = value(8, &(1_u64 << 30).to_le_bytes()),
        &["general.architecture at byte", "1073741824 bytes expected"],
    ),
    (
        "string of 2^64 - 1",
        |f| f.pairs[0].1 = value(8, &[255; 8]),
        &["general.architecture", "bytes expected"],
    ),
    (
        "array that overflows",
        |f| f.pairs[0].1 = array(4, u64::MAX, &[]),
        &["elements overflow"],
    ),
    (
        "array past the end",
        |f| f.pairs[0].1 = array(4, 1 << 30, &[]),
        &["4294967296 bytes expected"],
    ),
    (
        "strings past the end",
        |f| f.pairs[0].1 = array(8, 1 << 40, &[]),
        &["(elements)"],
    ),
    (
        "arrays past the end",
        |f| f.pairs[0].1 = array(9, u64::MAX, &[]),
        &["(elements)"],
    ),
    (
        "nested too deep",
        |f| f.pairs[0].1 = nested(5),
        &["nested deeper than 4"],
    ),
    (
        "a bool of 2",
        |f| f.pairs[0].1 = value(7, &[2]),
        &["a bool is 0 or 1, this one is 2"],
    ),
    (
        "long name in the message",
        |f| f.pairs[1] = (vec![b'x'; 1000], value(13, &[])),
        &["xxx…", "type 13"],
    ),
];

#[test]
fn wrong_keys_are_refused() {
    check_all(WRONG_KEYS);
}

/// An array in an array, `depth` of them.
fn nested(depth: usize) -> Value {
    let inner = array(0, 0, &[]);
    (1..depth).fold(inner, |inner, _| array(9, 1, &inner.bytes))
}

#[test]
fn arrays_may_be_nested_up_to_the_limit() {
    let mut file = Gguf::tiny("llama");
    file.set("any.nested", nested(4));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nested.gguf");
    std::fs::write(&path, file.bytes()).unwrap();
    Model::open(&path, &OpenOptions::default()).unwrap();
}

const WRONG_TENSORS: &[Case] = &[
    (
        "no dimensions",
        |f| f.tensors[1].dims.clear(),
        &["output_norm.weight at byte", "0 dimensions"],
    ),
    (
        "five dimensions",
        |f| f.tensors[1].dims = vec![1; 5],
        &["5 dimensions", "between 1 and 4"],
    ),
    (
        "dimension of 0",
        |f| f.tensors[1].dims = vec![0],
        &["output_norm.weight at byte", "dimension is 0"],
    ),
    (
        "dimensions that wrap to 0",
        |f| f.tensors[0].dims = vec![1 << 32, 1 << 32],
        &["overflow"],
    ),
    (
        "bytes that wrap to 0",
        |f| f.tensors[0].dims = vec![1 << 31, 1 << 31],
        &["overflow"],
    ),
    (
        "dimensions past 2^64",
        |f| f.tensors[0].dims = vec![u64::MAX; 4],
        &["token_embd.weight"],
    ),
    (
        "unknown type",
        |f| f.tensors[0].ty = 99,
        &["token_embd.weight at byte", "number 99", "q6_k"],
    ),
    (
        "type not built",
        |f| f.tensors[0].ty = 40,
        &["weight type nvfp4 is not supported"],
    ),
    (
        "integers",
        |f| f.tensors[0].ty = 26,
        &["weight type i32 is not supported"],
    ),
    (
        "not whole blocks",
        |f| f.tensors[0].ty = Q4_0,
        &["8 values is not whole q4_0 blocks of 32"],
    ),
    (
        "not aligned",
        |f| f.tensors[1].offset = Some(4),
        &["offset 4 is not a multiple of the alignment 32"],
    ),
    (
        "past the end",
        |f| f.tensors[1].offset = Some(1 << 20),
        &["end after the file's"],
    ),
    (
        "offset that wraps",
        |f| f.tensors[1].offset = Some(u64::MAX - 31),
        &["end after the file's"],
    ),
    (
        "overlap",
        |f| f.tensors[1].offset = Some(0),
        &["overlaps that of"],
    ),
    (
        "overlap by a part",
        |f| f.tensors[1].offset = Some(160),
        &["overlaps that of token_embd.weight"],
    ),
    (
        "twice",
        |f| f.tensors.push(f.tensors[1].clone()),
        &["output_norm.weight", "tensor is there twice"],
    ),
    (
        "no name",
        |f| f.tensors[1].name.clear(),
        &["tensor 1 at byte", "name of 0 bytes"],
    ),
    (
        "name too long",
        |f| f.tensors[1].name = vec![b'a'; 256],
        &["name of 256 bytes; between 1 and 255"],
    ),
    (
        "name not UTF-8",
        |f| f.tensors[1].name = vec![0xc0],
        &["tensor 1", "not UTF-8"],
    ),
    (
        "too big for the file",
        |f| f.tensors[0].dims = vec![8, 1 << 40],
        &["end after the file's"],
    ),
];

#[test]
fn wrong_tensors_are_refused() {
    check_all(WRONG_TENSORS);
}

const WRONG_VALUES: &[Case] = &[
    (
        "alignment 0",
        |f| _ = f.set("general.alignment", u32(0)),
        &["general.alignment at byte", "0 is not a power of two"],
    ),
    (
        "alignment 24",
        |f| _ = f.set("general.alignment", u32(24)),
        &["24 is not a power of two"],
    ),
    (
        "alignment 2^40",
        |f| _ = f.set("general.alignment", u64(1 << 40)),
        &["not a power of two up to 1048576"],
    ),
    (
        "alignment of text",
        |f| _ = f.set("general.alignment", text("32")),
        &["type string, not the whole number"],
    ),
    (
        "no architecture",
        |f| f.unset("general.architecture"),
        &["general.architecture is missing"],
    ),
    (
        "unknown architecture",
        |f| _ = f.set("general.architecture", text("rwkv7")),
        &[
            "general.architecture at byte",
            "architecture \"rwkv7\", a model with recurrent layers, is not supported",
            "llama, qwen2, qwen3, gemma2, gemma3, phi3, olmo2, granite, smollm3",
        ],
    ),
    (
        "architecture of a number",
        |f| _ = f.set("general.architecture", u32(1)),
        &["type u32, not the string"],
    ),
    (
        "architecture not UTF-8",
        |f| _ = f.set("general.architecture", value(8, &string(&[0xff]))),
        &["not UTF-8"],
    ),
    (
        "one of several files, and not which",
        |f| _ = f.set("split.count", u32(3)),
        &["split.no is missing"],
    ),
    (
        "one of several files by another name",
        |f| _ = f.set("split.count", u32(3)).set("split.no", u32(1)),
        &[
            "split.no at byte",
            "part 2 of 3",
            "-00002-of-00003.gguf",
            "llama-gguf-split",
        ],
    ),
    (
        "a part past the last",
        |f| _ = f.set("split.count", u32(3)).set("split.no", u32(3)),
        &["split.no at byte", "3, counted from 0, of 3 parts"],
    ),
    (
        "a million parts",
        |f| _ = f.set("split.count", u32(1_000_000)),
        &["split.count at byte", "over the limit of 1024"],
    ),
    (
        "zero layers",
        |f| _ = f.set("llama.block_count", u32(0)),
        &["llama.block_count at byte", "0 is not between 1 and 1024"],
    ),
    (
        "a million layers",
        |f| _ = f.set("llama.block_count", u32(1_000_000)),
        &["1000000 is not between"],
    ),
    (
        "heads of text",
        |f| _ = f.set("llama.attention.head_count", text("2")),
        &["llama.attention.head_count", "type string"],
    ),
    (
        "heads of an array",
        |f| _ = f.set("llama.attention.head_count", array(4, 1, &[2, 0, 0, 0])),
        &["type array"],
    ),
    (
        "heads below zero",
        |f| _ = f.set("llama.attention.head_count", i32(-2)),
        &["-2 is less than zero"],
    ),
    (
        "heads that do not divide",
        |f| _ = f.set("llama.attention.head_count", u32(3)),
        &["3 heads do not divide the width of 8"],
    ),
    (
        "KV heads that do not divide",
        |f| _ = f.set("llama.attention.head_count_kv", u32(3)),
        &["2 query heads are not a multiple of 3"],
    ),
    (
        "epsilon NaN",
        |f| _ = f.set("llama.attention.layer_norm_rms_epsilon", f32(f32::NAN)),
        &["NaN is not finite"],
    ),
    (
        "epsilon 0",
        |f| _ = f.set("llama.attention.layer_norm_rms_epsilon", f32(0.0)),
        &["0 is not above zero"],
    ),
    (
        "epsilon of u8",
        |f| _ = f.set("llama.attention.layer_norm_rms_epsilon", u8(1)),
        &["type u8, not the f32"],
    ),
    (
        "context of 2^60",
        |f| _ = f.set("llama.context_length", u64(1 << 60)),
        &["llama.context_length", "is not between"],
    ),
    (
        "other values' width",
        |f| _ = f.set("llama.attention.value_length", u32(8)),
        &["values of another width than keys (4)"],
    ),
    (
        "odd rotation",
        |f| _ = f.set("llama.rope.dimension_count", u32(3)),
        &["3 rotated elements are odd"],
    ),
    (
        "rotation wider than a head",
        |f| _ = f.set("llama.rope.dimension_count", u32(6)),
        &["or over 4 a head"],
    ),
    (
        "rope base 0",
        |f| _ = f.set("llama.rope.freq_base", f32(0.0)),
        &["llama.rope.freq_base", "not above zero"],
    ),
    (
        "unknown scaling",
        |f| _ = f.set("llama.rope.scaling.type", text("dynamic")),
        &["rope scaling \"dynamic\" is not supported", "yarn"],
    ),
    (
        "linear without a factor",
        |f| _ = f.set("llama.rope.scaling.type", text("linear")),
        &["llama.rope.scaling.factor is missing"],
    ),
    (
        "yarn without a context",
        |f| _ = f.set("llama.rope.scaling.type", text("yarn")),
        &["original_context_length is missing"],
    ),
    (
        "longrope without factors",
        |f| _ = f.set("llama.rope.scaling.type", text("longrope")),
        &["rope_factors_long.weight is missing"],
    ),
    (
        "experts",
        |f| _ = f.set("llama.expert_count", u32(8)),
        &["llama.expert_count", "mixture of 8 experts"],
    ),
    (
        "another scale of logits",
        |f| _ = f.set("llama.logit_scale", f32(2.0)),
        &["llama.logit_scale at byte", "not supported"],
    ),
    (
        "caps",
        |f| _ = f.set("llama.attn_logit_softcapping", f32(2.0)),
        &["gemma2 and gemma3"],
    ),
    (
        "vocabulary of another size",
        |f| _ = f.set("llama.vocab_size", u32(7)),
        &["token_embd.weight", "shape [6, 8], the model needs [7, 8]"],
    ),
    (
        "more tokens than rows",
        |f| {
            _ = f.set(
                "tokenizer.ggml.tokens",
                texts(&["<unk>", "<s>", "</s>", "a", "b", "ab", "c"]),
            )
        },
        &["tokenizer.ggml."],
    ),
    (
        "no tokenizer",
        |f| f.unset("tokenizer.ggml.model"),
        &["tokenizer.ggml.model is missing"],
    ),
    (
        "unknown tokenizer",
        |f| _ = f.set("tokenizer.ggml.model", text("t5")),
        &["tokenizer.ggml.model", "t5"],
    ),
    (
        "template of a number",
        |f| _ = f.set("tokenizer.chat_template", u32(1)),
        &["tokenizer.chat_template", "type u32"],
    ),
];

#[test]
fn wrong_values_are_refused() {
    check_all(WRONG_VALUES);
}

#[test]
fn required_keys() {
    for key in [
        "embedding_length",
        "block_count",
        "context_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
    ] {
        let mut file = Gguf::tiny("llama");
        let key = format!("llama.{key}");
        file.unset(&key);
        check(&key, &file.bytes(), &[&format!("{key} is missing")]);
    }
    for key in [
        "attention.sliding_window",
        "attn_logit_softcapping",
        "final_logit_softcapping",
    ] {
        let mut file = Gguf::tiny("gemma2");
        let key = format!("gemma2.{key}");
        file.unset(&key);
        check(&key, &file.bytes(), &[&format!("{key} is missing")]);
    }
}

#[test]
fn required_tensors() {
    for architecture in support::ARCHITECTURES {
        let whole = Gguf::tiny(architecture);
        for index in 0..whole.tensors.len() {
            let mut file = whole.clone();
            let name = String::from_utf8(file.tensors.remove(index).name).unwrap();
            check(
                &name,
                &file.bytes(),
                &[&format!("tensor {name} is missing")],
            );
        }
    }
}

#[test]
fn tensors_of_another_shape() {
    for architecture in support::ARCHITECTURES {
        let whole = Gguf::tiny(architecture);
        for index in 0..whole.tensors.len() {
            let mut file = whole.clone();
            file.tensors[index].dims.push(2);
            let name = String::from_utf8(file.tensors[index].name.clone()).unwrap();
            check(
                &name,
                &file.bytes(),
                &[&name, "at byte", "the model needs ["],
            );
        }
    }
}

const TENSORS_THAT_DO_NOT_BELONG: &[Case] = &[
    (
        "another family's",
        |f| f.tensor("blk.0.attn_q_norm.weight", &[4], F32),
        &[
            "blk.0.attn_q_norm.weight at byte",
            "a tensor that no llama model has",
        ],
    ),
    (
        "a layer too many",
        |f| f.tensor("blk.1.attn_norm.weight", &[8], F32),
        &["blk.1.attn_norm.weight"],
    ),
    (
        "experts",
        |f| f.tensor("blk.0.ffn_up_exps.weight", &[8, 16, 4], F32),
        &["mixture of experts"],
    ),
    (
        "a norm in blocks",
        |f| f.find("output_norm.weight").ty = Q8_0,
        &["output_norm.weight", "blocks of 32"],
    ),
    (
        "a bias of another length",
        |f| f.tensor("blk.0.attn_q.bias", &[9], F32),
        &["blk.0.attn_q.bias", "needs [8]"],
    ),
    (
        "factors for other pairs",
        |f| f.tensor("rope_freqs.weight", &[3], F32),
        &["rope_freqs.weight", "needs [2]"],
    ),
];

#[test]
fn tensors_that_do_not_belong_are_refused() {
    check_all(TENSORS_THAT_DO_NOT_BELONG);
}

#[test]
fn a_norm_that_is_not_finite_is_refused() {
    let file = Gguf::tiny("llama");
    let mut bytes = file.bytes();
    let data = file.header().len().next_multiple_of(32);
    // The second tensor, `output_norm.weight`, follows the 192 bytes of the first.
    bytes[data + 192 + 8..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    check("NaN", &bytes, &["output_norm.weight", "value 2 is NaN"]);
}

#[test]
fn a_header_over_the_limit_is_refused_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.gguf");
    let mut file = Gguf::tiny("llama");
    // An array of 300 MiB that is really there, as a hole.
    file.pairs = vec![(b"a".to_vec(), array(0, 300 << 20, &[]))];
    std::fs::write(&path, file.header()).unwrap();
    let long = File::options().write(true).open(&path).unwrap();
    long.set_len(1 << 30).unwrap();
    let message = refusal_of(&path, &OpenOptions::default());
    assert!(message.contains("longer than the limit"), "{message}");
}

#[test]
fn contexts_that_the_model_cannot_have() {
    let bytes = Gguf::tiny("llama").bytes();
    for context in [0, 65, usize::MAX] {
        let options = OpenOptions {
            context: Some(context),
            ..OpenOptions::default()
        };
        let message = refusal(&bytes, &options);
        let words = format!("a context of {context} tokens was asked for; the model takes 1 to 64");
        assert_eq!(message, words);
    }
}

#[test]
fn a_path_that_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let message = refusal_of(&folder.path().join("none.gguf"), &OpenOptions::default());
    assert!(message.starts_with("cannot open: "), "{message}");
    let message = refusal_of(Path::new("/dev/null"), &OpenOptions::default());
    assert!(message.contains("not a regular file"), "{message}");
}

#[test]
fn a_file_cut_after_it_was_opened_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gguf");
    std::fs::write(&path, Gguf::tiny("llama").bytes()).unwrap();
    let model = Model::open(&path, &OpenOptions::default()).unwrap();
    let cut = File::options().write(true).open(&path).unwrap();
    cut.set_len(100).unwrap();
    let table = &model.decoder().embedding.table;
    let mut out = vec![0; table.row_bytes()];
    let error = model.read_rows(table, 2..3, &mut out).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("cannot read 32 bytes of token_embd.weight at byte"),
        "{message}"
    );
}
