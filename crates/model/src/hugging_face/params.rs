//! A decoder's sizes and switches from config.json.

use crate::decoder::Activation;
use crate::error::{ModelError, shown};
use crate::family::{FAMILIES, Family, Scales, Softcaps, Windows, capped_families};
use crate::limits::{
    CONTEXT_MAX, HEAD_DIM_MAX, HEADS_MAX, HIDDEN_MAX, LAYERS_MAX, VOCAB_MAX, WIDTH_MAX,
};
use crate::not_built::described;
use crate::params::{self, Multipliers, Params, Tied};

use super::config::Config;
use super::rope::Ropes;

/// Reads the sizes and switches of the decoder that `config` describes, opened for sequences of
/// `context` tokens, or of as many as the model was made for.
pub(crate) fn params(config: &Config, context: Option<usize>) -> Result<Params, ModelError> {
    let family = family(config)?;
    refuse_unbuilt(config)?;
    let keys = &config.keys;
    let size = |name, value, max| config.size(name, value, max);
    let width = size("hidden_size", keys.hidden_size, WIDTH_MAX)?;
    let layers = size("num_hidden_layers", keys.num_hidden_layers, LAYERS_MAX)?;
    let heads = size("num_attention_heads", keys.num_attention_heads, HEADS_MAX)?;
    let kv_heads =
        config.optional_size("num_key_value_heads", keys.num_key_value_heads, HEADS_MAX)?;
    let head_dim = head_dim(config, family, width, heads)?;
    let made_for = size(
        "max_position_embeddings",
        keys.max_position_embeddings,
        CONTEXT_MAX,
    )?;
    let context = params::context(made_for, context)?;
    let ropes = Ropes {
        config,
        family,
        head_dim,
        made_for,
        context,
    };
    check_activation(config, family)?;
    let biased = keys.attention_bias == Some(true) && family.hugging_face.attention_bias;
    Ok(Params {
        file: config.file.clone(),
        family,
        vocab: Some(size("vocab_size", keys.vocab_size, VOCAB_MAX)?),
        width,
        hidden: size("intermediate_size", keys.intermediate_size, HIDDEN_MAX)?,
        context,
        heads,
        // LlamaConfig's rule for configs without the key.
        kv_heads: kv_heads.unwrap_or(heads),
        head_dim,
        norm_epsilon: config.positive("rms_norm_eps", keys.rms_norm_eps)? as f32,
        biases: family.biases || biased,
        output_bias: biased,
        scales: scales(config, family, (width, head_dim))?,
        attention_softcap: softcap(
            config,
            family,
            ("attn_logit_softcapping", keys.attn_logit_softcapping),
        )?,
        logit_softcap: softcap(
            config,
            family,
            ("final_logit_softcapping", keys.final_logit_softcapping),
        )?,
        windows: windows(config, family, layers)?,
        turned: turned(config, family, layers)?,
        rope: ropes.global()?,
        windowed_rope: ropes.windowed()?,
        // PretrainedConfig's default is `true`, and configs leave out what equals it.
        tied: match keys.tie_word_embeddings {
            Some(true) => Tied::Yes,
            Some(false) => Tied::No,
            None => Tied::IfMissing,
        },
    })
}

impl Config {
    fn size(&self, name: &str, value: Option<u64>, max: usize) -> Result<usize, ModelError> {
        let size = self.optional_size(name, value, max)?;
        size.ok_or_else(|| self.missing(name))
    }

    pub(super) fn optional_size(
        &self,
        name: &str,
        value: Option<u64>,
        max: usize,
    ) -> Result<Option<usize>, ModelError> {
        let Some(number) = value else {
            return Ok(None);
        };
        let size = usize::try_from(number)
            .ok()
            .filter(|n| (1..=max).contains(n));
        size.map(Some)
            .ok_or_else(|| self.refuse(name, format!("{number} is not between 1 and {max}")))
    }

    pub(super) fn positive(&self, name: &str, value: Option<f64>) -> Result<f64, ModelError> {
        let number = value.ok_or_else(|| self.missing(name))?;
        if number > 0.0 && (number as f32).is_finite() && number as f32 > 0.0 {
            return Ok(number);
        }
        Err(self.refuse(name, format!("{number} is not above zero and finite")))
    }
}

fn family(config: &Config) -> Result<&'static Family, ModelError> {
    const KEY: &str = "model_type";
    let Some(name) = config.keys.model_type.as_deref() else {
        return Err(config.missing(KEY));
    };
    let known = |family: &&Family| family.model_types.contains(&name);
    FAMILIES.iter().find(known).ok_or_else(|| {
        let types = FAMILIES.iter().flat_map(|f| f.model_types).copied();
        let types = types.collect::<Vec<_>>().join(", ");
        config.unsupported(KEY, described("model type", name), &types)
    })
}

fn refuse_unbuilt(config: &Config) -> Result<(), ModelError> {
    if let Some(quantised) = &config.keys.quantization_config {
        let method = quantised.get("quant_method").and_then(|m| m.as_str());
        return Err(config.unsupported(
            "quantization_config",
            format!("quantisation {:?}", shown(method.unwrap_or("unnamed"))),
            "f32, f16 and bf16 weights, quantised here while loading",
        ));
    }
    config.refuse_unknown_fields()
}

fn head_dim(
    config: &Config,
    family: &Family,
    width: usize,
    heads: usize,
) -> Result<usize, ModelError> {
    const KEY: &str = "head_dim";
    if let Some(head_dim) = config.optional_size(KEY, config.keys.head_dim, HEAD_DIM_MAX)? {
        return Ok(head_dim);
    }
    if family.hugging_face.head_dim {
        return Err(config.missing(KEY));
    }
    if !width.is_multiple_of(heads) {
        let what = format!("{heads} heads do not divide the width of {width}");
        return Err(config.refuse("num_attention_heads", what));
    }
    Ok(width / heads)
}

fn check_activation(config: &Config, family: &Family) -> Result<(), ModelError> {
    let (key, name) = match (&config.keys.hidden_activation, &config.keys.hidden_act) {
        (Some(name), _) if family.hugging_face.hidden_activation => ("hidden_activation", name),
        (_, Some(name)) => ("hidden_act", name),
        _ => return Err(config.missing("hidden_act")),
    };
    let known = match family.activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
    };
    if name == known {
        return Ok(());
    }
    Err(config.unsupported(key, format!("activation {:?}", shown(name)), known))
}

fn scales(
    config: &Config,
    family: &Family,
    (width, head_dim): (usize, usize),
) -> Result<Multipliers, ModelError> {
    let keys = &config.keys;
    let multipliers = [
        ("embedding_multiplier", keys.embedding_multiplier),
        ("attention_multiplier", keys.attention_multiplier),
        ("residual_multiplier", keys.residual_multiplier),
        ("logits_scaling", keys.logits_scaling),
    ];
    if family.scales != Scales::Multipliers {
        if let Some((key, value)) = multipliers.iter().find(|(_, value)| value.is_some()) {
            let found = format!("{} here", value.unwrap_or_default());
            return Err(config.unsupported(key, found, "it in granite, and models without it"));
        }
        let query_scalar = match family.hugging_face.query_pre_attn_scalar {
            true => config.positive("query_pre_attn_scalar", keys.query_pre_attn_scalar)?,
            false => head_dim as f64,
        };
        return Ok(Multipliers::of(family, width, query_scalar));
    }
    let mut values = [1.0; 4];
    for (value, (key, given)) in values.iter_mut().zip(multipliers) {
        *value = config.positive(key, given)?;
    }
    let [embeddings, scores, residuals, logits] = values;
    Ok(Multipliers {
        embeddings: embeddings as f32,
        scores: scores as f32,
        residuals: residuals as f32,
        // Logits are divided by it.
        logits: params::reciprocal(logits).ok_or_else(|| {
            config.refuse("logits_scaling", format!("{logits}, which is next to 0"))
        })?,
    })
}

/// The layers that turn.
fn turned(config: &Config, family: &Family, layers: usize) -> Result<Vec<bool>, ModelError> {
    const LIST: &str = "no_rope_layers";
    const INTERVAL: &str = "no_rope_layer_interval";
    let keys = &config.keys;
    if !family.hugging_face.no_rope_layers {
        for (key, is_there) in [
            (LIST, keys.no_rope_layers.is_some()),
            (INTERVAL, keys.no_rope_layer_interval.is_some()),
        ] {
            if is_there {
                let found = "this field".to_owned();
                return Err(config.unsupported(key, found, "it in smollm3, and models without it"));
            }
        }
        return Ok(params::all_but_each(None, layers));
    }
    // Of a layer that turns there is a 1 in the list, in spite of its name.
    match &keys.no_rope_layers {
        Some(list) if list.len() != layers => {
            let what = format!("{} entries for {layers} layers", list.len());
            Err(config.refuse(LIST, what))
        }
        Some(list) => match list.iter().find(|turns| **turns > 1) {
            Some(other) => Err(config.refuse(LIST, format!("{other} is neither 0 nor 1"))),
            None => Ok(list.iter().map(|turns| *turns == 1).collect()),
        },
        None => {
            let interval =
                config.optional_size(INTERVAL, keys.no_rope_layer_interval, LAYERS_MAX)?;
            // The interval in the models' own code.
            Ok(params::all_but_each(
                interval.or(family.unturned_period),
                layers,
            ))
        }
    }
}

fn softcap(
    config: &Config,
    family: &Family,
    (key, value): (&str, Option<f64>),
) -> Result<Option<f32>, ModelError> {
    match (value, family.softcaps) {
        (None, Softcaps::Required) => Err(config.missing(key)),
        (None, _) => Ok(None),
        (Some(_), Softcaps::Never) => Err(config.unsupported(
            key,
            format!("a {} model with this key", family.name),
            &format!("it in {}", capped_families()),
        )),
        (cap, _) => config.positive(key, cap).map(|cap| Some(cap as f32)),
    }
}

/// The window of each layer, as the model's own code finds it.
fn windows(
    config: &Config,
    family: &Family,
    layers: usize,
) -> Result<Vec<Option<usize>>, ModelError> {
    const PATTERN: &str = "sliding_window_pattern";
    let keys = &config.keys;
    let rules = family.hugging_face;
    let of_type = keys.model_type.as_deref().unwrap_or_default();
    if rules.without_window.contains(&of_type) {
        return Ok(vec![None; layers]);
    }
    let window = match rules.use_sliding_window && keys.use_sliding_window != Some(true) {
        true => None,
        false => config.optional_size("sliding_window", keys.sliding_window, CONTEXT_MAX)?,
    };
    if let Some(types) = keys.layer_types.as_ref().filter(|_| rules.layer_types) {
        return typed_windows(config, types, (layers, window));
    }
    let windowed: Vec<bool> = match family.windows {
        Windows::AllButEach { period } => {
            let period = match rules.sliding_window_pattern {
                true => config.size(PATTERN, keys.sliding_window_pattern, LAYERS_MAX)?,
                false => period,
            };
            (0..layers)
                .map(|layer| layer % period < period - 1)
                .collect()
        }
        Windows::All if !rules.use_sliding_window => return Ok(vec![window; layers]),
        Windows::All if keys.use_sliding_window != Some(true) => vec![false; layers],
        // Those that do not turn.
        Windows::All if rules.no_rope_layers => {
            let turned = turned(config, family, layers)?;
            turned.into_iter().map(|turns| !turns).collect()
        }
        Windows::All => {
            let first = keys.max_window_layers;
            let first = first.ok_or_else(|| config.missing("max_window_layers"))?;
            (0..layers).map(|layer| layer as u64 >= first).collect()
        }
    };
    if window.is_none() && windowed.contains(&true) {
        return Err(config.missing("sliding_window"));
    }
    Ok(windowed.iter().map(|on| window.filter(|_| *on)).collect())
}

fn typed_windows(
    config: &Config,
    types: &[String],
    (layers, window): (usize, Option<usize>),
) -> Result<Vec<Option<usize>>, ModelError> {
    const KEY: &str = "layer_types";
    if types.len() != layers {
        let what = format!("{} entries for {layers} layers", types.len());
        return Err(config.refuse(KEY, what));
    }
    let of = |ty: &String| match ty.as_str() {
        "full_attention" => Ok(None),
        "sliding_attention" => match window {
            None => Err(config.missing("sliding_window")),
            window => Ok(window),
        },
        other => {
            let found = format!("layer type {:?}", shown(other));
            Err(config.unsupported(KEY, found, "full_attention, sliding_attention"))
        }
    };
    types.iter().map(of).collect()
}
