//! A tiny model as a Hugging Face directory: the same values under other names.

use std::error::Error;
use std::fs;
use std::path::Path;

use gogrid_units::WeightType;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::tokenizer_json::{tokenizer_config, tokenizer_json};
use super::{
    ATTENTION_MULTIPLIER, EMBEDDING_MULTIPLIER, Family, LOGITS_DIVISOR, RESIDUAL_MULTIPLIER,
    RandomModel,
};
use crate::gguf_writer::Tensor;
use crate::random::rope::{YARN_FACTOR, long_factors, yarn_magnitude};
use crate::reference::dequantise;

impl RandomModel {
    /// Writes it into `directory`, which exists: `config.json`, the tokenizer's files, and its
    /// tensors in one file of safetensors or, with more than one shard, in several with an index.
    /// Its weights are F32, F16 or BF16; its values are those of [`gguf`](Self::gguf).
    pub fn write_hugging_face(
        &self,
        directory: &Path,
        shards: usize,
    ) -> Result<(), Box<dyn Error>> {
        write_json(&directory.join("config.json"), &self.config())?;
        let tokenizer = tokenizer_json(self.spec.family, &self.vocabulary);
        write_json(&directory.join("tokenizer.json"), &tokenizer)?;
        let config = tokenizer_config(self.spec.family, &self.vocabulary);
        write_json(&directory.join("tokenizer_config.json"), &config)?;
        let renamed = self.renamed();
        let tensors: Vec<_> = renamed.iter().flatten().collect();
        if shards < 2 {
            return write_tensors(&directory.join("model.safetensors"), &tensors);
        }
        let mut weight_map = serde_json::Map::new();
        let chunks = tensors.chunks(tensors.len().div_ceil(shards));
        let count = chunks.len();
        for (i, chunk) in chunks.enumerate() {
            let file = format!("model-{:05}-of-{count:05}.safetensors", i + 1);
            write_tensors(&directory.join(&file), chunk)?;
            weight_map.extend(chunk.iter().map(|t| (t.name.clone(), json!(file))));
        }
        let total: usize = tensors.iter().map(|t| t.data.len()).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        write_json(&directory.join("model.safetensors.index.json"), &index)
    }

    /// Its tensors as the directory names, orders and offsets them; `None` for those that the
    /// configuration says instead.
    fn renamed(&self) -> Vec<Option<Tensor>> {
        let rename = |tensor: &Tensor| {
            let name = hugging_face_name(self.spec.family, &tensor.name)?;
            let mut values = dequantise(tensor.stored, &tensor.data);
            if self.spec.family.is_gemma() && name.contains("norm") {
                // Gemma's norms are kept as the difference from one.
                values.iter_mut().for_each(|v| *v -= 1.0);
            }
            if self.spec.family.turns_neighbours()
                && (name.contains("q_proj") || name.contains("k_proj"))
            {
                values = self.halves(&values, tensor.shape[1]);
            }
            Some(Tensor {
                name,
                shape: tensor.shape.clone(),
                stored: self.spec.weights,
                data: narrow(self.spec.weights, &values),
            })
        };
        self.tensors.iter().map(rename).collect()
    }

    /// Rows of a query or key matrix from pairs `(2 i, 2 i + 1)` to pairs `(i, n + i)`.
    fn halves(&self, values: &[f32], cols: usize) -> Vec<f32> {
        let dim = self.shape.head_dim;
        let rows = values.len() / cols;
        let source = |row: usize| {
            let (head, at) = (row / dim, row % dim);
            head * dim + 2 * (at % (dim / 2)) + at / (dim / 2)
        };
        (0..rows)
            .flat_map(|row| &values[source(row) * cols..][..cols])
            .copied()
            .collect()
    }

    fn config(&self) -> Value {
        let shape = &self.shape;
        let (class, model_type) = class(self.spec.family);
        let activation = if self.spec.family.is_gemma() {
            "gelu_pytorch_tanh"
        } else {
            "silu"
        };
        let mut config = json!({
            "architectures": [class],
            "model_type": model_type,
            "vocab_size": self.vocab(),
            "hidden_size": shape.width,
            "intermediate_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "max_position_embeddings": shape.context,
            "rms_norm_eps": 1e-5,
            "rope_theta": self.spec.family.rope_base(),
            "rope_scaling": self.rope_scaling(),
            "hidden_act": activation,
            "tie_word_embeddings": self.spec.family.is_tied(),
            "bos_token_id": self.vocabulary.begin,
            "eos_token_id": self.vocabulary.end,
        });
        let own = self.family_config();
        if let (Some(config), Value::Object(own)) = (config.as_object_mut(), own) {
            config.extend(own);
        }
        config
    }

    fn rope_scaling(&self) -> Value {
        match (self.spec.family, self.linear_factor()) {
            (_, Some(factor)) => json!({"rope_type": "linear", "factor": factor}),
            (Family::Llama3, _) => json!({
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": self.shape.original_context,
            }),
            (Family::Phi3Long, _) => {
                let (long, short) = long_factors(self.shape.rotated / 2);
                json!({"type": "longrope", "long_factor": long, "short_factor": short})
            }
            (Family::Olmo3, _) => json!({
                "rope_type": "yarn",
                "factor": YARN_FACTOR,
                "attention_factor": yarn_magnitude(),
                "original_max_position_embeddings": self.shape.original_context,
            }),
            _ => Value::Null,
        }
    }

    /// Keys that only some families have.
    fn family_config(&self) -> Value {
        let shape = &self.shape;
        match self.spec.family {
            Family::Mistral => json!({"sliding_window": self.spec.family.window()}),
            Family::Qwen2 | Family::Qwen3 => json!({"use_sliding_window": false}),
            Family::Gemma2 => json!({
                "sliding_window": self.spec.family.window(),
                "query_pre_attn_scalar": shape.head_dim,
                "attn_logit_softcapping": 2.0,
                "final_logit_softcapping": 3.0,
                "hidden_activation": "gelu_pytorch_tanh",
            }),
            Family::Gemma3 | Family::Gemma3Scaled => json!({
                "sliding_window": self.spec.family.window(),
                "sliding_window_pattern": 6,
                "query_pre_attn_scalar": shape.head_dim,
                "rope_local_base_freq": 10_000.0,
                "hidden_activation": "gelu_pytorch_tanh",
            }),
            Family::Phi3 => json!({"sliding_window": null}),
            Family::Phi3Long => json!({
                "sliding_window": null,
                "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": shape.original_context,
            }),
            Family::Olmo3 => json!({
                "sliding_window": self.spec.family.window(),
                "layer_types": self.of_layers(json!("sliding_attention"), &json!("full_attention")),
            }),
            Family::Granite => json!({
                "embedding_multiplier": EMBEDDING_MULTIPLIER,
                "attention_multiplier": ATTENTION_MULTIPLIER,
                "residual_multiplier": RESIDUAL_MULTIPLIER,
                "logits_scaling": LOGITS_DIVISOR,
            }),
            Family::SmolLm3 => json!({
                "use_sliding_window": false,
                "no_rope_layer_interval": 4,
                "no_rope_layers": self.of_layers(json!(1), &json!(0)),
            }),
            _ => json!({}),
        }
    }

    /// One value for each layer: every fourth has its own.
    fn of_layers(&self, most: Value, fourth: &Value) -> Vec<Value> {
        let mut values = vec![most; self.shape.layers];
        for value in values.iter_mut().skip(3).step_by(4) {
            value.clone_from(fourth);
        }
        values
    }
}

/// The class in `architectures`, and `model_type`.
const fn class(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Llama | Family::LlamaLinear | Family::Llama3 => ("LlamaForCausalLM", "llama"),
        Family::Mistral => ("MistralForCausalLM", "mistral"),
        Family::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
        Family::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
        Family::Gemma2 => ("Gemma2ForCausalLM", "gemma2"),
        Family::Gemma3 | Family::Gemma3Scaled => ("Gemma3ForCausalLM", "gemma3_text"),
        Family::Phi3 | Family::Phi3Long => ("Phi3ForCausalLM", "phi3"),
        Family::Olmo2 => ("Olmo2ForCausalLM", "olmo2"),
        Family::Olmo3 => ("Olmo3ForCausalLM", "olmo3"),
        Family::Granite => ("GraniteForCausalLM", "granite"),
        Family::SmolLm3 => ("SmolLM3ForCausalLM", "smollm3"),
    }
}

/// A GGUF tensor's name in a Hugging Face directory; `None` for rotation factors.
fn hugging_face_name(family: Family, name: &str) -> Option<String> {
    let Some((layer, part)) = name.strip_prefix("blk.").and_then(|n| n.split_once('.')) else {
        return match name {
            "token_embd.weight" => Some("model.embed_tokens.weight".into()),
            "output_norm.weight" => Some("model.norm.weight".into()),
            "output.weight" => Some("lm_head.weight".into()),
            _ => None,
        };
    };
    let (part, kind) = part.rsplit_once('.')?;
    let part = match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_qkv" => "self_attn.qkv_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "post_attention_norm" => "post_attention_layernorm",
        "ffn_norm" if family.is_gemma() => "pre_feedforward_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_up" if family.is_fused() => "mlp.gate_up_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        "post_ffw_norm" => "post_feedforward_layernorm",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.{kind}"))
}

fn narrow(stored: WeightType, values: &[f32]) -> Vec<u8> {
    let f16 = |v: &f32| half::f16::from_f32(*v).to_le_bytes();
    let bf16 = |v: &f32| half::bf16::from_f32(*v).to_le_bytes();
    match stored {
        WeightType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        WeightType::F16 => values.iter().flat_map(f16).collect(),
        WeightType::Bf16 => values.iter().flat_map(bf16).collect(),
        _ => panic!("a hugging face directory holds no {stored}"),
    }
}

fn write_tensors(path: &Path, tensors: &[&Tensor]) -> Result<(), Box<dyn Error>> {
    let mut views = Vec::new();
    for tensor in tensors {
        let kind = match tensor.stored {
            WeightType::F16 => Dtype::F16,
            WeightType::Bf16 => Dtype::BF16,
            _ => Dtype::F32,
        };
        let view = TensorView::new(kind, tensor.shape.clone(), &tensor.data)?;
        views.push((tensor.name.as_str(), view));
    }
    fs::write(path, safetensors::serialize(views, None)?)?;
    Ok(())
}

fn write_json(path: &Path, value: &Value) -> Result<(), Box<dyn Error>> {
    fs::write(path, serde_json::to_vec_pretty(value)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Spec;

    #[test]
    fn every_tensor_but_rotation_factors_has_a_name_of_its_own() {
        for family in Family::ALL {
            let model = RandomModel::new(Spec {
                family,
                weights: WeightType::Bf16,
                seed: 3,
            });
            let left_out = model.renamed().iter().filter(|t| t.is_none()).count();
            let factors = model.tensors.iter().filter(|t| t.name.starts_with("rope_"));
            assert_eq!(left_out, factors.count(), "{family:?}");
            let mut names: Vec<_> = model
                .renamed()
                .into_iter()
                .flatten()
                .map(|t| t.name)
                .collect();
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all, "{family:?}");
        }
    }
}
