//! Real models' figures from another implementation, kept in `golden/`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// One real model's figures.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The model, by file name without its extension.
    pub model: String,
    /// Where the figures come from, in words.
    pub reference: String,
    /// Texts by name.
    pub texts: BTreeMap<String, GoldenText>,
    /// Texts and their tokens.
    pub tokenize: Vec<GoldenTokens>,
}

/// Figures of one text. `ids` has one more entry than the log-probabilities: entry `i` of those is
/// that of `ids[i + 1]` after `ids[..= i]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenText {
    /// The text.
    pub text: String,
    /// Its tokens, special tokens parsed, begun as the model says.
    pub ids: Vec<u32>,
    /// By llama.cpp with the weights widened to f32.
    pub next_logprob_f32: Vec<f64>,
    /// By llama.cpp with the weights as they are.
    pub next_logprob_llama_cpp: Vec<f64>,
    /// Of the f32 figures.
    pub perplexity_f32: f64,
    /// How far llama.cpp's own quantised run is from the f32 one.
    pub llama_cpp_quant: GoldenDistance,
    /// The five likeliest tokens and their log-probabilities after each token, by the f32 figures.
    pub top5_f32: Vec<Vec<(u32, f64)>>,
}

/// How far a run is from the f32 one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenDistance {
    /// Its perplexity.
    pub perplexity: f64,
    /// Mean Kullback-Leibler divergence from the f32 figures.
    pub mean_kl_to_f32: f64,
    /// The greatest of them.
    pub max_kl: f64,
    /// The share of tokens after which both think the same token likeliest.
    pub top1_agreement: f64,
}

/// A text and its tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenTokens {
    /// The text.
    pub text: String,
    /// Whether special tokens in it are parsed.
    pub special: bool,
    /// Its tokens, without one that begins a text.
    pub ids: Vec<u32>,
}

impl Golden {
    /// Names that [`load`](Self::load) knows.
    pub const NAMES: [&str; 2] = ["gemma-3-270m-q4_k_m", "smollm2-135m-instruct-q4_1"];

    /// The figures of the model `name`.
    ///
    /// # Panics
    /// When there is no such file or it does not parse: it is part of this crate.
    pub fn load(name: &str) -> Self {
        let file = format!("golden/gold-{name}-open.json");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_golden_file_loads_and_its_lengths_agree() {
        for name in Golden::NAMES {
            let golden = Golden::load(name);
            assert_eq!(golden.model, name);
            assert!(!golden.tokenize.is_empty());
            for (name, text) in &golden.texts {
                assert_eq!(text.next_logprob_f32.len() + 1, text.ids.len(), "{name}");
                assert_eq!(
                    text.next_logprob_llama_cpp.len() + 1,
                    text.ids.len(),
                    "{name}"
                );
                assert_eq!(text.top5_f32.len(), text.ids.len(), "{name}");
            }
        }
    }
}
