//! Every key that is known, and what it may say. A key below the architecture's name that is not here
//! is refused: it could change what the model computes.

use crate::error::{ModelError, shown};
use crate::family::{FAMILIES, Family, Scales, WindowedRope};

use super::metadata::Metadata;

/// What a key may say.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// The reader of the sizes and switches reads it.
    Read,
    /// Read, or harmless, in some families. In all others only these values.
    ReadIn(fn(&Family) -> bool, &'static [f64]),
    /// Stands for something that no supported family has, except at one of these values; flags count
    /// as 0 and 1.
    Only(&'static [f64]),
    /// Changes nothing that is computed.
    Harmless,
}

use Rule::{Harmless, Only, Read, ReadIn};

/// The values at which a key stands for nothing.
const NEVER: Rule = Only(&[]);
const ZERO: Rule = Only(&[0.0]);
const ONE: Rule = Only(&[1.0]);
/// llama.cpp counts a factor of 0 as none.
const NO_FACTOR: Rule = Only(&[0.0, 1.0]);
/// A base of layers with a window.
const WINDOWED_BASE: Rule = ReadIn(
    |family| matches!(family.windowed_rope, WindowedRope::OfBase(_)),
    &[],
);
const MULTIPLIER: Rule = ReadIn(has_multipliers, &[0.0, 1.0]);

fn has_multipliers(family: &Family) -> bool {
    family.scales == Scales::Multipliers
}

/// The keys below the architecture's name. Those of llama.cpp's converter and loader, and those that
/// only Ollama's converter writes.
const BELOW_ARCHITECTURE: &[(&str, Rule)] = &[
    ("vocab_size", Read),
    ("context_length", Read),
    ("embedding_length", Read),
    ("block_count", Read),
    ("feed_forward_length", Read),
    ("attention.head_count", Read),
    ("attention.head_count_kv", Read),
    ("attention.key_length", Read),
    ("attention.value_length", Read),
    // Ollama: a copy of the key's length.
    ("attention.head_dim", Read),
    ("attention.layer_norm_rms_epsilon", Read),
    ("attention.sliding_window", Read),
    ("attention.sliding_window_pattern", Read),
    ("attn_logit_softcapping", Read),
    ("final_logit_softcapping", Read),
    ("rope.dimension_count", Read),
    ("rope.freq_base", Read),
    // Ollama's names of the bases of layers without and with a window.
    ("rope.global.freq_base", Read),
    ("rope.local.freq_base", WINDOWED_BASE),
    ("rope.freq_base_swa", WINDOWED_BASE),
    ("rope.scaling.type", Read),
    ("rope.scaling.factor", Read),
    // The factor's first name.
    ("rope.scale_linear", Read),
    ("rope.scaling.attn_factor", Read),
    ("rope.scaling.original_context_length", Read),
    ("rope.scaling.yarn_beta_fast", Read),
    ("rope.scaling.yarn_beta_slow", Read),
    // Ollama's names of the same two.
    ("rope.scaling.beta_fast", Read),
    ("rope.scaling.beta_slow", Read),
    ("rope.scaling.yarn_ext_factor", ONE),
    // Ollama's name of the same.
    ("rope.scaling.extrapolation_factor", ONE),
    ("rope.scaling.yarn_attn_factor", Read),
    ("rope.scaling.yarn_log_multiplier", ZERO),
    ("rope.scaling.alpha", NO_FACTOR),
    // Whether the model was trained with its scaling, which says nothing that the others do not; in
    // Granite, whether anything turns.
    (
        "rope.scaling.finetuned",
        ReadIn(|family| !family.gguf.finetuned_means_rope, &[1.0]),
    ),
    ("rope.dimension_count_swa", NEVER),
    ("rope.dimension_sections", NEVER),
    ("rope.mrope_section", NEVER),
    ("attention.causal", ONE),
    ("attention.scale", ReadIn(has_multipliers, &[])),
    ("attention.output_scale", NO_FACTOR),
    ("attention.value_scale", NO_FACTOR),
    ("attention.temperature_length", ZERO),
    ("attention.temperature_scale", ZERO),
    ("attention.clamp_kqv", ZERO),
    ("attention.max_alibi_bias", ZERO),
    ("attention.key_length_mla", ZERO),
    ("attention.value_length_mla", ZERO),
    ("attention.key_length_swa", NEVER),
    ("attention.value_length_swa", NEVER),
    ("attention.q_lora_rank", ZERO),
    ("attention.kv_lora_rank", ZERO),
    ("attention.relative_buckets_count", ZERO),
    ("attention.shared_kv_layers", ZERO),
    ("attention.rope_pattern", NEVER),
    // The epsilon of a norm that no supported family has; Ollama writes it beside the other.
    ("attention.layer_norm_epsilon", Harmless),
    ("embedding_scale", MULTIPLIER),
    ("residual_scale", MULTIPLIER),
    ("logit_scale", MULTIPLIER),
    ("deepstack_mapping", NEVER),
    ("embedding_length_out", ZERO),
    ("embedding_length_per_layer_input", ZERO),
    ("router_logit_softcapping", ZERO),
    ("use_parallel_residual", ZERO),
    ("leading_dense_block_count", ZERO),
    ("expert_count", ZERO),
    ("expert_used_count", ZERO),
    ("nextn_predict_layers", ZERO),
    // Of a model for vectors of texts: none, the mean of its rows, the last row.
    ("pooling_type", Only(&[0.0, 1.0, 3.0])),
    ("classifier.output_labels", NEVER),
    // How the first converter of Llama found its tensors. No loader reads it.
    ("tensor_data_layout", Harmless),
];

/// Keys outside the architecture that change what is computed unless they say this. All others there
/// describe the file: `general.*`, `quantize.*`, `imatrix.*` and vendors' own. What of `tokenizer.*`
/// counts, the tokenizer's reader knows.
const OUTSIDE: &[(&str, Rule)] = &[
    ("tokenizer.ggml.normalizer.lowercase", ZERO),
    ("tokenizer.ggml.normalizer.strip_accents", ZERO),
];

/// The rule of a key below the architecture's name.
pub(super) fn rule(name: &str) -> Option<Rule> {
    find(BELOW_ARCHITECTURE, name)
}

fn find(table: &[(&str, Rule)], name: &str) -> Option<Rule> {
    let known = table.iter().find(|(known, _)| *known == name);
    known.map(|(_, rule)| *rule)
}

/// Refuses the first key that could change what a model of this family computes and is not read.
pub(super) fn refuse_strangers(metadata: &Metadata, family: &Family) -> Result<(), ModelError> {
    refuse_kind(metadata)?;
    for key in metadata.keys() {
        match key.split_once('.') {
            Some((first, name)) if first == family.name => {
                check_below(metadata, family, (key, name))?;
            }
            // As if it were below the architecture, and out of its reach.
            Some((first, _)) if is_misplaced(first) => {
                let what = format!("a key outside {}.*", family.name);
                return Err(stranger(metadata, family, (key, what)));
            }
            None if rule(key).is_some() => {
                let what = format!("a key outside {}.*", family.name);
                return Err(stranger(metadata, family, (key, what)));
            }
            _ => {
                if let Some(Only(values)) = find(OUTSIDE, key) {
                    check_value(metadata, family, (key, values))?;
                }
            }
        }
    }
    Ok(())
}

/// Whether a key that begins so belongs below an architecture's name, and not below this one's.
fn is_misplaced(first: &str) -> bool {
    let mut groups = BELOW_ARCHITECTURE
        .iter()
        .filter_map(|(name, _)| Some(name.split_once('.')?.0));
    groups.any(|group| group == first) || FAMILIES.iter().any(|family| family.name == first)
}

fn check_below(
    metadata: &Metadata,
    family: &Family,
    (key, name): (&str, &str),
) -> Result<(), ModelError> {
    match rule(name) {
        Some(Read | Harmless) => Ok(()),
        Some(ReadIn(is_read, _)) if is_read(family) => Ok(()),
        Some(ReadIn(_, values)) => check_value(metadata, family, (key, values)),
        Some(Only(values)) => check_value(metadata, family, (key, values)),
        None => {
            let what = "a key that is not known".to_owned();
            Err(stranger(metadata, family, (key, what)))
        }
    }
}

fn check_value(
    metadata: &Metadata,
    family: &Family,
    (key, values): (&str, &[f64]),
) -> Result<(), ModelError> {
    let value = metadata.number(key);
    if value.is_some_and(|value| values.contains(&value)) {
        return Ok(());
    }
    let found = match value {
        Some(count) if key.ends_with(".expert_count") => format!("a mixture of {count} experts"),
        Some(value) => format!("a {} model with {value} here", family.name),
        None => format!("a {} model with this key", family.name),
    };
    let allowed: Vec<String> = values.iter().map(f64::to_string).collect();
    let supported = match allowed.as_slice() {
        _ if key.ends_with(".expert_count") => "dense models".to_owned(),
        [] => "models without it".to_owned(),
        allowed => format!("{}, and models without it", allowed.join(", ")),
    };
    Err(metadata.unsupported(key, found, supported))
}

fn stranger(metadata: &Metadata, family: &Family, (key, what): (&str, String)) -> ModelError {
    let supported = format!(
        "the keys that llama.cpp's and Ollama's converters write for {}; where this one changes \
         nothing that is computed, write the file without it",
        family.name
    );
    metadata.unsupported(&shown(key), what, supported)
}

/// A warning for each key that names a special token past the vocabulary. Converters write -1, as
/// an unsigned number, for a token that a model does not have; llama.cpp too goes on without it.
pub(crate) fn tokens_out_of_range(
    metadata: &Metadata,
    tokens: usize,
) -> Result<Vec<String>, ModelError> {
    let mut warnings = Vec::new();
    let keys = metadata.keys();
    let ids = keys.filter(|key| key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id"));
    for key in ids {
        if let Some(id) = metadata.number(key).filter(|id| *id >= tokens as f64) {
            let file = metadata.file().display();
            warnings.push(format!(
                "{file}: {key} is {id}, and there are only {tokens} tokens: it counts as none"
            ));
        }
    }
    Ok(warnings)
}

/// A file may hold something else than a model: an adapter, a projector, an importance matrix.
fn refuse_kind(metadata: &Metadata) -> Result<(), ModelError> {
    const KEY: &str = "general.type";
    match metadata.str(KEY)? {
        None | Some("model") => Ok(()),
        Some(other) => {
            let found = format!("a file of type {:?}", shown(other));
            Err(metadata.unsupported(KEY, found, "model".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_key_is_in_the_table_twice() {
        let mut seen = HashSet::new();
        for (name, _) in BELOW_ARCHITECTURE.iter().chain(OUTSIDE) {
            assert!(seen.insert(name), "{name}");
        }
    }
}
