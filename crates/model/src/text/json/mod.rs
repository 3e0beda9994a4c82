//! `tokenizer.json`: read into a form of its own that is checked before anything is built of it,
//! and then made into the same encoder that a GGUF file gets.

mod form;
mod steps;
mod texts;

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{ModelError, shown};
use crate::json_values::ValueLimit;

use super::alphabet::ByteAlphabet;
use super::bpe::{Bpe, BpeParts, Start, Unknown, Written, WrittenFault, alphabet_tokens};
use super::budget::{Budget, EncodeLimit};
use super::encoder::{Encoder, Merging};
use super::limits::{MESSAGE_CHARS_MAX, TOKENIZER_JSON_VALUES_MAX, TOKENS_MAX};
use super::merge::NONE;
use super::normalise::Normaliser;
use super::parts::{is_end, is_named_control};
use super::pieces::{Kind, Pieces};
use super::special::{Role, Rules, Special, Specials, TooLong};
use super::split::Splitter;
use super::vocabulary::byte_of;
use form::{AddedToken, Form, Piece, PostProcessor};
use steps::{Cutting, Style};

/// The vocabulary's and the merges' readers have a bound on what they take.
const VALUES: ValueLimit = ValueLimit {
    max: TOKENIZER_JSON_VALUES_MAX,
    apart: &[["model", "vocab"], ["model", "merges"]],
};

/// Where something is wrong.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) file: &'a Path,
}

impl Place<'_> {
    pub(super) fn malformed(self, field: &str, what: &str) -> ModelError {
        let mut what: String = what.chars().flat_map(char::escape_debug).collect();
        if let Some((end, _)) = what.char_indices().nth(MESSAGE_CHARS_MAX) {
            what.truncate(end);
            what.push('…');
        }
        ModelError::Malformed {
            file: self.file.to_owned(),
            field: field.to_owned(),
            offset: None,
            what,
        }
    }

    pub(super) fn unsupported(self, field: &str, found: &str, supported: &str) -> ModelError {
        ModelError::Unsupported {
            file: self.file.to_owned(),
            field: field.to_owned(),
            offset: None,
            found: shown(found),
            supported: supported.to_owned(),
        }
    }
}

/// A `tokenizer.json` that was read, and not yet built.
pub(super) struct TokenizerJson<'a> {
    place: Place<'a>,
    form: Form,
}

/// What a `tokenizer.json` gives for a tokenizer.
pub(super) struct Built {
    pub(super) encoder: Encoder,
    pub(super) pieces: Pieces,
    /// Control tokens that are known to end a text.
    pub(super) ends: Vec<u32>,
    pub(super) space_prefix: bool,
}

impl<'a> TokenizerJson<'a> {
    /// Reads the text of `file`.
    pub(super) fn read(file: &'a Path, json: &[u8]) -> Result<Self, ModelError> {
        let place = Place { file };
        let checked = VALUES.check(json);
        checked.map_err(|what| place.malformed("JSON", &what))?;
        let form: Form = serde_json::from_slice(json).map_err(|error| {
            // Other kinds have other keys, so it is looked at again what kind it is.
            match serde_json::from_slice::<form::Kind>(json) {
                Ok(kind) if kind.model.kind.as_deref().is_some_and(|kind| kind != "BPE") => {
                    unsupported_model(place, kind.model.kind.as_deref())
                }
                _ => place.malformed("JSON", &error.to_string()),
            }
        })?;
        let read = Self { place, form };
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), ModelError> {
        let model = &self.form.model;
        if model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
            return Err(unsupported_model(self.place, model.kind.as_deref()));
        }
        if self
            .form
            .version
            .as_deref()
            .is_some_and(|version| version != "1.0")
        {
            return Err(self.place.unsupported("version", "another version", "1.0"));
        }
        let affixes = [
            (
                "continuing_subword_prefix",
                &model.continuing_subword_prefix,
            ),
            ("end_of_word_suffix", &model.end_of_word_suffix),
        ];
        for (name, affix) in affixes {
            if affix.as_ref().is_some_and(|affix| !affix.is_empty()) {
                let field = format!("model.{name}");
                return Err(self.place.unsupported(&field, "a text", "null"));
            }
        }
        match model.dropout {
            Some(share) if share != 0.0 => {
                let found = format!("a share of {share}");
                Err(self.place.unsupported("model.dropout", &found, "null"))
            }
            _ => Ok(()),
        }
    }

    /// The token with this text.
    pub(super) fn id_of(&self, text: &str) -> Option<u32> {
        let mut added = self.form.added_tokens.iter();
        let added = added
            .find(|token| token.content == text)
            .map(|token| token.id);
        let mut vocabulary = self.form.model.vocab.iter();
        added.or_else(|| {
            vocabulary
                .find(|(token, _)| *token == text)
                .map(|(_, id)| id)
        })
    }

    /// All tokens and their ids, in no order; those that are added and in the vocabulary twice.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (&str, u32)> {
        let added = self.form.added_tokens.iter();
        let added = added.map(|token| (token.content.as_str(), token.id));
        added.chain(self.form.model.vocab.iter())
    }

    /// The token that is put before every text.
    pub(super) fn first(&self) -> Option<u32> {
        self.form.post_processor.as_ref().and_then(first)
    }

    /// Builds the tokenizer. `ends` are the tokens that other files name as ends.
    pub(super) fn build(&self, ends: &[i64]) -> Result<Built, ModelError> {
        let style = Style::of(self.place, self.form.decoder.as_ref())?;
        let cutting = Cutting::of(self.place, self.form.pre_tokenizer.as_ref())?;
        if style.byte_level != cutting.byte_level {
            let found = "ByteLevel in only one of pre_tokenizer and decoder";
            return Err(self.place.unsupported("decoder", found, "both or neither"));
        }
        let normaliser = steps::normaliser(self.place, self.form.normalizer.as_ref())?;
        let table = Table::of(self)?;
        let mut pieces = table.pieces(&style);
        for id in ends.iter().filter_map(|id| u32::try_from(*id).ok()) {
            if pieces
                .kind(id)
                .is_some_and(|kind| is_named_control(kind, pieces.text(id)))
            {
                pieces.set_kind(id, Kind::Control);
            }
        }
        let bpe = self.bpe(&table, &pieces, &style)?;
        let (specials, normalised) = self.specials(&table, &pieces, &normaliser)?;
        Ok(Built {
            encoder: Encoder {
                specials,
                normaliser,
                normalised,
                prefix: cutting.prefix,
                splitter: Splitter::new(cutting.steps),
                merging: Merging::Bpe(bpe),
            },
            ends: table.ends(),
            pieces,
            space_prefix: style.space_prefix,
        })
    }

    fn bpe(&self, table: &Table<'_>, pieces: &Pieces, style: &Style) -> Result<Bpe, ModelError> {
        let model = &self.form.model;
        let mut written = self.written(&table.tokens)?;
        let mut merges = Vec::with_capacity(model.merges.len());
        for (left, right) in model.merges.iter() {
            merges.push(written.merge(left, right).ok_or_else(|| {
                let (rank, both) = (merges.len(), shown(&[left, right].join(" ")));
                let what = format!("merge {rank}, {both:?}, is not two tokens that make a third");
                self.place.malformed("model.merges", &what)
            })?);
        }
        let unknown = match &model.unk_token {
            None => None,
            Some(text) => Some(Unknown {
                id: written.find(text).ok_or_else(|| {
                    let what = format!("{:?} is no token", shown(text));
                    self.place.malformed("model.unk_token", &what)
                })?,
                fuses: model.fuse_unk,
            }),
        };
        let parts = BpeParts {
            start: self.start(&written, style)?,
            unknown,
            whole_words: model.ignore_merges,
            merges,
            last_counts: true,
            tokens: &table.tokens,
        };
        Bpe::new(parts, pieces).map_err(|_| self.crowded())
    }

    fn start(&self, written: &Written<'_>, style: &Style) -> Result<Start, ModelError> {
        let fallback = || {
            let token = |byte| written.find(&format!("<0x{byte:02X}>")).unwrap_or(NONE);
            Box::new(std::array::from_fn(token))
        };
        match (style.byte_level, self.form.model.byte_fallback) {
            (false, true) => Ok(Start::Chars(fallback())),
            (false, false) => Ok(Start::Chars(Box::new([NONE; 256]))),
            (true, fallen) => {
                let letters = alphabet_tokens(written);
                // The bytes of GPT-2's letters, not those of the text, would be fallen back to.
                if fallen && letters.contains(&NONE) && fallback().iter().any(|id| *id != NONE) {
                    let found = "byte_fallback for letters of ByteLevel that are no tokens";
                    let supported = "all letters as tokens";
                    return Err(self
                        .place
                        .unsupported("model.byte_fallback", found, supported));
                }
                Ok(Start::Bytes(letters))
            }
        }
    }

    /// The tokens that are found in a text as it is, and in a normalised one. Control tokens are
    /// all of the first kind: nothing may become one by being normalised.
    fn specials(
        &self,
        table: &Table<'_>,
        pieces: &Pieces,
        normaliser: &Normaliser,
    ) -> Result<(Specials, Specials), ModelError> {
        let (mut plain, mut normalised) = (Vec::new(), Vec::new());
        // There are fewer than 2^31 tokens.
        for (id, text) in (0..).zip(&table.tokens) {
            let control = pieces.kind(id) == Some(Kind::Control);
            let Some(token) = table.added.get(&id) else {
                plain.extend(control.then(|| Special::control(text, id)));
                continue;
            };
            let structure = pieces.kind(id) == Some(Kind::Structure);
            let mut special = Special::control(&token.content, id);
            special.rules = Rules {
                role: match (control, structure) {
                    (true, _) => Role::Control,
                    (false, true) => Role::Structure,
                    (false, false) => Role::Text,
                },
                strips_before: token.lstrip,
                strips_after: token.rstrip,
                single_word: token.single_word,
            };
            if control || !token.normalized.unwrap_or(true) {
                plain.push(special);
                continue;
            }
            if structure {
                let mut of_template = special.clone();
                of_template.rules.role = Role::StructureOfTemplate;
                plain.push(of_template);
            }
            let mut budget = Budget::new(EncodeLimit::NONE, None);
            let text = normaliser.run(&token.content, &mut budget)?;
            if !text.is_empty() {
                special.text = text.into();
                normalised.push(special);
            }
        }
        let long = |TooLong(id)| {
            let what = format!("the text of token {id} is too long to be looked for");
            self.place.malformed("added_tokens", &what)
        };
        let plain = Specials::new(plain).map_err(long)?;
        Ok((plain, Specials::new(normalised).map_err(long)?))
    }

    fn written<'t>(&self, tokens: &'t [&'t str]) -> Result<Written<'t>, ModelError> {
        Written::new(tokens).map_err(|fault| match fault {
            WrittenFault::Crowded => self.crowded(),
            WrittenFault::Twins(a, b) => {
                let what = format!("tokens {a} and {b} have the same text");
                self.place.malformed("model.vocab", &what)
            }
        })
    }

    fn crowded(&self) -> ModelError {
        let what = "its tokens collide in a hash table far beyond chance";
        self.place.malformed("model.vocab", what)
    }
}

fn unsupported_model(place: Place<'_>, kind: Option<&str>) -> ModelError {
    place.unsupported("model.type", kind.unwrap_or("none"), "BPE")
}

/// The first token of a template's text, where it is one.
fn first(form: &PostProcessor) -> Option<u32> {
    match form {
        PostProcessor::Sequence { processors } => processors.iter().find_map(first),
        PostProcessor::ByteLevel(_) => None,
        PostProcessor::TemplateProcessing {
            single,
            special_tokens,
            ..
        } => match single.first()? {
            Piece::SpecialToken { id, .. } => special_tokens.get(id)?.ids.first().copied(),
            Piece::Sequence { .. } => None,
        },
    }
}

/// All tokens by their ids.
struct Table<'a> {
    /// Those of the vocabulary; empty where an id has none.
    tokens: Vec<&'a str>,
    /// Those that are found before anything else, which may be in the vocabulary too.
    added: BTreeMap<u32, &'a AddedToken>,
}

impl<'a> Table<'a> {
    fn of(read: &'a TokenizerJson<'_>) -> Result<Self, ModelError> {
        let (place, form) = (read.place, &read.form);
        let added = || {
            form.added_tokens
                .iter()
                .filter(|token| !token.content.is_empty())
        };
        let ids = form.model.vocab.iter().map(|(_, id)| id);
        let last = ids.chain(added().map(|token| token.id)).max();
        let len = last.map_or(0, |last| last as usize + 1);
        if len == 0 || len > TOKENS_MAX {
            let what = format!("ids up to {len}, not 1 to {TOKENS_MAX}");
            return Err(place.malformed("model.vocab", &what));
        }
        let (mut tokens, mut taken) = (vec![""; len], vec![false; len]);
        for (text, id) in form.model.vocab.iter() {
            let slot = &mut taken[id as usize];
            if std::mem::replace(slot, true) {
                let what = format!("two tokens have the id {id}");
                return Err(place.malformed("model.vocab", &what));
            }
            tokens[id as usize] = text;
        }
        let mut table = Self {
            tokens,
            added: BTreeMap::new(),
        };
        let mut by_text: BTreeMap<&str, u32> = BTreeMap::new();
        for token in added() {
            let id = token.id as usize;
            let other_text = taken[id] && table.tokens[id] != token.content;
            let other_id = by_text
                .insert(&token.content, token.id)
                .is_some_and(|id| id != token.id);
            let other = table.added.insert(token.id, token);
            if other_text || other_id || other.is_some_and(|other| other.content != token.content) {
                let what = format!("token {id} contradicts another one");
                return Err(place.malformed("added_tokens", &what));
            }
        }
        table.check_added(read)?;
        Ok(table)
    }

    /// An added token that is in the vocabulary has one id.
    fn check_added(&self, read: &TokenizerJson<'_>) -> Result<(), ModelError> {
        let written = read.written(&self.tokens)?;
        for token in self.added.values() {
            if written
                .find(&token.content)
                .is_some_and(|id| id != token.id)
            {
                let what = format!("token {} has another id in the vocabulary", token.id);
                return Err(read.place.malformed("added_tokens", &what));
            }
        }
        Ok(())
    }

    fn pieces(&self, style: &Style) -> Pieces {
        let alphabet = ByteAlphabet::new();
        let mut pieces = Pieces::default();
        for (id, text) in self.tokens.iter().enumerate() {
            // There are fewer than 2^31 tokens.
            match self.added.get(&(id as u32)) {
                Some(token) => {
                    let kind = match token.special {
                        true => Kind::Control,
                        false => Kind::of_added(&token.content),
                    };
                    pieces.push(token.content.as_bytes(), kind);
                }
                None => push(&mut pieces, text, (style, &alphabet)),
            }
        }
        pieces
    }

    fn ends(&self) -> Vec<u32> {
        let added = self.added.iter();
        let ends = added.filter(|(_, token)| token.special && is_end(&token.content));
        ends.map(|(id, _)| *id).collect()
    }
}

fn push(pieces: &mut Pieces, text: &str, (style, alphabet): (&Style, &ByteAlphabet)) {
    let byte = byte_of(text).filter(|_| style.byte_tokens);
    match (byte, style.byte_level) {
        _ if text.is_empty() => pieces.push(&[], Kind::Unused),
        (Some(byte), _) => pieces.push(&[byte], Kind::Byte),
        (None, false) => pieces.push(text.as_bytes(), Kind::Spaced),
        (None, true) => match alphabet.decode(text) {
            Some(bytes) => pieces.push(&bytes, Kind::Plain),
            None => pieces.push(text.as_bytes(), Kind::Plain),
        },
    }
}
