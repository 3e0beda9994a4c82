use std::path::Path;

use crate::error::{ModelError, shown};
use crate::gguf::Metadata;

use super::limits::TOKENS_MAX;
use super::pieces::Kind;

/// What a GGUF file says about its tokenizer: the keys `tokenizer.ggml.*`, read and not yet
/// understood.
#[derive(Debug)]
pub(crate) struct GgufVocabulary<'a> {
    /// For messages.
    pub(crate) file: &'a Path,
    /// `gpt2` or `llama`.
    pub(crate) model: &'a str,
    /// The rules by which a byte-level vocabulary cuts words.
    pub(crate) pre: Option<&'a str>,
    /// The text of each token.
    pub(crate) tokens: Vec<&'a str>,
    /// One for each token, or none at all.
    pub(crate) scores: Vec<f32>,
    /// One for each token, or none at all: 1 normal, 2 unknown, 3 control, 4 added by the user,
    /// 5 unused, 6 a byte.
    pub(crate) types: Vec<i32>,
    /// `left right`, best first.
    pub(crate) merges: Vec<&'a str>,
    pub(crate) bos: Option<u32>,
    pub(crate) unknown: Option<u32>,
    /// The tokens that end something: `eos`, `eot`, `eom` and the fill-in-the-middle ones.
    pub(crate) ends: Vec<u32>,
    pub(crate) add_bos: Option<bool>,
    pub(crate) add_space_prefix: Option<bool>,
    /// It is Phi-3's, whose control tokens take the white space after them. No key says so.
    pub(crate) is_phi3: bool,
}

/// Keys of tokens after which there is nothing more to say, as llama.cpp counts them.
const END_KEYS: [&str; 6] = [
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
];

impl<'a> GgufVocabulary<'a> {
    /// Reads the keys out of a file's metadata.
    pub(crate) fn read(metadata: &'a Metadata) -> Result<Self, ModelError> {
        let strings = |key: &str| -> Result<Vec<&'a str>, ModelError> {
            metadata
                .strings(key)?
                .map_or(Ok(Vec::new()), Iterator::collect)
        };
        let tokens = strings(TOKENS)?;
        let count = tokens.len();
        // A token past the vocabulary is none: the model's warnings name it.
        let id = |key: &str| -> Result<Option<u32>, ModelError> {
            let id = metadata.u32(key)?;
            Ok(id.filter(|id| (*id as usize) < count))
        };
        let model = metadata.str("tokenizer.ggml.model");
        let name = metadata
            .str("general.name")?
            .unwrap_or_default()
            .to_lowercase();
        let ends = END_KEYS.iter().filter_map(|key| id(key).transpose());
        Ok(Self {
            file: metadata.file(),
            model: metadata.required("tokenizer.ggml.model", model)?,
            pre: metadata.str("tokenizer.ggml.pre")?,
            tokens,
            scores: metadata.f32s(SCORES)?.unwrap_or_default(),
            types: metadata.i32s(TYPES)?.unwrap_or_default(),
            merges: strings(MERGES)?,
            bos: id("tokenizer.ggml.bos_token_id")?,
            unknown: id("tokenizer.ggml.unknown_token_id")?,
            ends: ends.collect::<Result<_, _>>()?,
            add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
            add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix")?,
            is_phi3: name.contains("phi-3") || name.contains("phi3"),
        })
    }

    /// Refuses lists whose lengths or ids do not fit together.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        let len = self.tokens.len();
        if len == 0 || len > TOKENS_MAX {
            return Err(self.malformed(TOKENS, format!("{len} tokens, not 1 to {TOKENS_MAX}")));
        }
        for (key, found) in [(SCORES, self.scores.len()), (TYPES, self.types.len())] {
            if found != 0 && found != len {
                return Err(self.malformed(key, format!("{found} entries for {len} tokens")));
            }
        }
        let ids = self.bos.iter().chain(&self.unknown);
        match ids.copied().find(|id| *id as usize >= len) {
            Some(id) => {
                let what = format!("a token id is {id}, and there are only {len} tokens");
                Err(self.malformed("tokenizer.ggml.*_token_id", what))
            }
            None => Ok(()),
        }
    }

    /// What the token counts as; `normal` is what normal ones do in this vocabulary.
    pub(super) fn kind(&self, id: usize, normal: Kind) -> Result<Kind, ModelError> {
        Ok(match self.types.get(id) {
            None | Some(1) => normal,
            Some(2 | 3) => Kind::Control,
            Some(4) => Kind::of_added(self.tokens[id]),
            Some(0 | 5) => Kind::Unused,
            Some(6) => Kind::Byte,
            Some(other) => {
                let what = format!("token {id} has type {other}, not 0 to 6");
                return Err(self.malformed(TYPES, what));
            }
        })
    }

    /// Whether the token takes the white space after it. In Phi-3's own tokenizer.json all tokens
    /// that were added do but these three.
    pub(super) fn strips_after(&self, text: &str, control: bool) -> bool {
        let keeps = ["<unk>", "<s>", "<|endoftext|>"].contains(&text);
        self.is_phi3 && !keeps && (control || text == "</s>")
    }

    /// The byte that a byte token, `<0x0A>`, stands for.
    pub(super) fn byte(&self, id: usize) -> Result<u8, ModelError> {
        let text = self.tokens[id];
        byte_of(text).ok_or_else(|| {
            let what = format!(
                "token {id} is a byte, and its text {:?} is not <0xNN>",
                shown(text)
            );
            self.malformed(TOKENS, what)
        })
    }

    pub(super) fn malformed(&self, key: &str, what: String) -> ModelError {
        ModelError::Malformed {
            file: self.file.to_owned(),
            field: key.to_owned(),
            offset: None,
            what,
        }
    }

    pub(super) fn missing(&self, key: &str, remedy: &str) -> ModelError {
        ModelError::Missing {
            file: self.file.to_owned(),
            field: key.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    pub(super) fn unsupported(&self, key: &str, found: &str, supported: String) -> ModelError {
        ModelError::Unsupported {
            file: self.file.to_owned(),
            field: key.to_owned(),
            offset: None,
            found: shown(found),
            supported,
        }
    }
}

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
pub(super) const SCORES: &str = "tokenizer.ggml.scores";
pub(super) const MERGES: &str = "tokenizer.ggml.merges";
const TYPES: &str = "tokenizer.ggml.token_type";

/// The byte of a text like `<0x0A>`.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hexadecimal.then(|| u8::from_str_radix(digits, 16).ok())?
}
