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
    pub(crate) query_key_norms: QueryKeyNorms,
    pub(crate) norms: Norms,
    /// Queries, keys and values are one tensor, gate and up another.
    pub(crate) fused: bool,
    pub(crate) scales: Scales,
    pub(crate) softcaps: Softcaps,
    pub(crate) windows: Windows,
    pub(crate) windowed_rope: WindowedRope,
    /// Each such layer turns nothing (NoPE), where a file does not list them.
    pub(crate) unturned_period: Option<usize>,
    pub(crate) gguf: GgufRules,
    pub(crate) hugging_face: HuggingFaceRules,
}

/// How queries and keys are normed before they turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryKeyNorms {
    None,
    /// Head by head.
    Heads,
    /// All heads of a row together.
    Whole,
}

/// Where both halves of a layer are normed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norms {
    /// What they read.
    Before,
    /// What they add to the residual stream.
    After,
    Both,
}

/// What is multiplied by a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    None,
    /// Embeddings, by the root of the width.
    EmbeddingsByWidth,
    /// Embeddings, scores, what is added to the residual stream, and logits, by what the file says.
    Multipliers,
}

/// The rotation of layers that have a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WindowedRope {
    /// The same as of all others.
    Same,
    /// The same without its scaling.
    Unscaled,
    /// One of its own, with this base in GGUF files that do not name it. There was no key until late
    /// 2025; llama.cpp's loader has 10000 in its code, and so do all of the models' configs
    /// (`rope_local_base_freq`).
    OfBase(f64),
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
    /// A file that names a window is refused: no reference has one there.
    pub(crate) never_window: bool,
    /// The layers of the one model whose scores are divided by the root of width / heads. All others
    /// are divided by the root of a head's width. Gemma's configs give the divisor, no GGUF key
    /// does; llama.cpp too tells these models by their layers.
    pub(crate) scores_by_width_at_layers: Option<usize>,
    /// `rope.scaling.finetuned` says whether anything turns at all.
    pub(crate) finetuned_means_rope: bool,
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
    /// `no_rope_layers` lists the layers that turn, `no_rope_layer_interval` says that each such layer
    /// does not, where there is no list.
    pub(crate) no_rope_layers: bool,
}

const LLAMA: Family = Family {
    name: "llama",
    model_types: &["llama", "mistral"],
    activation: Activation::Silu,
    biases: false,
    query_key_norms: QueryKeyNorms::None,
    norms: Norms::Before,
    fused: false,
    scales: Scales::None,
    softcaps: Softcaps::Never,
    windows: Windows::All,
    windowed_rope: WindowedRope::Same,
    unturned_period: None,
    gguf: GgufRules {
        pairs: RopePairs::Adjacent,
        has_window: false,
        never_window: false,
        scores_by_width_at_layers: None,
        finetuned_means_rope: false,
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
        no_rope_layers: false,
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
    norms: Norms::Both,
    scales: Scales::EmbeddingsByWidth,
    softcaps: Softcaps::Required,
    windows: Windows::AllButEach { period: 2 },
    gguf: GgufRules {
        pairs: RopePairs::Halves,
        has_window: true,
        // Gemma 2 27B.
        scores_by_width_at_layers: Some(46),
        ..LLAMA.gguf
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
        no_rope_layers: false,
    },
    ..LLAMA
};

/// Every supported family.
pub(crate) static FAMILIES: [Family; 9] = [
    LLAMA,
    QWEN2,
    Family {
        name: "qwen3",
        model_types: &["qwen3"],
        biases: false,
        query_key_norms: QueryKeyNorms::Heads,
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
        query_key_norms: QueryKeyNorms::Heads,
        softcaps: Softcaps::Optional,
        windows: Windows::AllButEach { period: 6 },
        windowed_rope: WindowedRope::OfBase(10_000.0),
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
    // OLMo 3 is the same with windows.
    Family {
        name: "olmo2",
        model_types: &["olmo2", "olmo3"],
        query_key_norms: QueryKeyNorms::Whole,
        norms: Norms::After,
        windows: Windows::AllButEach { period: 4 },
        windowed_rope: WindowedRope::Unscaled,
        gguf: QWEN2.gguf,
        hugging_face: HuggingFaceRules {
            without_window: &["olmo2"],
            layer_types: true,
            rope_theta: None,
            ..LLAMA.hugging_face
        },
        ..LLAMA
    },
    Family {
        name: "granite",
        model_types: &["granite"],
        scales: Scales::Multipliers,
        gguf: GgufRules {
            finetuned_means_rope: true,
            never_window: true,
            ..LLAMA.gguf
        },
        hugging_face: HuggingFaceRules {
            without_window: &["granite"],
            rope_theta: None,
            ..LLAMA.hugging_face
        },
        ..LLAMA
    },
    Family {
        name: "smollm3",
        model_types: &["smollm3"],
        unturned_period: Some(4),
        gguf: GgufRules {
            never_window: true,
            ..LLAMA.gguf
        },
        hugging_face: HuggingFaceRules {
            no_rope_layers: true,
            ..QWEN2.hugging_face
        },
        ..LLAMA
    },
];

/// The names of the families whose models may have caps, for messages.
pub(crate) fn capped_families() -> String {
    let capped = FAMILIES.iter().filter(|f| f.softcaps != Softcaps::Never);
    capped.map(|f| f.name).collect::<Vec<_>>().join(" and ")
}
