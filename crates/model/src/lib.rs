//! What a model is: its files, its architecture as data, its tokenizer and its chat template. No
//! device and no arithmetic on weights.

#![forbid(unsafe_code)]

mod assemble;
mod decoder;
mod error;
mod family;
mod files;
mod gguf;
mod hugging_face;
mod limits;
mod model;
mod names;
mod params;
mod rope;
mod tensors;
mod text;

pub use decoder::{
    Activation, Attention, Decoder, Embedding, FeedForward, Head, KvGroup, Layer, Linear, Rope,
    RopePairs, Vector, Weight,
};
pub use error::ModelError;
pub use model::{Model, ModelId, OpenOptions};
pub use text::{ChatTemplate, Message, SpecialTokens, TextDecoder, Tokenizer};
