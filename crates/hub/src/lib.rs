//! The model catalogue: models that can be fetched by name, their sources, and the proof that a file
//! arrived whole.
//!
//! A model is looked for in the cache first, which never touches the network. A fetch tries the
//! entry's sources in order, checks size and SHA-256 while it writes, and puts the file in its
//! place only when both are right.
//!
//! ```
//! let entry = gogrid_hub::find("smollm2-135m").expect("the default model is in the catalogue");
//! assert_eq!(entry.file, "SmolLM2-135M-Instruct.Q4_1.gguf");
//! assert_eq!(gogrid_hub::find("no-such-model").err().map(|e| e.name), Some("no-such-model".into()));
//! ```

#![forbid(unsafe_code)]

mod cache;
mod catalogue;
mod error;
mod fetch;
mod limits;
mod progress;
mod proxy;
mod sink;
mod verified;
mod web;
mod wheel;

pub use cache::Cache;
pub use catalogue::{Entry, Source, Wheel, catalogue, find};
pub use error::{Attempt, HubError, SourceError, UnknownModel};
pub use progress::{Progress, Silent};
