//! What GoGrid's tests share: tiny random models and what they mean, real models' golden figures,
//! the suite that every stage must pass, and stand-ins for clocks, paces and devices.
//!
//! ```
//! use gogrid_testkit::{Family, RandomModel, Spec};
//! use gogrid_units::WeightType;
//!
//! let spec = Spec { family: Family::Gemma3, weights: WeightType::Q4_0, seed: 1 };
//! let file = RandomModel::new(spec).gguf().bytes();
//! assert!(file.starts_with(b"GGUF"));
//! ```

#![forbid(unsafe_code)]

mod campaign;
mod gguf_writer;
mod golden;
mod random;
mod reference;
mod rng;

pub mod conformance;
pub mod fakes;

pub use campaign::{cases, in_time};
pub use gguf_writer::{GgufWriter, Meta, Tensor, part_ending};
pub use golden::{Golden, GoldenDistance, GoldenText, GoldenTokens};
pub use random::{
    FOREIGN_CHARS, Family, RandomModel, Spec, TokenizerCase, chat_template, control_message,
    foreign_text, limits_file, prompt_text,
};
pub use reference::{Reference, dequantise, log_softmax};
pub use rng::Rng;
