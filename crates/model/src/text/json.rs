use std::fmt;

use tokenizers::{AddedVocabulary, Model, OffsetType, PreTokenizer};

use crate::error::ModelError;

use super::limits::SPACES_MAX;
use super::special::SpecialTokens;

/// The tokenizer of a `tokenizer.json`, run by the `tokenizers` crate, since such a file is a
/// program of that crate's parts.
pub(super) struct JsonEncoder {
    tokenizer: tokenizers::Tokenizer,
    /// Its added tokens without those that are special.
    as_text: AddedVocabulary,
}

impl fmt::Debug for JsonEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonEncoder").finish_non_exhaustive()
    }
}

impl JsonEncoder {
    pub(super) fn new(tokenizer: tokenizers::Tokenizer) -> Self {
        let mut as_text = tokenizer.get_added_vocabulary().clone();
        as_text.set_encode_special_tokens(true);
        Self { tokenizer, as_text }
    }

    pub(super) fn encode(
        &self,
        text: &str,
        special: SpecialTokens,
    ) -> Result<Vec<u32>, ModelError> {
        // The crate's regular expressions give up on longer runs and leave the rest uncut, without
        // a word.
        if longest_space(text) > SPACES_MAX {
            let what =
                format!("the text has more than {SPACES_MAX} white-space characters in a row");
            return Err(ModelError::Request { what });
        }
        self.run(text, special)
            .map_err(|error| ModelError::Tokenizer {
                what: error.to_string(),
            })
    }

    fn run(&self, text: &str, special: SpecialTokens) -> tokenizers::Result<Vec<u32>> {
        let added = match special {
            SpecialTokens::Parse => self.tokenizer.get_added_vocabulary(),
            SpecialTokens::AsText => &self.as_text,
        };
        let mut cut = added.extract_and_normalize(self.tokenizer.get_normalizer(), text);
        if let Some(words) = self.tokenizer.get_pre_tokenizer() {
            words.pre_tokenize(&mut cut)?;
        }
        cut.tokenize(|word| self.tokenizer.get_model().tokenize(word.get()))?;
        let encoding = cut.into_encoding(None, 0, OffsetType::None)?;
        Ok(encoding.get_ids().to_vec())
    }
}

fn longest_space(text: &str) -> usize {
    let words = text.split(|char: char| !char.is_whitespace());
    words.map(str::len).max().unwrap_or(0)
}
