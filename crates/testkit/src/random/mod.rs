//! Tiny random models of every supported family and weight type.

mod blocks;
mod family;
mod hugging_face;
mod prompts;
mod rope;
mod settings;
mod templates;
mod tensors;
mod tokenizer_cases;
mod tokenizer_json;
mod vocabulary;

use std::io;
use std::path::Path;

use gogrid_units::WeightType;

pub use self::family::Family;
use self::family::Shape;
pub use self::prompts::prompt_text;
pub use self::settings::{control_message, limits_file};
pub use self::templates::{FOREIGN_CHARS, chat_template, foreign_text};
use self::tensors::Draw;
pub use self::tokenizer_cases::TokenizerCase;
use self::vocabulary::Vocabulary;
use crate::gguf_writer::{GgufWriter, Meta, Tensor};
use crate::reference::dequantise;

/// What a tiny model is made from. The same spec gives the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The family.
    pub family: Family,
    /// How its matrices are stored; vectors are always F32.
    pub weights: WeightType,
    /// Where its random numbers start.
    pub seed: u64,
}

/// A tiny random model in memory.
#[derive(Clone, Debug)]
pub struct RandomModel {
    spec: Spec,
    shape: Shape,
    vocabulary: Vocabulary,
    tensors: Vec<Tensor>,
}

impl RandomModel {
    /// Draws the model of `spec`.
    pub fn new(spec: Spec) -> Self {
        Self::mixed(spec, spec.weights)
    }

    /// Draws a model whose layers have these heads: of queries, of keys and values, and how wide. All of
    /// a head turns.
    pub fn with_heads(spec: Spec, (heads, kv_heads): (usize, usize), head_dim: usize) -> Self {
        let shape = Shape {
            heads,
            kv_heads,
            head_dim,
            rotated: head_dim,
            ..Shape::of(spec.family, spec.weights)
        };
        Self::draw(spec, spec.weights, shape)
    }

    /// The same model with the values of an F32 tensor multiplied.
    ///
    /// # Panics
    /// When there is no such tensor, or its values are of another type.
    pub fn scaled(mut self, name: &str, factor: f32) -> Self {
        let tensor = self.tensors.iter_mut().find(|tensor| tensor.name == name);
        let tensor = tensor.unwrap_or_else(|| panic!("no tensor {name}"));
        assert_eq!(tensor.stored, WeightType::F32, "{name}");
        let values = dequantise(tensor.stored, &tensor.data).into_iter();
        tensor.data = values
            .flat_map(|value| (value * factor).to_le_bytes())
            .collect();
        self
    }

    /// Draws a model whose embedding, head, value and down matrices are stored as `also`.
    pub fn mixed(spec: Spec, also: WeightType) -> Self {
        let widest = if also.block_len() > spec.weights.block_len() {
            also
        } else {
            spec.weights
        };
        Self::draw(spec, also, Shape::of(spec.family, widest))
    }

    /// Draws a model whose feed-forward is `hidden` wide, which decides its bytes.
    pub fn with_hidden(spec: Spec, hidden: usize) -> Self {
        let shape = Shape {
            hidden,
            ..Shape::of(spec.family, spec.weights)
        };
        Self::draw(spec, spec.weights, shape)
    }

    /// The same model, which claims sequences of so many tokens.
    pub fn claiming(mut self, context: usize) -> Self {
        self.shape.context = context;
        self
    }

    fn draw(spec: Spec, also: WeightType, shape: Shape) -> Self {
        let vocabulary = if spec.family.is_gemma() {
            Vocabulary::sentence_piece()
        } else {
            Vocabulary::byte_level()
        };
        let mut draw = Draw::new(spec.seed, spec.weights, also);
        draw.all(spec.family, &shape, vocabulary.tokens.len());
        Self {
            spec,
            shape,
            vocabulary,
            tensors: draw.tensors,
        }
    }

    /// Tokens in its vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocabulary.tokens.len()
    }

    /// The same model with the same values, every matrix stored as F32.
    pub fn dequantised(&self) -> Self {
        let widen = |tensor: &Tensor| Tensor {
            stored: WeightType::F32,
            data: dequantise(tensor.stored, &tensor.data)
                .into_iter()
                .flat_map(f32::to_le_bytes)
                .collect(),
            ..tensor.clone()
        };
        Self {
            tensors: self.tensors.iter().map(widen).collect(),
            ..self.clone()
        }
    }

    /// It as a GGUF file of version 3.
    pub fn gguf(&self) -> GgufWriter {
        let mut writer = GgufWriter::new(3);
        for (key, value) in self.meta() {
            writer.meta(key, value);
        }
        for tensor in &self.tensors {
            writer.tensor(tensor.clone());
        }
        writer
    }

    /// Writes it to `path` as a GGUF file.
    pub fn write_gguf(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.gguf().bytes())
    }

    fn meta(&self) -> Vec<(String, Meta)> {
        let family = self.spec.family;
        let mut meta = vec![
            (
                "general.architecture".into(),
                Meta::Text(family.architecture().into()),
            ),
            (
                "general.name".into(),
                Meta::Text(format!("tiny seed {}", self.spec.seed)),
            ),
        ];
        let keys = self.shape_meta().into_iter().chain(self.family_meta());
        let arch = family.architecture();
        meta.extend(keys.map(|(key, value)| (format!("{arch}.{key}"), value)));
        meta.extend(match family {
            _ if family.is_gemma() => self.vocabulary.sentence_piece_meta(),
            Family::Llama3 => self.vocabulary.byte_level_meta("llama-bpe"),
            Family::Qwen2 | Family::Qwen3 => self.vocabulary.byte_level_meta("qwen2"),
            _ if family.is_olmo() => self.vocabulary.byte_level_meta("dbrx"),
            Family::Granite => self.vocabulary.byte_level_meta("refact"),
            Family::SmolLm3 => self.vocabulary.byte_level_meta("smaug-bpe"),
            _ => self.vocabulary.byte_level_meta("smollm"),
        });
        meta
    }

    /// What every family has.
    fn shape_meta(&self) -> Vec<(&'static str, Meta)> {
        let shape = &self.shape;
        vec![
            ("vocab_size", count(self.vocab())),
            ("context_length", count(shape.context)),
            ("embedding_length", count(shape.width)),
            ("block_count", count(shape.layers)),
            ("feed_forward_length", count(shape.hidden)),
            ("attention.head_count", count(shape.heads)),
            ("attention.head_count_kv", count(shape.kv_heads)),
            ("attention.key_length", count(shape.head_dim)),
            ("attention.value_length", count(shape.head_dim)),
            ("attention.layer_norm_rms_epsilon", Meta::F32(1e-5)),
            ("rope.dimension_count", count(shape.rotated)),
        ]
    }

    /// What only some have.
    fn family_meta(&self) -> Vec<(&'static str, Meta)> {
        let mut meta = Vec::new();
        if let Some(window) = self.spec.family.window() {
            meta.push(("attention.sliding_window", count(window)));
        }
        meta.push(("rope.freq_base", Meta::F32(self.spec.family.rope_base())));
        if let Some(factor) = self.linear_factor() {
            meta.push(("rope.scaling.type", Meta::Text("linear".into())));
            meta.push(("rope.scaling.factor", Meta::F32(factor)));
        }
        match self.spec.family {
            Family::Gemma2 => meta.extend([
                ("attn_logit_softcapping", Meta::F32(2.0)),
                ("final_logit_softcapping", Meta::F32(3.0)),
            ]),
            Family::Phi3Long => meta.extend([
                (
                    "rope.scaling.original_context_length",
                    count(self.shape.original_context),
                ),
                (
                    "rope.scaling.attn_factor",
                    Meta::F32(rope::long_magnitude(&self.shape)),
                ),
            ]),
            Family::Olmo3 => meta.extend([
                ("rope.scaling.type", Meta::Text("yarn".into())),
                ("rope.scaling.factor", Meta::F32(rope::YARN_FACTOR)),
                (
                    "rope.scaling.original_context_length",
                    count(self.shape.original_context),
                ),
                (
                    "rope.scaling.yarn_attn_factor",
                    Meta::F32(rope::yarn_magnitude()),
                ),
            ]),
            Family::Granite => meta.extend([
                ("embedding_scale", Meta::F32(EMBEDDING_MULTIPLIER)),
                ("attention.scale", Meta::F32(ATTENTION_MULTIPLIER)),
                ("residual_scale", Meta::F32(RESIDUAL_MULTIPLIER)),
                ("logit_scale", Meta::F32(LOGITS_DIVISOR)),
            ]),
            _ => {}
        }
        meta
    }

    const fn linear_factor(&self) -> Option<f32> {
        match self.spec.family {
            Family::LlamaLinear => Some(4.0),
            Family::Gemma3Scaled => Some(8.0),
            _ => None,
        }
    }
}

/// Granite's, so that each counts in a tiny model.
const EMBEDDING_MULTIPLIER: f32 = 3.0;
const ATTENTION_MULTIPLIER: f32 = 0.0625;
const RESIDUAL_MULTIPLIER: f32 = 0.22;
const LOGITS_DIVISOR: f32 = 1.25;

/// Extents of a tiny model are far below 2^32.
const fn count(n: usize) -> Meta {
    Meta::U32(n as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_spread_that_keeps_activations_sane() {
        for weights in WeightType::ALL {
            let family = Family::Llama;
            let model = RandomModel::new(Spec {
                family,
                weights,
                seed: 1,
            });
            let tensor = &model.tensors[0];
            let values = dequantise(weights, &tensor.data);
            assert_eq!(values.len(), tensor.shape.iter().product::<usize>());
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
            let spread = square.sqrt() * (tensor.shape[1] as f64).sqrt();
            assert!((0.85..1.25).contains(&spread), "{weights}: {spread}");
            assert!(mean.abs() < 0.15 * square.sqrt(), "{weights}: mean {mean}");
        }
    }

    #[test]
    fn the_same_spec_gives_the_same_bytes() {
        for family in Family::ALL {
            let spec = Spec {
                family,
                weights: WeightType::Q4K,
                seed: 7,
            };
            let bytes = RandomModel::new(spec).gguf().bytes();
            assert_eq!(bytes, RandomModel::new(spec).gguf().bytes());
            let other = Spec { seed: 8, ..spec };
            assert_ne!(bytes, RandomModel::new(other).gguf().bytes());
        }
    }
}
