//! Families that have what no supported one has: told by name, so that a refusal says why.

/// Layers of experts, of which a few work on a token. Names are those of `general.architecture` in GGUF
/// files and of `model_type` in config.json; models with experts and recurrent layers are here.
const MIXTURES: &[&str] = &[
    "afmoe",
    "arctic",
    "bailing_moe",
    "bailingmoe",
    "bailingmoe2",
    "bailingmoe3",
    "cohere2moe",
    "dbrx",
    "deepseek",
    "deepseek2",
    "deepseek2-ocr",
    "deepseek32",
    "deepseek4",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "dots1",
    "ernie4_5-moe",
    "ernie4_5_moe",
    "exaone-moe",
    "glm-dsa",
    "glm4_moe",
    "glm4moe",
    "gpt-oss",
    "gpt_oss",
    "granitemoe",
    "granitemoehybrid",
    "granitemoeshared",
    "grok",
    "grovemoe",
    "hunyuan-moe",
    "hunyuan_v1_moe",
    "jamba",
    "jetmoe",
    "kimi-linear",
    "kimi_linear",
    "laguna",
    "lfm2_moe",
    "lfm2moe",
    "llada-moe",
    "llama4",
    "llama4_text",
    "mimo2",
    "minimax",
    "minimax-01",
    "minimax-m2",
    "minimax_m2",
    "mistral4",
    "mixtral",
    "nemotron_h_moe",
    "nomic-bert-moe",
    "olmoe",
    "phimoe",
    "qwen2_moe",
    "qwen2moe",
    "qwen35moe",
    "qwen3_5_moe",
    "qwen3_moe",
    "qwen3_next",
    "qwen3moe",
    "qwen3next",
    "qwen3vlmoe",
    "rnd1",
    "smallthinker",
    "step35",
];

/// Layers that carry a state from token to token instead of keys and values.
const RECURRENT: &[&str] = &[
    "arwkv7",
    "bamba",
    "falcon-h1",
    "falcon_h1",
    "falcon_mamba",
    "granitehybrid",
    "lfm2",
    "mamba",
    "mamba2",
    "nemotron_h",
    "plamo2",
    "qwen35",
    "qwen3_5",
    "qwen3_5_text",
    "recurrent_gemma",
    "rwkv",
    "rwkv5",
    "rwkv6",
    "rwkv6qwen2",
    "rwkv7",
    "xlstm",
    "zamba",
    "zamba2",
];

/// An architecture as a message names it: with what it has that is not built, where that is known.
pub(crate) fn described(kind: &str, name: &str) -> String {
    let what = match name {
        _ if MIXTURES.contains(&name) => ", a mixture of experts,",
        _ if RECURRENT.contains(&name) => ", a model with recurrent layers,",
        _ => "",
    };
    format!("{kind} {:?}{what}", crate::error::shown(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::FAMILIES;

    #[test]
    fn nothing_is_both_built_and_not() {
        for family in &FAMILIES {
            let names = family.model_types.iter().chain([&family.name]);
            for name in names {
                assert!(!MIXTURES.contains(name) && !RECURRENT.contains(name));
            }
        }
        assert!(!MIXTURES.iter().any(|name| RECURRENT.contains(name)));
    }

    #[test]
    fn a_refusal_says_why() {
        let moe = described("architecture", "qwen3moe");
        assert_eq!(moe, "architecture \"qwen3moe\", a mixture of experts,");
        assert_eq!(described("model type", "x"), "model type \"x\"");
    }
}
