//! The text side of a Hugging Face directory: `tokenizer.json` and the files beside it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{ModelError, shown};

use super::alphabet::ByteAlphabet;
use super::json::JsonEncoder;
use super::limits::{CONFIG_BYTES_MAX, TOKENIZER_JSON_BYTES_MAX, TOKENS_MAX};
use super::parts::{Parts, is_end};
use super::pieces::{Kind, Pieces};
use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;
use super::vocabulary::byte_of;

/// The keys of `tokenizer_config.json` that count here.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    add_bos_token: Option<bool>,
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
    chat_template: Option<Templates>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenName {
    Text(String),
    Token { content: String },
}

impl TokenName {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Token { content: text } => text,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// The keys of `generation_config.json` that count here.
#[derive(Default, Deserialize)]
struct GenerationConfig {
    bos_token_id: Option<u32>,
    eos_token_id: Option<Ids>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

/// The tokenizer and the chat template of a Hugging Face directory: `tokenizer.json`, and beside
/// it, if they are there, `tokenizer_config.json`, `generation_config.json` and
/// `chat_template.jinja`.
pub(crate) fn read_directory(
    directory: &Path,
) -> Result<(Tokenizer, Option<ChatTemplate>), ModelError> {
    let file = directory.join("tokenizer.json");
    let json = read(&file, TOKENIZER_JSON_BYTES_MAX)?.ok_or_else(|| ModelError::Missing {
        file: directory.to_owned(),
        field: "tokenizer.json".to_owned(),
        remedy: "take it from where the model came from; a tokenizer.model alone is not read"
            .to_owned(),
    })?;
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(&json)
        .map_err(|error| malformed(&file, "tokenizer.json", &error.to_string()))?;
    drop(json);
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(None)
        .map_err(|error| malformed(&file, "truncation", &error.to_string()))?;
    let config: TokenizerConfig = read_json(&directory.join("tokenizer_config.json"))?;
    let generation: GenerationConfig = read_json(&directory.join("generation_config.json"))?;
    let template = template(directory, &config)?;
    let parts = parts(&file, &tokenizer, &config, generation)?;
    let encoder = JsonEncoder::new(tokenizer);
    Ok((Tokenizer::from_json(encoder, parts), template))
}

fn template(
    directory: &Path,
    config: &TokenizerConfig,
) -> Result<Option<ChatTemplate>, ModelError> {
    let file = directory.join("chat_template.jinja");
    let source = match (read(&file, CONFIG_BYTES_MAX)?, &config.chat_template) {
        (Some(bytes), _) => String::from_utf8(bytes)
            .map_err(|error| malformed(&file, "chat template", &error.to_string()))?,
        (None, Some(Templates::One(source))) => source.clone(),
        (None, Some(Templates::Named(all))) => match all.iter().find(|one| one.name == "default") {
            Some(one) => one.template.clone(),
            None => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    let text = |name: &Option<TokenName>| name.as_ref().map_or("", TokenName::text).to_owned();
    Ok(Some(ChatTemplate::new(
        source,
        text(&config.bos_token),
        text(&config.eos_token),
    )))
}

fn parts(
    file: &Path,
    tokenizer: &tokenizers::Tokenizer,
    config: &TokenizerConfig,
    generation: GenerationConfig,
) -> Result<Parts, ModelError> {
    let style = Style::of(file, tokenizer)?;
    let (pieces, mut ends) = pieces(file, tokenizer, &style)?;
    let named = |name: &Option<TokenName>| {
        name.as_ref()
            .and_then(|name| tokenizer.token_to_id(name.text()))
    };
    ends.extend(named(&config.eos_token));
    match generation.eos_token_id {
        Some(Ids::One(id)) => ends.push(id),
        Some(Ids::Many(ids)) => ends.extend(ids),
        None => {}
    }
    let bos = bos(
        file,
        tokenizer,
        config,
        named(&config.bos_token).or(generation.bos_token_id),
    )?;
    if let Some(id) = ends
        .iter()
        .chain(&bos)
        .find(|id| pieces.kind(**id).is_none())
    {
        let what = format!("token id {id} is not in the vocabulary of {}", pieces.len());
        return Err(malformed(file, "bos_token_id, eos_token_id", &what));
    }
    Ok(Parts {
        pieces,
        bos,
        ends,
        space_prefix: style.space_prefix,
    })
}

/// The token before every text: what the configuration says, or else what the tokenizer itself
/// puts before an empty one.
fn bos(
    file: &Path,
    tokenizer: &tokenizers::Tokenizer,
    config: &TokenizerConfig,
    named: Option<u32>,
) -> Result<Option<u32>, ModelError> {
    match config.add_bos_token {
        Some(false) => Ok(None),
        Some(true) => named.map(Some).ok_or_else(|| ModelError::Missing {
            file: file.with_file_name("tokenizer_config.json"),
            field: "bos_token".to_owned(),
            remedy: "add_bos_token asks for it".to_owned(),
        }),
        None => {
            let empty = tokenizer.encode_fast("", true);
            let empty =
                empty.map_err(|error| malformed(file, "post_processor", &error.to_string()))?;
            Ok(named.filter(|bos| empty.get_ids().first() == Some(bos)))
        }
    }
}

/// How the file's decoder turns tokens into text.
struct Style {
    byte_level: bool,
    byte_tokens: bool,
    space_prefix: bool,
}

impl Style {
    fn of(file: &Path, tokenizer: &tokenizers::Tokenizer) -> Result<Self, ModelError> {
        let decoder = serde_json::to_value(tokenizer.get_decoder())
            .map_err(|error| malformed(file, "decoder", &error.to_string()))?;
        let steps = match decoder["decoders"].as_array() {
            Some(steps) => steps.clone(),
            None => vec![decoder],
        };
        let mut style = Self {
            byte_level: false,
            byte_tokens: false,
            space_prefix: false,
        };
        for step in &steps {
            match step["type"].as_str() {
                Some("ByteLevel") => style.byte_level = true,
                Some("ByteFallback") => style.byte_tokens = true,
                Some("Metaspace") => style.space_prefix = step["prepend_scheme"] != "never",
                Some("Strip") => style.space_prefix = step["start"] != 0,
                Some("Fuse") => {}
                Some("Replace") if step["content"] == " " => {}
                other => {
                    return Err(ModelError::Unsupported {
                        file: file.to_owned(),
                        field: "decoder".to_owned(),
                        offset: None,
                        found: shown(other.unwrap_or("none")),
                        supported: "ByteLevel; Metaspace; Replace, ByteFallback, Fuse, Strip"
                            .to_owned(),
                    });
                }
            }
        }
        Ok(style)
    }

    fn push(&self, pieces: &mut Pieces, text: &str, alphabet: &ByteAlphabet) {
        let byte = byte_of(text).filter(|_| self.byte_tokens);
        match (byte, self.byte_level) {
            (Some(byte), _) => pieces.push(&[byte], Kind::Byte),
            (None, false) => pieces.push(text.as_bytes(), Kind::Spaced),
            (None, true) => match alphabet.decode(text) {
                Some(bytes) => pieces.push(&bytes, Kind::Plain),
                None => pieces.push(text.as_bytes(), Kind::Plain),
            },
        }
    }
}

/// The texts of all tokens, and the control tokens that are known to end a text.
fn pieces(
    file: &Path,
    tokenizer: &tokenizers::Tokenizer,
    style: &Style,
) -> Result<(Pieces, Vec<u32>), ModelError> {
    let alphabet = ByteAlphabet::new();
    let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
    let (mut pieces, mut ends) = (Pieces::default(), Vec::new());
    let mut left = tokenizer.get_vocab_size(true);
    for id in 0.. {
        if left == 0 {
            break;
        }
        if pieces.len() == TOKENS_MAX {
            let what = format!("a token id is {TOKENS_MAX} or more");
            return Err(malformed(file, "model.vocab", &what));
        }
        let text = tokenizer.id_to_token(id);
        left -= usize::from(text.is_some());
        match (text, added.get(&id)) {
            (None, _) => pieces.push(&[], Kind::Unused),
            (Some(text), Some(token)) if token.special => {
                ends.extend(is_end(&text).then_some(id));
                pieces.push(text.as_bytes(), Kind::Control);
            }
            (Some(text), Some(_)) => pieces.push(text.as_bytes(), Kind::Added),
            (Some(text), None) => style.push(&mut pieces, &text, &alphabet),
        }
    }
    Ok((pieces, ends))
}

fn read_json<T: DeserializeOwned + Default>(file: &Path) -> Result<T, ModelError> {
    let Some(bytes) = read(file, CONFIG_BYTES_MAX)? else {
        return Ok(T::default());
    };
    serde_json::from_slice(&bytes).map_err(|error| malformed(file, "JSON", &error.to_string()))
}

/// The bytes of a file, or `None` when there is none.
fn read(file: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, ModelError> {
    let failed = |action: &str, source| ModelError::Io {
        file: file.to_owned(),
        action: action.to_owned(),
        source,
    };
    let open = match File::open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", error)),
    };
    let mut bytes = Vec::new();
    let read = open.take(bytes_max + 1).read_to_end(&mut bytes);
    match read.map_err(|error| failed("read", error))? {
        len if len as u64 > bytes_max => Err(malformed(
            file,
            "length",
            &format!("more than {bytes_max} bytes"),
        )),
        _ => Ok(Some(bytes)),
    }
}

fn malformed(file: &Path, field: &str, what: &str) -> ModelError {
    ModelError::Malformed {
        file: file.to_owned(),
        field: field.to_owned(),
        offset: None,
        what: what.to_owned(),
    }
}
