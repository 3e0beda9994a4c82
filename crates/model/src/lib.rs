//! What a model is: its files, its architecture as data, its tokenizer and its chat template. No
//! device and no arithmetic on weights.

#![forbid(unsafe_code)]
// Until `Model` below uses all of it.
#![allow(dead_code, unused_imports)]

mod decoder;
mod error;
mod gguf;
mod limits;
mod tensors;

pub use decoder::{
    Activation, Attention, Decoder, Embedding, FeedForward, Head, KvGroup, Layer, Linear, Rope,
    RopePairs, Vector, Weight,
};
pub use error::ModelError;
