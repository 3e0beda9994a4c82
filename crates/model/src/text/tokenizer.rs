use std::sync::Arc;

use crate::error::{ModelError, shown};

use super::alphabet::ByteAlphabet;
use super::bpe::{Bpe, BpeFault};
use super::json::JsonEncoder;
use super::limits::TEXT_BYTES_MAX;
use super::parts::{Parts, is_end};
use super::pieces::{Kind, Pieces};
use super::special::{Fragment, SpecialTokens, Specials};
use super::split::Splitter;
use super::spm::{Part, Spm, SpmFault, SpmParts};
use super::vocabulary::{GgufVocabulary, MERGES, SCORES, TOKENS};

/// Text to token ids. Shared by every sequence of a model; encoding changes nothing in it.
#[derive(Debug)]
pub struct Tokenizer {
    pieces: Arc<Pieces>,
    encoder: Encoder,
    bos: Option<u32>,
    /// Sorted.
    ends: Vec<u32>,
    space_prefix: bool,
}

#[derive(Debug)]
enum Encoder {
    Gguf(Specials, Merging),
    Json(Box<JsonEncoder>),
}

/// How what lies between special tokens becomes tokens.
#[derive(Debug)]
enum Merging {
    Bpe(Bpe),
    Spm(Spm),
}

impl Tokenizer {
    /// The tokenizer a GGUF file describes.
    pub(crate) fn from_gguf(vocabulary: &GgufVocabulary<'_>) -> Result<Self, ModelError> {
        vocabulary.check()?;
        match vocabulary.model {
            "gpt2" => byte_level(vocabulary),
            "llama" => sentence_piece(vocabulary),
            other => {
                let supported = "gpt2 (byte-level BPE), llama (SentencePiece BPE)".to_owned();
                Err(vocabulary.unsupported("tokenizer.ggml.model", other, supported))
            }
        }
    }

    pub(super) fn from_json(encoder: JsonEncoder, parts: Parts) -> Self {
        Self::new(Encoder::Json(Box::new(encoder)), parts)
    }

    fn new(encoder: Encoder, parts: Parts) -> Self {
        let Parts {
            mut pieces,
            bos,
            mut ends,
            space_prefix,
        } = parts;
        pieces.shrink();
        ends.sort_unstable();
        ends.dedup();
        Self {
            pieces: Arc::new(pieces),
            encoder,
            bos,
            ends,
            space_prefix,
        }
    }

    /// The tokens of `text`, without a [`bos`](Self::bos). Nothing is normalised that the model's
    /// own tokenizer does not. Refuses a text of more than 64 MiB.
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, ModelError> {
        if text.len() > TEXT_BYTES_MAX {
            let what = format!(
                "the text has {} bytes; at most {TEXT_BYTES_MAX} can be encoded",
                text.len()
            );
            return Err(ModelError::Request { what });
        }
        let (specials, merging) = match &self.encoder {
            Encoder::Json(json) => return json.encode(text, special),
            Encoder::Gguf(specials, merging) => (specials, merging),
        };
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut begins = true;
        for fragment in specials.cut(text, &self.pieces, special) {
            match &fragment {
                Fragment::Token(id) => ids.push(*id),
                Fragment::Text(at) => {
                    let text = &text[at.clone()];
                    match merging {
                        Merging::Bpe(bpe) => bpe.encode(&self.pieces, text, &mut ids),
                        Merging::Spm(spm) => {
                            spm.encode(&self.pieces, Part { text, begins }, &mut ids);
                        }
                    }
                }
            }
            begins = matches!(fragment, Fragment::Token(_));
        }
        Ok(ids)
    }

    /// The token every text must begin with, if the model says so.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether this token ends a text or a turn, so that generation stops at it.
    pub fn ends(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Tokens in the vocabulary: their ids are below this. The model may have rows for more.
    pub fn vocab(&self) -> usize {
        self.pieces.len()
    }

    /// The bytes this token adds to a text: none for control tokens, possibly not UTF-8 by
    /// themselves. `None` when the vocabulary has no such token.
    pub fn piece(&self, id: u32) -> Option<Vec<u8>> {
        self.pieces.kind(id)?;
        let mut bytes = Vec::new();
        self.pieces.write(id, &mut bytes);
        Some(bytes)
    }

    pub(super) fn pieces(&self) -> &Arc<Pieces> {
        &self.pieces
    }

    /// Whether encoding puts a space before a text, which decoding takes away again.
    pub(super) fn space_prefix(&self) -> bool {
        self.space_prefix
    }
}

fn byte_level(vocabulary: &GgufVocabulary<'_>) -> Result<Tokenizer, ModelError> {
    let splitter = splitter(vocabulary)?;
    let alphabet = ByteAlphabet::new();
    let mut pieces = Pieces::default();
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        match vocabulary.kind(id, Kind::Plain)? {
            Kind::Byte => pieces.push(&[vocabulary.byte(id)?], Kind::Byte),
            Kind::Plain => match alphabet.decode(text) {
                Some(bytes) => pieces.push(&bytes, Kind::Plain),
                None => pieces.push(text.as_bytes(), Kind::Plain),
            },
            kind => pieces.push(text.as_bytes(), kind),
        }
    }
    if vocabulary.merges.is_empty() {
        return Err(vocabulary.missing(
            MERGES,
            "convert the model again with a converter that writes it",
        ));
    }
    let ends = ends(vocabulary, &mut pieces);
    let bos = bos(vocabulary, splitter.adds_bos)?;
    let bpe =
        Bpe::new(splitter, &pieces, &vocabulary.tokens, &vocabulary.merges).map_err(|fault| {
            match fault {
                BpeFault::Crowded => crowded(vocabulary),
                BpeFault::Twins(a, b) => twins(vocabulary, a, b),
                BpeFault::Merge(rank) => {
                    let what = format!(
                        "merge {rank}, {:?}, is not two tokens that make a third",
                        shown(vocabulary.merges[rank])
                    );
                    vocabulary.malformed(MERGES, what)
                }
            }
        })?;
    let specials = specials(vocabulary, &pieces)?;
    let parts = Parts {
        pieces,
        bos,
        ends,
        space_prefix: false,
    };
    Ok(Tokenizer::new(
        Encoder::Gguf(specials, Merging::Bpe(bpe)),
        parts,
    ))
}

fn sentence_piece(vocabulary: &GgufVocabulary<'_>) -> Result<Tokenizer, ModelError> {
    let mut pieces = Pieces::default();
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        match vocabulary.kind(id, Kind::Spaced)? {
            Kind::Byte => pieces.push(&[vocabulary.byte(id)?], Kind::Byte),
            kind => pieces.push(text.as_bytes(), kind),
        }
    }
    if vocabulary.scores.is_empty() {
        return Err(vocabulary.missing(
            SCORES,
            "convert the model again with a converter that writes it",
        ));
    }
    if let Some(id) = vocabulary
        .scores
        .iter()
        .position(|score| !score.is_finite())
    {
        let what = format!("the score of token {id} is {}", vocabulary.scores[id]);
        return Err(vocabulary.malformed(SCORES, what));
    }
    let ends = ends(vocabulary, &mut pieces);
    let bos = bos(vocabulary, true)?;
    let space_prefix = vocabulary.add_space_prefix.unwrap_or(true);
    let parts = SpmParts {
        scores: vocabulary.scores.clone(),
        unknown: vocabulary.unknown,
        space_prefix,
    };
    let spm = Spm::new(&pieces, parts).map_err(|fault| match fault {
        SpmFault::Crowded => crowded(vocabulary),
        SpmFault::Twins(a, b) => twins(vocabulary, a, b),
        SpmFault::NoToken(byte) => {
            let what = format!("no token for byte {byte:#04x}, and no unknown token either");
            vocabulary.malformed(TOKENS, what)
        }
    })?;
    let specials = specials(vocabulary, &pieces)?;
    let parts = Parts {
        pieces,
        bos,
        ends,
        space_prefix,
    };
    Ok(Tokenizer::new(
        Encoder::Gguf(specials, Merging::Spm(spm)),
        parts,
    ))
}

fn splitter(vocabulary: &GgufVocabulary<'_>) -> Result<Splitter, ModelError> {
    const KEY: &str = "tokenizer.ggml.pre";
    let Some(name) = vocabulary.pre else {
        let remedy = "a wrong guess would only show in worse answers; convert the model again with a converter that writes it";
        return Err(vocabulary.missing(KEY, remedy));
    };
    Splitter::named(name)
        .ok_or_else(|| vocabulary.unsupported(KEY, name, Splitter::names().join(", ")))
}

fn specials(vocabulary: &GgufVocabulary<'_>, pieces: &Pieces) -> Result<Specials, ModelError> {
    Specials::of(pieces, vocabulary.strips_after_control).map_err(|_| crowded(vocabulary))
}

fn bos(vocabulary: &GgufVocabulary<'_>, adds: bool) -> Result<Option<u32>, ModelError> {
    match (vocabulary.add_bos.unwrap_or(adds), vocabulary.bos) {
        (false, _) => Ok(None),
        (true, Some(id)) => Ok(Some(id)),
        (true, None) => {
            let remedy = "the tokenizer wants it before every text";
            Err(vocabulary.missing("tokenizer.ggml.bos_token_id", remedy))
        }
    }
}

/// The tokens that end a text; those known by their text become control tokens.
fn ends(vocabulary: &GgufVocabulary<'_>, pieces: &mut Pieces) -> Vec<u32> {
    let mut ends = vocabulary.ends.clone();
    for (id, text) in vocabulary.tokens.iter().enumerate() {
        if is_end(text) {
            // There are fewer than 2^31 tokens.
            ends.push(id as u32);
            pieces.set_kind(id as u32, Kind::Control);
        }
    }
    ends
}

fn crowded(vocabulary: &GgufVocabulary<'_>) -> ModelError {
    vocabulary.malformed(
        TOKENS,
        "its tokens collide in a hash table far beyond chance".to_owned(),
    )
}

fn twins(vocabulary: &GgufVocabulary<'_>, first: u32, second: u32) -> ModelError {
    let text = shown(vocabulary.tokens[second as usize]);
    let what = format!("tokens {first} and {second} have the same text {text:?}");
    vocabulary.malformed(TOKENS, what)
}
