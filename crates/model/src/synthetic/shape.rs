use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use gogrid_units::WeightType;

use crate::decoder::RopePairs;
use crate::error::ModelError;
use crate::family::FAMILIES;
use crate::limits::{
    CONTEXT_MAX, HEAD_DIM_MAX, HEADS_MAX, HIDDEN_MAX, LAYERS_MAX, VOCAB_MAX, WIDTH_MAX,
};
use crate::params::{Multipliers, Params, Tied, context};
use crate::rope::RopeSpec;
use crate::text::BYTE_TOKENS;

/// The sizes of a llama whose weights are made as they are read: the work of a real model, from no
/// file, with nothing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntheticShape {
    /// What it is called: `7b-q4_k`.
    pub name: &'static str,
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width of a feed-forward's inside.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Tokens in the longest sequence.
    pub context: usize,
    /// Whether the embedding table is the head too.
    pub tied: bool,
    /// How all matrices are stored but the head.
    pub matrices: WeightType,
    /// How the head is stored, and the embedding table where it is the head.
    pub head: WeightType,
}

/// Llama 3.2 1B. Here as below, all matrices are `q4_k` and the head is `q6_k`; llama.cpp's Q4_K_M
/// has some more in `q6_k`.
const LLAMA_3_2_1B: SyntheticShape = SyntheticShape {
    name: "1b-q4_k",
    layers: 16,
    width: 2048,
    hidden: 8192,
    heads: 32,
    kv_heads: 8,
    head_dim: 64,
    vocab: 128_256,
    context: 131_072,
    tied: true,
    matrices: WeightType::Q4K,
    head: WeightType::Q6K,
};

const LLAMA_2_7B: SyntheticShape = SyntheticShape {
    name: "7b-q4_k",
    layers: 32,
    width: 4096,
    hidden: 11_008,
    heads: 32,
    kv_heads: 32,
    head_dim: 128,
    vocab: 32_000,
    context: 4096,
    tied: false,
    matrices: WeightType::Q4K,
    head: WeightType::Q6K,
};

/// A tenth of Llama 3 70B's layers, with the whole table and head: matrices as wide as its are, in
/// the memory of a card that is too small for all of it.
const LLAMA_3_70B_SLICE: SyntheticShape = SyntheticShape {
    name: "70b-q4_k-slice",
    layers: 8,
    width: 8192,
    hidden: 28_672,
    heads: 64,
    kv_heads: 8,
    head_dim: 128,
    vocab: 128_256,
    context: 8192,
    tied: false,
    matrices: WeightType::Q4K,
    head: WeightType::Q6K,
};

impl SyntheticShape {
    /// The shapes that have a name: Llama 3.2 1B, Llama 2 7B twice, and a tenth of Llama 3 70B.
    pub const ALL: [Self; 4] = [
        LLAMA_3_2_1B,
        LLAMA_2_7B,
        Self {
            name: "7b-f16",
            matrices: WeightType::F16,
            head: WeightType::F16,
            ..LLAMA_2_7B
        },
        LLAMA_3_70B_SLICE,
    ];

    /// What the model is called, as a file's name would call it.
    pub(crate) fn title(&self) -> String {
        format!("synthetic-{}", self.name)
    }

    /// How the embedding table is stored.
    pub(crate) fn table(&self) -> WeightType {
        match self.tied {
            true => self.head,
            false => self.matrices,
        }
    }

    /// Refuses sizes that no model has, whatever they are beside each other.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let sizes = [
            ("layers", self.layers, 1..=LAYERS_MAX),
            ("width", self.width, 1..=WIDTH_MAX),
            ("hidden", self.hidden, 1..=HIDDEN_MAX),
            ("heads", self.heads, 1..=HEADS_MAX),
            ("KV heads", self.kv_heads, 1..=HEADS_MAX),
            ("width of a head", self.head_dim, 1..=HEAD_DIM_MAX),
            ("vocabulary", self.vocab, BYTE_TOKENS..=VOCAB_MAX),
            ("context", self.context, 1..=CONTEXT_MAX),
        ];
        let wrong = sizes
            .iter()
            .find(|(_, size, allowed)| !allowed.contains(size));
        wrong.map_or(Ok(()), |(field, size, allowed)| {
            let (least, most) = (allowed.start(), allowed.end());
            let what = format!("{}: {field} {size}, must be {least} to {most}", self.name);
            Err(ModelError::Request { what })
        })
    }

    /// The decoder's sizes and switches. Positions are turned as in Llama 3, without its scaling: no
    /// frequency changes what a token costs.
    pub(crate) fn params(&self, asked: Option<usize>) -> Result<Params, ModelError> {
        let family = FAMILIES.iter().find(|family| family.name == "llama");
        let family = family.expect("llama is a family");
        let tied = match self.tied {
            true => Tied::Yes,
            false => Tied::No,
        };
        Ok(Params {
            file: PathBuf::from(self.title()),
            family,
            vocab: Some(self.vocab),
            width: self.width,
            hidden: self.hidden,
            context: context(self.context, asked)?,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            norm_epsilon: 1e-5,
            biases: false,
            output_bias: false,
            scales: Multipliers::of(family, self.width, self.head_dim as f64),
            attention_softcap: None,
            logit_softcap: None,
            windows: vec![None; self.layers],
            turned: vec![true; self.layers],
            rope: RopeSpec::plain(RopePairs::Adjacent, self.head_dim, 500_000.0),
            windowed_rope: None,
            tied,
        })
    }
}

impl fmt::Display for SyntheticShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl FromStr for SyntheticShape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|shape| shape.name == name);
        known.ok_or_else(|| {
            let names = Self::ALL.map(|shape| shape.name).join(", ");
            format!("unknown shape {name:?}; one of {names}")
        })
    }
}
