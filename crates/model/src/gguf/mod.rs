//! The checked reader of GGUF headers, versions 2 and 3, little-endian.
//!
//! A header is walked twice. The first walk goes over the file and keeps nothing: it holds every
//! count and length against the bytes that are left and so learns how long the header is. Then
//! exactly that many bytes are read, walked again (the file may have changed in between), and kept
//! as they are, with the offsets of pairs and tensors. Memory is thus the header itself and four
//! bytes for each pair and tensor, whatever the file claims.

mod keys;
mod metadata;
mod params;
mod parts;
mod tensors;
mod value;
mod walk;

pub(crate) use keys::tokens_out_of_range;
pub(crate) use metadata::Metadata;
pub(crate) use params::{params, pooling};
pub(crate) use parts::GgufFiles;
#[cfg(test)]
pub(crate) use tensors::Gguf;
