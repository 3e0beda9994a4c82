//! The model catalogue: models that can be fetched by name, their sources, and the proof that a file
//! arrived whole.
//!
//! A model is named by the catalogue, or by a repository of the Hugging Face hub, whose list says the lengths and
//! hashes of its files. It is looked for in the cache first, which never touches the network. A fetch tries the
//! sources in order, checks size and SHA-256 while it writes, and gives the file its name only when both are right.
//!
//! ```
//! let entry = gogrid_hub::find("smollm2-135m").expect("the default model is in the catalogue");
//! assert_eq!(entry.known_file().map(|known| known.file), Some("SmolLM2-135M-Instruct.Q4_1.gguf"));
//! let name = gogrid_hub::Name::parse("hf.co/someone/Model-GGUF:Q4_K_M").expect("the hub's");
//! assert_eq!(name.to_string(), "someone/Model-GGUF:Q4_K_M");
//! ```

#![forbid(unsafe_code)]

mod cache;
mod catalogue;
mod elsewhere;
mod error;
mod fetch;
mod folders;
mod item;
mod limits;
mod name;
mod progress;
mod proxy;
mod quant;
mod repository;
mod sink;
mod verified;
mod web;
mod wheel;

pub use cache::{Cache, Held, Pulled, PulledFile};
pub use catalogue::{Entry, KnownFile, Origin, Source, Wheel, catalogue, find};
pub use elsewhere::{Program, elsewhere, named};
pub use error::{Attempt, HubError, NoChoice, NotShown, SourceError, UnknownModel};
pub use name::{HubName, Name};
pub use progress::{Progress, Silent};
pub use quant::is_further_part;
