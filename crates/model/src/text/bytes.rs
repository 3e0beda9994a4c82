//! The tokenizer of a model that comes without one.

use super::encoder::{Encoder, Merging};
use super::normalise::Normaliser;
use super::parts::Parts;
use super::pieces::{Kind, Pieces};
use super::special::Specials;
use super::split::Splitter;
use super::spm::{Spm, SpmParts};
use super::tokenizer::Tokenizer;

/// Tokens that every vocabulary of [`Tokenizer::of_bytes`] has: the bytes, and the end of a text.
pub(crate) const BYTE_TOKENS: usize = 257;

impl Tokenizer {
    /// A token for each byte, the last of `vocab` for the end of a text, and unused ones between them.
    ///
    /// # Panics
    /// When `vocab` is below [`BYTE_TOKENS`].
    pub(crate) fn of_bytes(vocab: usize) -> Self {
        assert!(vocab >= BYTE_TOKENS, "{vocab} tokens");
        let mut pieces = Pieces::default();
        (0..=255).for_each(|byte| pieces.push(&[byte], Kind::Byte));
        for id in BYTE_TOKENS - 1..vocab - 1 {
            pieces.push(format!("<unused{id}>").as_bytes(), Kind::Unused);
        }
        pieces.push(b"</s>", Kind::Control);
        let parts = SpmParts {
            scores: vec![0.0; vocab],
            unknown: None,
            space_prefix: false,
        };
        let spm = Spm::new(&pieces, parts).expect("each text is there once");
        let encoder = Encoder {
            specials: Specials::none(),
            normaliser: Normaliser::default(),
            normalised: Specials::none(),
            prefix: None,
            splitter: Splitter::default(),
            merging: Merging::Spm(spm),
        };
        let parts = Parts {
            pieces,
            bos: None,
            // Tokens fit 32 bits.
            ends: vec![vocab as u32 - 1],
            space_prefix: false,
            notices: Vec::new(),
        };
        Self::new(encoder, parts)
    }
}
