//! HTTP for the clients people have: the protocols of OpenAI, Anthropic and Ollama over one machine
//! and the models that are open on it.
//!
//! A request of any protocol becomes an `ask::Ask`, which is answered by a stream of
//! `answer::Piece`s; each protocol writes these in its own shape.

#![forbid(unsafe_code)]

mod answer;
mod anthropic;
mod ask;
mod board;
mod body;
mod by_name;
mod caller;
mod content;
mod embedding;
mod error;
mod guard;
mod keys;
mod limits;
mod listen;
mod models;
mod ollama;
mod openai;
mod openapi;
mod options;
mod page;
mod probes;
mod reading;
mod responses;
mod routes;
mod shared;
mod sse;
mod texts;
mod work;

#[cfg(test)]
mod tests;

pub use error::ServeError;
pub use keys::{Keys, KeysError};
pub use listen::{Serving, check_address, serve};
pub use models::{ModelCard, NotOpened, Shelf};
pub use options::ServeOptions;
