//! What an open model is: [`HeterogeneousPipeline::model`](crate::HeterogeneousPipeline::model) gives it. Its
//! tokenizer and its chat template, and its decoder as data.

pub use gogrid_model::{
    Activation, Attention, ChatTemplate, ChatText, CivilTime, Decoder, Embedding, EncodeLimit,
    FeedForward, Head, KvGroup, Layer, Linear, LongFrequencies, Model, ModelId, OpenOptions, Rope,
    RopePairs, SpecialTokens, TextDecoder, Tokenizer, Vector, Weight,
};
