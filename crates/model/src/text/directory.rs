//! The text side of a Hugging Face directory: `tokenizer.json` and the files beside it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::ModelError;
use crate::files::read_optional;
use crate::json_values::ValueLimit;

use super::json::{Place, TokenizerJson};
use super::limits::{
    CONFIG_BYTES_MAX, CONFIG_VALUES_MAX, TEMPLATE_FILE_BYTES_MAX, TOKENIZER_CONFIG_BYTES_MAX,
    TOKENIZER_CONFIG_VALUES_MAX, TOKENIZER_JSON_BYTES_MAX,
};
use super::parts::Parts;
use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;

/// The keys of `tokenizer_config.json` that count here.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    add_bos_token: Option<bool>,
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
    chat_template: Option<Templates>,
    /// The added tokens by their ids, as digits.
    #[serde(default)]
    added_tokens_decoder: BTreeMap<u32, TokenName>,
}

/// The keys of `special_tokens_map.json` that count here.
#[derive(Default, Deserialize)]
struct SpecialTokensMap {
    bos_token: Option<TokenName>,
    eos_token: Option<TokenName>,
}

#[derive(Clone, Deserialize)]
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

/// The keys of `generation_config.json` and `config.json` that count here.
#[derive(Default, Deserialize)]
struct TokenIds {
    bos_token_id: Option<Ids>,
    eos_token_id: Option<Ids>,
    eos_token_ids: Option<Ids>,
}

/// Some files write -1 for none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(i64),
    Many(Vec<i64>),
}

impl Ids {
    fn all(&self) -> &[i64] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

/// What the files beside `tokenizer.json` say.
struct Beside {
    config: TokenizerConfig,
    map: SpecialTokensMap,
    /// `generation_config.json`, then `config.json`.
    ids: [TokenIds; 2],
}

impl Beside {
    fn read(directory: &Path) -> Result<Self, ModelError> {
        let limits = (TOKENIZER_CONFIG_BYTES_MAX, TOKENIZER_CONFIG_VALUES_MAX);
        let small = (CONFIG_BYTES_MAX, CONFIG_VALUES_MAX);
        Ok(Self {
            config: read_json(&directory.join("tokenizer_config.json"), limits)?,
            map: read_json(&directory.join("special_tokens_map.json"), small)?,
            ids: [
                read_generation_config(directory)?,
                read_json(&directory.join("config.json"), small)?,
            ],
        })
    }

    /// The texts of the first token, the one that counts first.
    fn bos_texts(&self) -> impl Iterator<Item = &str> {
        let names = [&self.config.bos_token, &self.map.bos_token];
        names.into_iter().flatten().map(TokenName::text)
    }

    /// The texts of the token that ends a text, the one that counts first.
    fn eos_texts(&self) -> impl Iterator<Item = &str> {
        let names = [&self.config.eos_token, &self.map.eos_token];
        names.into_iter().flatten().map(TokenName::text)
    }

    /// Every token that one of the files says ends a text.
    fn ends(&self, json: &TokenizerJson<'_>) -> Vec<i64> {
        let named = self.eos_texts().filter_map(|text| json.id_of(text));
        let named = named.map(i64::from);
        let keys = self
            .ids
            .iter()
            .flat_map(|ids| [&ids.eos_token_id, &ids.eos_token_ids]);
        let listed = keys.flatten().flat_map(Ids::all).copied();
        named.chain(listed).collect()
    }

    /// The token that the files name as the first one.
    fn bos(&self, json: &TokenizerJson<'_>) -> Option<i64> {
        let named = self.bos_texts().find_map(|text| json.id_of(text));
        let named = named.map(i64::from);
        let mut keys = self.ids.iter().filter_map(|ids| ids.bos_token_id.as_ref());
        named.or_else(|| keys.find_map(|ids| ids.all().first().copied()))
    }

    /// Refuses an added token of `tokenizer_config.json` that `tokenizer.json` does not have.
    /// transformers adds it to the vocabulary when it loads; here one file describes a tokenizer.
    fn check_added(&self, directory: &Path, json: &TokenizerJson<'_>) -> Result<(), ModelError> {
        let mut missing = self.config.added_tokens_decoder.clone();
        for (text, id) in json.tokens() {
            let listed = missing.get(&id);
            if listed.is_some_and(|name| name.text() == text) {
                missing.remove(&id);
            }
        }
        let Some((id, name)) = missing.first_key_value() else {
            return Ok(());
        };
        let file = &directory.join("tokenizer_config.json");
        let found = format!("{}, which tokenizer.json has not,", name.text());
        Err(Place { file }.unsupported(
            &format!("added_tokens_decoder.{id}"),
            &found,
            "tokens of tokenizer.json; save it again with transformers",
        ))
    }
}

/// The tokenizer and the chat template of a Hugging Face directory: `tokenizer.json`, and beside
/// it, if they are there, `tokenizer_config.json`, `special_tokens_map.json`,
/// `generation_config.json`, `config.json` and `chat_template.jinja`.
pub(crate) fn read_directory(
    directory: &Path,
) -> Result<(Tokenizer, Option<ChatTemplate>), ModelError> {
    let file = directory.join("tokenizer.json");
    let text =
        read_optional(&file, TOKENIZER_JSON_BYTES_MAX)?.ok_or_else(|| ModelError::Missing {
            file: directory.to_owned(),
            field: "tokenizer.json".to_owned(),
            remedy: "take it from where the model came from; a tokenizer.model alone is not read"
                .to_owned(),
        })?;
    let json = TokenizerJson::read(&file, &text)?;
    drop(text);
    let beside = Beside::read(directory)?;
    beside.check_added(directory, &json)?;
    let template = template(directory, &beside)?;
    let ends = beside.ends(&json);
    let built = json.build(&ends)?;
    let bos = bos(&file, &json, &beside)?;
    if let Some(id) = bos.filter(|id| built.pieces.kind(*id).is_none()) {
        let what = format!(
            "token id {id} is not in the vocabulary of {}",
            built.pieces.len()
        );
        return Err(Place { file: &file }.malformed("bos_token_id", &what));
    }
    let mut parts = Parts {
        pieces: built.pieces,
        bos,
        ends: built.ends,
        space_prefix: built.space_prefix,
        notices: Vec::new(),
    };
    ends.into_iter().for_each(|id| parts.add_end(id));
    Ok((Tokenizer::new(built.encoder, parts), template))
}

/// What is wanted of `generation_config.json`, which may be missing.
pub(crate) fn read_generation_config<T: DeserializeOwned + Default>(
    directory: &Path,
) -> Result<T, ModelError> {
    let limits = (CONFIG_BYTES_MAX, CONFIG_VALUES_MAX);
    read_json(&directory.join("generation_config.json"), limits)
}

fn template(directory: &Path, beside: &Beside) -> Result<Option<ChatTemplate>, ModelError> {
    let file = directory.join("chat_template.jinja");
    let source = match (
        read_optional(&file, TEMPLATE_FILE_BYTES_MAX)?,
        &beside.config.chat_template,
    ) {
        (Some(bytes), _) => String::from_utf8(bytes).map_err(|error| {
            Place { file: &file }.malformed("chat template", &error.to_string())
        })?,
        (None, Some(Templates::One(source))) => source.clone(),
        (None, Some(Templates::Named(all))) => match all.iter().find(|one| one.name == "default") {
            Some(one) => one.template.clone(),
            None => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    let bos = beside.bos_texts().next().unwrap_or_default().to_owned();
    let eos = beside.eos_texts().next().unwrap_or_default().to_owned();
    Ok(Some(ChatTemplate::new(source, bos, eos)))
}

/// The token before every text: what the configuration says, or else what the tokenizer itself
/// puts before one.
fn bos(file: &Path, json: &TokenizerJson<'_>, beside: &Beside) -> Result<Option<u32>, ModelError> {
    let named = beside.bos(json).and_then(|id| u32::try_from(id).ok());
    match beside.config.add_bos_token {
        Some(false) => Ok(None),
        Some(true) => named.map(Some).ok_or_else(|| ModelError::Missing {
            file: file.with_file_name("tokenizer_config.json"),
            field: "bos_token".to_owned(),
            remedy: "add_bos_token asks for it".to_owned(),
        }),
        None => Ok(named.filter(|bos| json.first() == Some(*bos))),
    }
}

fn read_json<T: DeserializeOwned + Default>(
    file: &Path,
    (bytes_max, values_max): (u64, usize),
) -> Result<T, ModelError> {
    let Some(bytes) = read_optional(file, bytes_max)? else {
        return Ok(T::default());
    };
    let malformed = |what: String| Place { file }.malformed("JSON", &what);
    let limit = ValueLimit::of_all(values_max);
    limit.check(&bytes).map_err(malformed)?;
    serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))
}
