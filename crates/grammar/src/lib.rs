//! Output held to a JSON schema, a regular expression or a Lark grammar.

#![forbid(unsafe_code)]

mod error;
mod grammars;
mod limits;
mod spec;
#[cfg(test)]
mod tests;

pub use error::GrammarError;
pub use grammars::Grammars;
pub use spec::Spec;
