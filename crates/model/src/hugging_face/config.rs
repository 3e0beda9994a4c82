use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ModelError;
use crate::files::read_regular;
use crate::json_values::ValueLimit;
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_VALUES_MAX};

/// config.json, and where it was read.
#[derive(Debug)]
pub(crate) struct Config {
    pub(super) file: PathBuf,
    pub(super) keys: ConfigKeys,
}

/// The keys of config.json that change what a supported decoder computes. All are optional here:
/// which must be there depends on the family.
#[derive(Debug, Deserialize)]
pub(super) struct ConfigKeys {
    pub(super) model_type: Option<String>,
    pub(super) vocab_size: Option<u64>,
    pub(super) hidden_size: Option<u64>,
    pub(super) intermediate_size: Option<u64>,
    pub(super) num_hidden_layers: Option<u64>,
    pub(super) num_attention_heads: Option<u64>,
    pub(super) num_key_value_heads: Option<u64>,
    pub(super) head_dim: Option<u64>,
    pub(super) max_position_embeddings: Option<u64>,
    pub(super) rms_norm_eps: Option<f64>,
    pub(super) hidden_act: Option<String>,
    pub(super) hidden_activation: Option<String>,
    pub(super) tie_word_embeddings: Option<bool>,
    pub(super) attention_bias: Option<bool>,
    pub(super) sliding_window: Option<u64>,
    pub(super) use_sliding_window: Option<bool>,
    pub(super) max_window_layers: Option<u64>,
    pub(super) sliding_window_pattern: Option<u64>,
    pub(super) layer_types: Option<Vec<String>>,
    pub(super) no_rope_layers: Option<Vec<u64>>,
    pub(super) no_rope_layer_interval: Option<u64>,
    pub(super) query_pre_attn_scalar: Option<f64>,
    pub(super) embedding_multiplier: Option<f64>,
    pub(super) attention_multiplier: Option<f64>,
    pub(super) residual_multiplier: Option<f64>,
    pub(super) logits_scaling: Option<f64>,
    pub(super) attn_logit_softcapping: Option<f64>,
    pub(super) final_logit_softcapping: Option<f64>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_local_base_freq: Option<f64>,
    pub(super) rope_scaling: Option<Map<String, Value>>,
    pub(super) rope_parameters: Option<Map<String, Value>>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) original_max_position_embeddings: Option<u64>,
    pub(super) quantization_config: Option<Value>,
    /// What is left: [`fields`](super::fields) knows it or refuses it.
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

/// `rope_scaling`, `rope_parameters`, or the part of the latter for one kind of layer.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct RopeKeys {
    pub(super) rope_type: Option<String>,
    /// What `rope_type` was called at first.
    #[serde(rename = "type")]
    pub(super) old_type: Option<String>,
    pub(super) rope_theta: Option<f64>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) factor: Option<f64>,
    pub(super) low_freq_factor: Option<f64>,
    pub(super) high_freq_factor: Option<f64>,
    pub(super) original_max_position_embeddings: Option<u64>,
    pub(super) attention_factor: Option<f64>,
    pub(super) beta_fast: Option<f64>,
    pub(super) beta_slow: Option<f64>,
    pub(super) long_factor: Option<Vec<f32>>,
    pub(super) short_factor: Option<Vec<f32>>,
    /// What is left, as in [`ConfigKeys`].
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

impl Config {
    /// Reads `config.json` in `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self, ModelError> {
        let file = directory.join("config.json");
        if !file.exists() {
            return Err(ModelError::Missing {
                file: directory.to_owned(),
                field: "config.json".to_owned(),
                remedy: "a Hugging Face directory has it beside its safetensors and tokenizer.json; a GGUF file is \
                         named itself, not its folder"
                    .to_owned(),
            });
        }
        let keys = read_json(&file, (CONFIG_BYTES_MAX, CONFIG_VALUES_MAX))?;
        Ok(Self { file, keys })
    }

    /// The rotation that `value` describes, in the field `name`.
    pub(super) fn rope_keys(
        &self,
        name: &str,
        value: &Map<String, Value>,
    ) -> Result<RopeKeys, ModelError> {
        let keys = RopeKeys::deserialize(value);
        let keys = keys.map_err(|error| self.refuse(name, error.to_string()))?;
        self.refuse_unknown_rope(name, &keys)?;
        Ok(keys)
    }

    pub(super) fn missing(&self, key: &str) -> ModelError {
        ModelError::Missing {
            file: self.file.clone(),
            field: key.to_owned(),
            remedy: "take the config.json that came with the weights".to_owned(),
        }
    }

    pub(super) fn refuse(&self, key: &str, what: String) -> ModelError {
        ModelError::Malformed {
            file: self.file.clone(),
            field: key.to_owned(),
            offset: None,
            what,
        }
    }

    pub(super) fn unsupported(&self, key: &str, found: String, supported: &str) -> ModelError {
        ModelError::Unsupported {
            file: self.file.clone(),
            field: key.to_owned(),
            offset: None,
            found,
            supported: supported.to_owned(),
        }
    }
}

/// Reads a JSON file of at most so many bytes and values.
pub(super) fn read_json<T: DeserializeOwned>(
    path: &Path,
    (bytes_max, values_max): (u64, usize),
) -> Result<T, ModelError> {
    let text = read_regular(path, bytes_max)?;
    let malformed = |offset, what| ModelError::Malformed {
        file: path.to_owned(),
        field: "json".to_owned(),
        offset,
        what,
    };
    let limit = ValueLimit::of_all(values_max);
    limit.check(&text).map_err(|what| malformed(None, what))?;
    serde_json::from_slice(&text)
        .map_err(|error| malformed(json_offset(&text, &error), error.to_string()))
}

/// The byte at which parsing stopped; `None` where only the whole is wrong.
pub(super) fn json_offset(text: &[u8], error: &serde_json::Error) -> Option<u64> {
    // Lines and columns count from 1; line 0 means no place.
    let lines_before = error.line().checked_sub(1)?;
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.by_ref().take(lines_before).map(<[u8]>::len).sum();
    Some((before + error.column().saturating_sub(1)) as u64)
}
