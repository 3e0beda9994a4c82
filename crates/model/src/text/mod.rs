//! Text and tokens: the tokenizer, its reverse, and the chat template.

mod alphabet;
mod bpe;
mod budget;
mod bytes;
mod conversation;
mod decode;
mod dialect;
mod directory;
mod encoder;
mod ending;
mod gguf;
mod index;
mod json;
mod limits;
mod marks;
mod merge;
mod normalise;
mod parts;
mod pattern;
mod pieces;
mod pre;
mod special;
mod split;
mod spm;
mod template;
mod tokenizer;
mod variables;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use budget::EncodeLimit;
pub use conversation::{Content, Conversation, Ending, Message, Part, ToolCall};
pub use decode::TextDecoder;
pub use special::SpecialTokens;
pub use template::{ChatTemplate, ChatText, CivilTime};
pub use tokenizer::Tokenizer;

pub(crate) use bytes::BYTE_TOKENS;
pub(crate) use directory::{read_directory, read_generation_config};
pub(crate) use vocabulary::GgufVocabulary;
