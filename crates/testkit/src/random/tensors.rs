//! The tensors of a tiny model, under GGUF's names.

use gogrid_units::WeightType;

use super::blocks::random_values;
use super::family::{Family, Shape};
use super::rope::{llama3_factors, long_factors};
use crate::gguf_writer::Tensor;
use crate::rng::Rng;

/// Matrices that llama.cpp's mixed recipes (Q4_K_M) keep in a finer type than the others.
const OTHERS: [&str; 3] = ["token_embd", "attn_v", "ffn_down"];

/// Draws tensors one after the other.
pub(crate) struct Draw {
    rng: Rng,
    weights: WeightType,
    also: WeightType,
    pub(crate) tensors: Vec<Tensor>,
}

impl Draw {
    /// Matrices are stored as `weights`, some as `also`.
    pub(crate) const fn new(seed: u64, weights: WeightType, also: WeightType) -> Self {
        Self {
            rng: Rng::new(seed),
            weights,
            also,
            tensors: Vec::new(),
        }
    }

    /// All tensors of `family`, in the order converters write them.
    pub(crate) fn all(&mut self, family: Family, shape: &Shape, vocab: usize) {
        self.matrix("token_embd.weight", vocab, shape.width);
        self.rope_factors(family, shape);
        for layer in 0..shape.layers {
            self.mixer(family, shape, layer);
            self.feed_forward(family, shape, layer);
        }
        self.norm("output_norm.weight", shape.width);
        if !family.is_tied() {
            self.matrix("output.weight", vocab, shape.width);
        }
    }

    fn mixer(&mut self, family: Family, shape: &Shape, layer: usize) {
        let name = |part: &str| format!("blk.{layer}.{part}");
        if family.has_norms_before() {
            self.norm(&name("attn_norm.weight"), shape.width);
        }
        if family.is_fused() {
            let rows = shape.q_rows() + 2 * shape.kv_rows();
            self.matrix(&name("attn_qkv.weight"), rows, shape.width);
        } else {
            for (part, rows) in [
                ("attn_q", shape.q_rows()),
                ("attn_k", shape.kv_rows()),
                ("attn_v", shape.kv_rows()),
            ] {
                self.matrix(&name(&format!("{part}.weight")), rows, shape.width);
                if family == Family::Qwen2 {
                    self.vector(&name(&format!("{part}.bias")), rows, (-0.5, 0.5));
                }
            }
        }
        if family.has_head_norms() {
            self.norm(&name("attn_q_norm.weight"), shape.head_dim);
            self.norm(&name("attn_k_norm.weight"), shape.head_dim);
        }
        if family.is_olmo() {
            self.norm(&name("attn_q_norm.weight"), shape.q_rows());
            self.norm(&name("attn_k_norm.weight"), shape.kv_rows());
        }
        self.matrix(&name("attn_output.weight"), shape.width, shape.q_rows());
        if family.has_norms_after() {
            self.norm(&name("post_attention_norm.weight"), shape.width);
        }
    }

    fn feed_forward(&mut self, family: Family, shape: &Shape, layer: usize) {
        let name = |part: &str| format!("blk.{layer}.{part}");
        if family.has_norms_before() {
            self.norm(&name("ffn_norm.weight"), shape.width);
        }
        if family.is_fused() {
            self.matrix(&name("ffn_up.weight"), 2 * shape.hidden, shape.width);
        } else {
            self.matrix(&name("ffn_gate.weight"), shape.hidden, shape.width);
            self.matrix(&name("ffn_up.weight"), shape.hidden, shape.width);
        }
        self.matrix(&name("ffn_down.weight"), shape.width, shape.hidden);
        if family.has_norms_after() {
            self.norm(&name("post_ffw_norm.weight"), shape.width);
        }
    }

    fn rope_factors(&mut self, family: Family, shape: &Shape) {
        match family {
            Family::Llama3 => {
                let factors = llama3_factors(shape, family.rope_base());
                self.put_vector("rope_freqs.weight", &factors);
            }
            Family::Phi3Long => {
                let (long, short) = long_factors(shape.rotated / 2);
                self.put_vector("rope_factors_long.weight", &long);
                self.put_vector("rope_factors_short.weight", &short);
            }
            _ => {}
        }
    }

    /// Outputs of about the size of the inputs, whatever the width.
    fn matrix(&mut self, name: &str, rows: usize, cols: usize) {
        let spread = 1.0 / (cols as f32).sqrt();
        let is_head = name == "output.weight";
        let is_other = is_head || OTHERS.iter().any(|part| name.contains(part));
        let stored = if is_other { self.also } else { self.weights };
        self.tensors.push(Tensor {
            name: name.into(),
            shape: vec![rows, cols],
            stored,
            data: random_values(&mut self.rng, stored, rows * cols, spread),
        });
    }

    fn norm(&mut self, name: &str, len: usize) {
        self.vector(name, len, (0.5, 1.5));
    }

    /// Values are multiples of 1/64: exact in every float type, and when 1 is taken away.
    fn vector(&mut self, name: &str, len: usize, (low, high): (f32, f32)) {
        let value = |_| (self.rng.between(low, high) * 64.0).round() / 64.0;
        let values: Vec<f32> = (0..len).map(value).collect();
        self.put_vector(name, &values);
    }

    fn put_vector(&mut self, name: &str, values: &[f32]) {
        self.tensors.push(Tensor {
            name: name.into(),
            shape: vec![values.len()],
            stored: WeightType::F32,
            data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        });
    }
}
