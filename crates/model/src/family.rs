//! The supported families, as data.

use crate::decoder::{Activation, RopePairs};

/// What sets a family apart from the others, whichever kind of file it is in.
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
    /// Embeddings are multiplied by the root of the width, and safetensors files hold norms less 1.
    pub(crate) gemma: bool,
    /// How GGUF files order the pairs that turn together; Hugging Face has halves everywhere.
    pub(crate) gguf_pairs: RopePairs,
}

const PLAIN: Family = Family {
    name: "llama",
    model_types: &["llama", "mistral"],
    activation: Activation::Silu,
    biases: false,
    head_norms: false,
    post_norms: false,
    fused: false,
    gemma: false,
    gguf_pairs: RopePairs::Adjacent,
};

const GEMMA2: Family = Family {
    name: "gemma2",
    model_types: &["gemma2"],
    activation: Activation::GeluTanh,
    post_norms: true,
    gemma: true,
    gguf_pairs: RopePairs::Halves,
    ..PLAIN
};

/// Every supported family.
pub(crate) static FAMILIES: [Family; 6] = [
    PLAIN,
    Family {
        name: "qwen2",
        model_types: &["qwen2"],
        biases: true,
        gguf_pairs: RopePairs::Halves,
        ..PLAIN
    },
    Family {
        name: "qwen3",
        model_types: &["qwen3"],
        head_norms: true,
        gguf_pairs: RopePairs::Halves,
        ..PLAIN
    },
    GEMMA2,
    Family {
        name: "gemma3",
        model_types: &["gemma3_text"],
        head_norms: true,
        ..GEMMA2
    },
    Family {
        name: "phi3",
        model_types: &["phi3"],
        fused: true,
        gguf_pairs: RopePairs::Halves,
        ..PLAIN
    },
];
