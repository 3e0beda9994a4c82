//! The shapes of the tiny models, family by family.

use gogrid_units::WeightType;

/// A family of models, or a variant of one, that GoGrid runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Grouped-query attention and nothing else.
    Llama,
    /// Llama with positions divided by a constant.
    LlamaLinear,
    /// Llama 3.1 and on: a factor for each frequency, in a tensor.
    Llama3,
    /// Llama with a sliding window on every layer.
    Mistral,
    /// Biases on queries, keys and values.
    Qwen2,
    /// Norms on query and key heads; heads wider than the width divided by their number.
    Qwen3,
    /// Every other layer windowed, caps on scores and logits, norms after each half-layer.
    Gemma2,
    /// Five windowed layers with their own rotation, then a full one.
    Gemma3,
    /// Gemma 3 from 4B on: full layers divide positions by eight.
    Gemma3Scaled,
    /// Fused queries, keys and values; fused gate and up.
    Phi3,
    /// Phi 3 with a set of factors for short contexts and one for long, and only a part of each
    /// head turned.
    Phi3Long,
    /// No norms before half-layers, only after; norms over all query heads together, and all key heads.
    Olmo2,
    /// OLMo 2 with three windowed layers, whose rotation is not scaled, then a full one, whose is.
    Olmo3,
    /// Multipliers of embeddings, scores, what is added to the residual stream, and logits.
    Granite,
    /// Every fourth layer turns nothing.
    SmolLm3,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 15] = [
        Self::Llama,
        Self::LlamaLinear,
        Self::Llama3,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Gemma2,
        Self::Gemma3,
        Self::Gemma3Scaled,
        Self::Phi3,
        Self::Phi3Long,
        Self::Olmo2,
        Self::Olmo3,
        Self::Granite,
        Self::SmolLm3,
    ];

    /// What files are called: `gemma3-scaled`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::LlamaLinear => "llama-linear",
            Self::Llama3 => "llama3",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
            Self::Gemma3Scaled => "gemma3-scaled",
            Self::Phi3 => "phi3",
            Self::Phi3Long => "phi3-long",
            Self::Olmo2 => "olmo2",
            Self::Olmo3 => "olmo3",
            Self::Granite => "granite",
            Self::SmolLm3 => "smollm3",
        }
    }

    /// `general.architecture` in a GGUF file.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::Llama | Self::LlamaLinear | Self::Llama3 | Self::Mistral => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 | Self::Gemma3Scaled => "gemma3",
            Self::Phi3 | Self::Phi3Long => "phi3",
            Self::Olmo2 | Self::Olmo3 => "olmo2",
            Self::Granite => "granite",
            Self::SmolLm3 => "smollm3",
        }
    }

    pub(crate) const fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3 | Self::Gemma3Scaled)
    }

    /// Norms on each query and key head.
    pub(crate) const fn has_head_norms(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Gemma3 | Self::Gemma3Scaled)
    }

    pub(crate) const fn is_olmo(self) -> bool {
        matches!(self, Self::Olmo2 | Self::Olmo3)
    }

    /// Norms on what half-layers read.
    pub(crate) const fn has_norms_before(self) -> bool {
        !self.is_olmo()
    }

    /// Norms on what half-layers add.
    pub(crate) const fn has_norms_after(self) -> bool {
        self.is_gemma() || self.is_olmo()
    }

    /// Neighbours in a head turn together in GGUF files, not halves.
    pub(crate) const fn turns_neighbours(self) -> bool {
        matches!(
            self,
            Self::Llama
                | Self::LlamaLinear
                | Self::Llama3
                | Self::Mistral
                | Self::Granite
                | Self::SmolLm3
        )
    }

    pub(crate) const fn is_fused(self) -> bool {
        matches!(self, Self::Phi3 | Self::Phi3Long)
    }

    /// Whether the embedding is the head too.
    pub(crate) const fn is_tied(self) -> bool {
        self.is_gemma()
            || matches!(
                self,
                Self::Qwen2 | Self::LlamaLinear | Self::Granite | Self::SmolLm3
            )
    }

    /// The base of its rotation; Gemma 3's windowed layers have 10000 whatever this says.
    pub(crate) const fn rope_base(self) -> f32 {
        match self {
            Self::Llama3 | Self::Olmo2 | Self::Olmo3 => 500_000.0,
            Self::Qwen2 | Self::Qwen3 | Self::Gemma3 | Self::Gemma3Scaled => 1_000_000.0,
            _ => 10_000.0,
        }
    }

    /// Tokens a windowed layer sees; short of a KV block, so that whole blocks leave it.
    pub(crate) const fn window(self) -> Option<usize> {
        match self {
            Self::Mistral | Self::Gemma2 | Self::Gemma3 | Self::Gemma3Scaled | Self::Olmo3 => {
                Some(24)
            }
            _ => None,
        }
    }
}

/// The extents of a tiny model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) width: usize,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) rotated: usize,
    pub(crate) context: usize,
    /// The context before it was stretched.
    pub(crate) original_context: usize,
}

impl Shape {
    /// The shape of `family` when its matrices are stored as `weights`: every row is whole blocks.
    pub(crate) const fn of(family: Family, weights: WeightType) -> Self {
        // Narrow models are 96 wide: no power of two, so that a wrong stride shows.
        let wide = weights.block_len() == 256;
        let (width, hidden) = if wide { (256, 512) } else { (96, 160) };
        let (heads, kv_heads, head_dim) = match (family, wide) {
            (Family::Qwen3 | Family::Gemma2, true) => (4, 2, 128),
            (Family::Gemma3 | Family::Gemma3Scaled, true) => (4, 1, 128),
            (_, true) => (4, 2, 64),
            (Family::Qwen3 | Family::Gemma2, false) => (4, 2, 32),
            (Family::Gemma3 | Family::Gemma3Scaled, false) => (4, 1, 64),
            (_, false) => (3, 1, 32),
        };
        let layers = match family {
            Family::Gemma3 | Family::Gemma3Scaled => 7,
            Family::Gemma2 => 4,
            Family::Olmo3 | Family::SmolLm3 => 5,
            _ => 3,
        };
        // Llama.cpp rounds contexts up to 256, so LongRoPE's short factors need an original one
        // of at least that.
        let is_long = matches!(family, Family::Phi3Long);
        let (original_context, context) = match family {
            Family::Llama3 | Family::Olmo3 => (64, 512),
            Family::Phi3Long => (256, 1024),
            _ => (256, 256),
        };
        Self {
            width,
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim,
            rotated: if is_long { head_dim * 3 / 4 } else { head_dim },
            context,
            original_context,
        }
    }

    /// Rows of the query matrix.
    pub(crate) const fn q_rows(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Rows of the key matrix, and of the value matrix.
    pub(crate) const fn kv_rows(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
