//! The supported families, as data.

use crate::decoder::{Activation, RopePairs};

/// What sets a family apart from the others.
#[derive(Debug)]
pub(crate) struct Family {
    /// `general.architecture` in a GGUF file.
    pub(crate) name: &'static str,
    /// `model_type` in config.json.
    pub(crate) model_types: &'static [&'static str],
    pub(crate) activation: Activation,
    /// Queries, keys and values have biases.
    pub(crate) biases: bool,
    /// Queries and keys are normed, head by head.
    pub(crate) head_norms: bool,
    /// Both halves of a layer are normed again before they are added.
    pub(crate) post_norms: bool,
    /// Queries, keys and values are one tensor, gate and up another.
    pub(crate) fused: bool,
    /// Embeddings are multiplied by the root of the width.
    pub(crate) scaled_embeddings: bool,
    pub(crate) softcaps: Softcaps,
    pub(crate) windows: Windows,
    /// The base of the rotation that layers with a window have of their own, for GGUF files that do
    /// not name it; `None` where all layers have the same rotation. There was no key until late 2025;
    /// llama.cpp's loader has 10000 in its code, and so do all of the models' configs
    /// (`rope_local_base_freq`).
    pub(crate) windowed_rope_base: Option<f64>,
    pub(crate) gguf: GgufRules,
    pub(crate) hugging_face: HuggingFaceRules,
}

/// Whether attention scores and logits are capped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Softcaps {
    /// Never. A file that names a cap is refused.
    Never,
    /// Where the file names a cap.
    Optional,
    /// Always. A file without a cap is damaged.
    Required,
}

/// The layers that have a window, where a file does not list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Windows {
    /// All, if the file names a window.
    All,
    /// All but each `period`-th. The period is the one in the models' own code, for files that do not
    /// name it.
    AllButEach { period: usize },
}

/// What a family's GGUF files leave unsaid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GgufRules {
    /// How they order the pairs that turn together; Hugging Face has halves everywhere.
    pub(crate) pairs: RopePairs,
    /// A file must name the window. Otherwise one without it, or with 0, is a model without windows.
    pub(crate) has_window: bool,
    /// The layers of the one model whose scores are divided by the root of width / heads. All others
    /// are divided by the root of a head's width. Gemma's configs give the divisor, no GGUF key
    /// does; llama.cpp too tells these models by their layers.
    pub(crate) scores_by_width_at_layers: Option<usize>,
}

/// How a family's own code reads config.json, and what its safetensors files hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HuggingFaceRules {
    /// Weights of norms are stored less 1.
    pub(crate) norms_less_one: bool,
    /// `attention_bias` gives all four projections of attention biases.
    pub(crate) attention_bias: bool,
    /// `head_dim` is always there. Otherwise it is width / heads where the key is missing.
    pub(crate) head_dim: bool,
    /// `hidden_activation` counts before `hidden_act`, which is stale in some configs.
    pub(crate) hidden_activation: bool,
    /// Scores are divided by the root of `query_pre_attn_scalar`, otherwise of a head's width.
    pub(crate) query_pre_attn_scalar: bool,
    /// `sliding_window_pattern` must be there, unless the layers are listed. Otherwise the period is
    /// the one in [`Windows`].
    pub(crate) sliding_window_pattern: bool,
    /// The model types whose code has no window, whatever `sliding_window` says.
    pub(crate) without_window: &'static [&'static str],
    /// `layer_types` lists the layers that have a window.
    pub(crate) layer_types: bool,
    /// Only with `use_sliding_window`, and only from layer `max_window_layers` on, do layers have a
    /// window, unless the layers are listed.
    pub(crate) use_sliding_window: bool,
    /// The base of the rotation where `rope_theta` is missing; without it the key is required.
    pub(crate) rope_theta: Option<f64>,
}

const LLAMA: Family = Family {
    name: "llama",
    model_types: &["llama", "mistral"],
    activation: Activation::Silu,
    biases: false,
    head_norms: false,
    post_norms: false,
    fused: false,
    scaled_embeddings: false,
    softcaps: Softcaps::Never,
    windows: Windows::All,
    windowed_rope_base: None,
    gguf: GgufRules {
        pairs: RopePairs::Adjacent,
        has_window: false,
        scores_by_width_at_layers: None,
    },
    hugging_face: HuggingFaceRules {
        norms_less_one: false,
        attention_bias: true,
        head_dim: false,
        hidden_activation: false,
        query_pre_attn_scalar: false,
        sliding_window_pattern: false,
        without_window: &["llama"],
        layer_types: false,
        use_sliding_window: false,
        // LlamaConfig's default, for Llama 1 and 2, whose configs are older than the key.
        rope_theta: Some(10_000.0),
    },
};

const QWEN2: Family = Family {
    name: "qwen2",
    model_types: &["qwen2"],
    biases: true,
    gguf: GgufRules {
        pairs: RopePairs::Halves,
        ..LLAMA.gguf
    },
    hugging_face: HuggingFaceRules {
        layer_types: true,
        use_sliding_window: true,
        rope_theta: None,
        ..LLAMA.hugging_face
    },
    ..LLAMA
};

const GEMMA2: Family = Family {
    name: "gemma2",
    model_types: &["gemma2"],
    activation: Activation::GeluTanh,
    post_norms: true,
    scaled_embeddings: true,
    softcaps: Softcaps::Required,
    windows: Windows::AllButEach { period: 2 },
    gguf: GgufRules {
        pairs: RopePairs::Halves,
        has_window: true,
        // Gemma 2 27B.
        scores_by_width_at_layers: Some(46),
    },
    hugging_face: HuggingFaceRules {
        norms_less_one: true,
        attention_bias: false,
        head_dim: true,
        hidden_activation: true,
        query_pre_attn_scalar: true,
        sliding_window_pattern: false,
        without_window: &[],
        layer_types: true,
        use_sliding_window: false,
        rope_theta: None,
    },
    ..LLAMA
};

/// Every supported family.
pub(crate) static FAMILIES: [Family; 6] = [
    LLAMA,
    QWEN2,
    Family {
        name: "qwen3",
        model_types: &["qwen3"],
        biases: false,
        head_norms: true,
        hugging_face: HuggingFaceRules {
            head_dim: true,
            ..QWEN2.hugging_face
        },
        ..QWEN2
    },
    GEMMA2,
    Family {
        name: "gemma3",
        model_types: &["gemma3_text"],
        head_norms: true,
        softcaps: Softcaps::Optional,
        windows: Windows::AllButEach { period: 6 },
        windowed_rope_base: Some(10_000.0),
        gguf: GgufRules {
            // Rnj-1 has no window, and so no layer with the other rotation.
            has_window: false,
            // Gemma 3 27B.
            scores_by_width_at_layers: Some(62),
            ..GEMMA2.gguf
        },
        hugging_face: HuggingFaceRules {
            sliding_window_pattern: true,
            ..GEMMA2.hugging_face
        },
        ..GEMMA2
    },
    Family {
        name: "phi3",
        model_types: &["phi3"],
        fused: true,
        gguf: QWEN2.gguf,
        hugging_face: HuggingFaceRules {
            attention_bias: false,
            rope_theta: None,
            ..LLAMA.hugging_face
        },
        ..LLAMA
    },
];

/// The names of the families whose models may have caps, for messages.
pub(crate) fn capped_families() -> String {
    let capped = FAMILIES.iter().filter(|f| f.softcaps != Softcaps::Never);
    capped.map(|f| f.name).collect::<Vec<_>>().join(" and ")
}
