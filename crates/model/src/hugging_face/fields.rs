//! The fields of config.json that no reader asks for: they change nothing that is computed, or have to
//! say what every supported family does, or are refused by name.

use serde_json::{Map, Value};

use crate::error::{ModelError, shown};

use super::config::{Config, RopeKeys};

/// Fields that describe files, tokens, training, or how transformers runs or samples.
const HARMLESS: &[&str] = &[
    // Where it came from.
    "architectures",
    "auto_map",
    "dtype",
    "is_llama_config",
    "name_or_path",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    // Tokens: the tokenizer's reader has its own look at them.
    "begin_suppress_tokens",
    "bos_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "eos_token_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "suppress_tokens",
    "tokenizer_class",
    "unk_token_id",
    // Training.
    "attention_dropout",
    "attn_pdrop",
    "embd_pdrop",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "initializer_range",
    "neftune_noise_alpha",
    "output_router_logits",
    "resid_pdrop",
    "router_aux_loss_coef",
    // Tasks other than generation.
    "finetuning_task",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "task_specific_params",
    // How transformers runs it.
    "attn_implementation",
    "cache_implementation",
    "chunk_size_feed_forward",
    "legacy_cache",
    "max_sequence_length",
    "model_max_length",
    "output_attentions",
    "output_hidden_states",
    // Slices of a product, for the bits of a training run.
    "pretraining_tp",
    "return_dict",
    "tf_legacy_loss",
    "torchscript",
    "use_bfloat16",
    "use_cache",
    "use_flash_attention_2",
    // How transformers samples.
    "bad_words_ids",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// Beginnings of fields that change nothing: transformers' own state, and a trainer's notes.
const HARMLESS_BEGINNINGS: &[&str] = &["_", "unsloth"];

/// Fields that must be `false`, 0 or empty: they turn on what no supported family has.
const OFF: &[&str] = &[
    "add_cross_attention",
    "is_decoder",
    "is_encoder_decoder",
    "lm_head_bias",
    "mlp_bias",
    "num_experts",
    "num_local_experts",
    "pruned_heads",
    "rope_interleaved",
    "tie_encoder_decoder",
    "use_bidirectional_attention",
    "use_mrope",
];

/// Fields of Phi-3 that must be 1.
const ONE: &[&str] = &["full_attn_mod", "interpolate_factor"];

/// Fields of a rotation that change nothing.
const ROPE_HARMLESS: &[&str] = &["finetuned"];

/// Fields of a rotation that must be `true`, as they are where they are missing.
const ROPE_ON: &[&str] = &["truncate"];

impl Config {
    /// Refuses the first field that could change what is computed and that nothing reads.
    pub(super) fn refuse_unknown_fields(&self) -> Result<(), ModelError> {
        for (name, value) in &self.keys.others {
            let one = || value.as_f64() == Some(1.0);
            let known = match name.as_str() {
                name if HARMLESS.contains(&name) => true,
                name if OFF.contains(&name) => says_nothing(value),
                name if ONE.contains(&name) => one(),
                name => HARMLESS_BEGINNINGS.iter().any(|b| name.starts_with(b)),
            };
            if !known && !value.is_null() {
                return Err(self.unknown(name, value));
            }
        }
        Ok(())
    }

    /// The same for a rotation, which is in the field `name`.
    pub(super) fn refuse_unknown_rope(
        &self,
        name: &str,
        keys: &RopeKeys,
    ) -> Result<(), ModelError> {
        let stranger = |(key, value): &(&String, &Value)| {
            let known = ROPE_HARMLESS.contains(&key.as_str())
                || ROPE_ON.contains(&key.as_str()) && **value == Value::Bool(true);
            !known && !value.is_null()
        };
        match keys.others.iter().find(stranger) {
            None => Ok(()),
            Some((key, value)) => Err(self.unknown(&format!("{name}.{key}"), value)),
        }
    }

    fn unknown(&self, name: &str, value: &Value) -> ModelError {
        let found = match value {
            Value::Array(_) | Value::Object(_) => "this field".to_owned(),
            value => format!("{} here", shown(&value.to_string())),
        };
        let supported = "models without it; where it changes nothing that is computed, take it out";
        self.unsupported(&shown(name), found, supported)
    }
}

/// Whether a value turns nothing on.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Object(map) => Map::is_empty(map),
        Value::Array(list) => list.is_empty(),
        Value::Bool(true) | Value::String(_) => false,
    }
}
