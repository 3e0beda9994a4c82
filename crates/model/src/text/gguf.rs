//! The tokenizer that a GGUF file describes.

use crate::error::{ModelError, shown};

use super::alphabet::ByteAlphabet;
use super::bpe::{Bpe, BpeParts, Start, Written, WrittenFault, alphabet_tokens};
use super::encoder::{Encoder, Merging};
use super::normalise::Normaliser;
use super::parts::{Parts, is_end, is_named_control};
use super::pieces::{Kind, Pieces};
use super::pre::Pre;
use super::special::{Role, Special, Specials, TooLong};
use super::split::Splitter;
use super::spm::{Spm, SpmFault, SpmParts};
use super::tokenizer::Tokenizer;
use super::vocabulary::{GgufVocabulary, MERGES, SCORES, TOKENS};

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
}

fn byte_level(vocabulary: &GgufVocabulary<'_>) -> Result<Tokenizer, ModelError> {
    let pre = pre(vocabulary)?;
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
    let ends = ends(vocabulary, &mut pieces);
    let bos = bos(vocabulary, pre.adds_bos)?;
    let bpe = bpe(vocabulary, &pieces, pre.whole_words)?;
    let encoder = Encoder {
        specials: specials(vocabulary, &pieces)?,
        normaliser: pre.normaliser,
        normalised: Specials::none(),
        prefix: None,
        splitter: pre.splitter,
        merging: Merging::Bpe(bpe),
    };
    let parts = Parts {
        pieces,
        bos,
        ends: Vec::new(),
        space_prefix: false,
        notices: Vec::new(),
    };
    Ok(Tokenizer::new(encoder, parts.with_ends(ends)))
}

fn bpe(
    vocabulary: &GgufVocabulary<'_>,
    pieces: &Pieces,
    whole_words: bool,
) -> Result<Bpe, ModelError> {
    if vocabulary.merges.is_empty() {
        return Err(vocabulary.missing(
            MERGES,
            "convert the model again with a converter that writes it",
        ));
    }
    let mut written = Written::new(&vocabulary.tokens).map_err(|fault| match fault {
        WrittenFault::Crowded => crowded(vocabulary),
        WrittenFault::Twins(a, b) => twins(vocabulary, a, b),
    })?;
    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    for merge in &vocabulary.merges {
        let found = sides(merge).and_then(|(left, right)| written.merge(left, right));
        merges.push(found.ok_or_else(|| {
            let (rank, shown) = (merges.len(), shown(merge));
            let what = format!("merge {rank}, {shown:?}, is not two tokens that make a third");
            vocabulary.malformed(MERGES, what)
        })?);
    }
    let parts = BpeParts {
        start: Start::Bytes(alphabet_tokens(&written)),
        unknown: None,
        whole_words,
        merges,
        last_counts: false,
        tokens: &vocabulary.tokens,
    };
    Bpe::new(parts, pieces).map_err(|_| crowded(vocabulary))
}

/// The sides of a merge written `left right`. A space that is the first byte belongs to the left.
fn sides(merge: &str) -> Option<(&str, &str)> {
    let space = 1 + merge.bytes().skip(1).position(|byte| byte == b' ')?;
    Some((&merge[..space], &merge[space + 1..]))
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
    let spm = spm(vocabulary, &pieces)?;
    let encoder = Encoder {
        specials: specials(vocabulary, &pieces)?,
        normaliser: Normaliser::default(),
        normalised: Specials::none(),
        prefix: None,
        splitter: Splitter::default(),
        merging: Merging::Spm(spm),
    };
    let parts = Parts {
        pieces,
        bos,
        ends: Vec::new(),
        space_prefix: space_prefix(vocabulary),
        notices: Vec::new(),
    };
    Ok(Tokenizer::new(encoder, parts.with_ends(ends)))
}

fn space_prefix(vocabulary: &GgufVocabulary<'_>) -> bool {
    vocabulary.add_space_prefix.unwrap_or(true)
}

fn spm(vocabulary: &GgufVocabulary<'_>, pieces: &Pieces) -> Result<Spm, ModelError> {
    let parts = SpmParts {
        scores: vocabulary.scores.clone(),
        unknown: vocabulary.unknown,
        space_prefix: space_prefix(vocabulary),
    };
    Spm::new(pieces, parts).map_err(|fault| match fault {
        SpmFault::Crowded => crowded(vocabulary),
        SpmFault::Twins(a, b) => twins(vocabulary, a, b),
        SpmFault::NoToken(byte) => {
            let what = format!("no token for byte {byte:#04x}, and no unknown token either");
            vocabulary.malformed(TOKENS, what)
        }
    })
}

fn pre(vocabulary: &GgufVocabulary<'_>) -> Result<Pre, ModelError> {
    const KEY: &str = "tokenizer.ggml.pre";
    let Some(name) = vocabulary.pre else {
        let remedy = "a wrong guess would only show in worse answers; convert the model again with a converter that writes it";
        return Err(vocabulary.missing(KEY, remedy));
    };
    Pre::named(name).ok_or_else(|| vocabulary.unsupported(KEY, name, Pre::names().join(", ")))
}

/// The tokens that are found before anything else: control tokens and those that were added.
fn specials(vocabulary: &GgufVocabulary<'_>, pieces: &Pieces) -> Result<Specials, ModelError> {
    let mut tokens = Vec::new();
    for (id, text) in (0..).zip(&vocabulary.tokens) {
        let role = match pieces.kind(id) {
            Some(Kind::Control) => Role::Control,
            Some(Kind::Structure) => Role::Structure,
            Some(Kind::Added) => Role::Text,
            _ => continue,
        };
        if !text.is_empty() {
            let mut special = Special::control(text, id);
            special.rules.role = role;
            special.rules.strips_after = vocabulary.strips_after(text, role == Role::Control);
            tokens.push(special);
        }
    }
    Specials::new(tokens).map_err(|TooLong(id)| {
        let what = format!("the text of token {id} is too long to be looked for");
        vocabulary.malformed(TOKENS, what)
    })
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

/// The tokens that end a text: those that keys name, and control tokens with a known text.
fn ends(vocabulary: &GgufVocabulary<'_>, pieces: &mut Pieces) -> Vec<u32> {
    let mut ends = vocabulary.ends.clone();
    for id in &vocabulary.ends {
        if pieces
            .kind(*id)
            .is_some_and(|kind| is_named_control(kind, pieces.text(*id)))
        {
            pieces.set_kind(*id, Kind::Control);
        }
    }
    for (id, text) in (0..).zip(&vocabulary.tokens) {
        if pieces.kind(id) == Some(Kind::Control) && is_end(text) {
            ends.push(id);
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
