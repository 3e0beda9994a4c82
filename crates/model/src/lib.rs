//! What a model is: its files, or a shape whose weights are made as they are read, its architecture as data, its tokenizer and its chat template. No
//! device and no arithmetic on weights.
//!
//! ```
//! use gogrid_model::{Model, OpenOptions};
//!
//! // A model opens whole or not at all, and a refusal says which file, which field, which byte.
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("a.gguf");
//! std::fs::write(&path, b"GGUF\x04\0\0\0")?;
//! let refusal = Model::open(&path, &OpenOptions::default()).unwrap_err().to_string();
//! assert!(refusal.ends_with(
//!     "version at byte 4: version 4 is not supported; \
//!      supported: versions 2 and 3, little-endian"
//! ));
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod assemble;
mod decoder;
mod error;
mod family;
mod files;
mod gguf;
mod hugging_face;
mod json_values;
mod limits;
mod model;
mod names;
mod not_built;
mod params;
mod rope;
mod sampling;
mod source;
mod synthetic;
mod tensors;
mod text;

pub use decoder::{
    Activation, Attention, Decoder, Embedding, FeedForward, Head, KvGroup, Layer, Linear,
    LongFrequencies, Residual, Rope, RopePairs, Vector, Weight,
};
pub use error::ModelError;
pub use model::{Model, ModelId, OpenOptions, Pooling};
pub use sampling::SamplingDefaults;
pub use source::ModelSource;
pub use synthetic::SyntheticShape;
pub use text::{
    ChatTemplate, ChatText, CivilTime, Content, Conversation, EncodeLimit, Ending, Message, Part,
    SpecialTokens, TextDecoder, Tokenizer, ToolCall,
};
