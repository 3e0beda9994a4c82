//! `tokenizer.json` as it is written. A key or a kind that is not here is an error: each could
//! change what a text becomes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::texts::{MergeList, Vocabulary};

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    pub(super) version: Option<String>,
    /// What to do with long texts, and with several at once: nothing is cut or filled here.
    #[serde(rename = "truncation")]
    _truncation: Option<IgnoredAny>,
    #[serde(rename = "padding")]
    _padding: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedToken>,
    pub(super) normalizer: Option<Normalizer>,
    pub(super) pre_tokenizer: Option<PreTokenizer>,
    pub(super) post_processor: Option<PostProcessor>,
    pub(super) decoder: Option<Decoder>,
    pub(super) model: Model,
}

/// A token that is found before anything else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    pub(super) normalized: Option<bool>,
    #[serde(default)]
    pub(super) special: bool,
}

/// A change of the text.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum Normalizer {
    Sequence {
        normalizers: Vec<Normalizer>,
    },
    #[serde(rename = "NFC")]
    Nfc {},
    #[serde(rename = "NFD")]
    Nfd {},
    #[serde(rename = "NFKC")]
    Nfkc {},
    #[serde(rename = "NFKD")]
    Nfkd {},
    Replace {
        pattern: Text,
        content: String,
    },
    Prepend {
        prepend: String,
    },
}

/// What a step looks for.
#[derive(Deserialize)]
pub(super) enum Text {
    String(String),
    Regex(String),
}

/// A way to cut the text.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum PreTokenizer {
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
    Split {
        pattern: Text,
        behavior: Behavior,
        #[serde(default)]
        invert: bool,
    },
    ByteLevel(ByteLevel),
    Digits {
        #[serde(default)]
        individual_digits: bool,
    },
    Metaspace(Metaspace),
    Punctuation {
        #[serde(default)]
        behavior: Behavior,
    },
}

/// What becomes of matches.
#[derive(Clone, Copy, Default, Deserialize)]
pub(super) enum Behavior {
    #[default]
    Isolated,
    Removed,
    Contiguous,
    MergedWithPrevious,
    MergedWithNext,
}

/// Bytes as GPT-2's letters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ByteLevel {
    #[serde(default = "yes")]
    pub(super) add_prefix_space: bool,
    #[serde(rename = "trim_offsets")]
    _trim_offsets: Option<bool>,
    #[serde(default = "yes")]
    pub(super) use_regex: bool,
}

const fn yes() -> bool {
    true
}

/// A mark for spaces.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metaspace {
    pub(super) replacement: char,
    pub(super) add_prefix_space: Option<bool>,
    #[serde(default)]
    pub(super) prepend_scheme: PrependScheme,
    #[serde(default = "yes")]
    pub(super) split: bool,
    #[serde(rename = "str_rep")]
    _str_rep: Option<IgnoredAny>,
}

/// Before what a [`Metaspace`] is put.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum PrependScheme {
    First,
    Never,
    #[default]
    Always,
}

/// What comes before and after the tokens of a text.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum PostProcessor {
    Sequence {
        processors: Vec<PostProcessor>,
    },
    TemplateProcessing {
        single: Vec<Piece>,
        #[serde(rename = "pair")]
        _pair: Option<IgnoredAny>,
        #[serde(default)]
        special_tokens: BTreeMap<String, SpecialToken>,
    },
    ByteLevel(
        #[expect(dead_code, reason = "only moves offsets, and its keys are checked")] ByteLevel,
    ),
}

/// An element of a template.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Piece {
    SpecialToken {
        id: String,
        #[serde(rename = "type_id")]
        _type_id: IgnoredAny,
    },
    Sequence {
        #[serde(rename = "id")]
        _id: IgnoredAny,
        #[serde(rename = "type_id")]
        _type_id: IgnoredAny,
    },
}

/// A special token of a template.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpecialToken {
    #[serde(rename = "id")]
    _id: IgnoredAny,
    pub(super) ids: Vec<u32>,
    #[serde(rename = "tokens")]
    _tokens: IgnoredAny,
}

/// A step from tokens to text.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum Decoder {
    Sequence {
        decoders: Vec<Decoder>,
    },
    ByteLevel(#[expect(dead_code, reason = "its keys are for the other direction")] ByteLevel),
    ByteFallback {},
    Fuse {},
    Metaspace(Metaspace),
    Replace {
        pattern: Text,
        content: String,
    },
    Strip {
        content: char,
        start: usize,
        stop: usize,
    },
}

/// The vocabulary. Other kinds than BPE are told apart by `type`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) dropout: Option<f64>,
    pub(super) unk_token: Option<String>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) fuse_unk: bool,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    pub(super) vocab: Vocabulary,
    pub(super) merges: MergeList,
}

/// Only what kind of vocabulary a file has, for a message about one that is not supported.
#[derive(Deserialize)]
pub(super) struct Kind {
    pub(super) model: ModelKind,
}

/// See [`Kind`].
#[derive(Deserialize)]
pub(super) struct ModelKind {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}
