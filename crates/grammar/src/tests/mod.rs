//! Texts that are chosen at random among what a grammar allows, and grammars that are made to do harm.

mod calls;
mod figures;
mod hostile;
mod schema;
mod vocabulary;
mod walks;
