use super::pieces::{Kind, Pieces};

/// A tokenizer but for its encoder, whatever file it came from.
pub(super) struct Parts {
    pub(super) pieces: Pieces,
    pub(super) bos: Option<u32>,
    pub(super) ends: Vec<u32>,
    pub(super) space_prefix: bool,
    /// What a caller should be told.
    pub(super) notices: Vec<String>,
}

impl Parts {
    /// Has the tokens with these ids end a text.
    pub(super) fn with_ends(mut self, ids: Vec<u32>) -> Self {
        ids.into_iter().for_each(|id| self.add_end(id.into()));
        self
    }

    /// Has the token with this id end a text; one that the vocabulary does not have is left out.
    pub(super) fn add_end(&mut self, id: i64) {
        let known = u32::try_from(id)
            .ok()
            .filter(|id| self.pieces.kind(*id).is_some());
        if known.is_none() && id >= 0 {
            let len = self.pieces.len();
            let what =
                format!("token {id}, which should end a text, is not one of the {len} tokens");
            self.notices.push(what);
        }
        self.ends.extend(known);
    }
}

/// Whether a token that a file names as an end is a control token, though it does not say so of
/// itself: one that is found before anything else, or that looks like one.
pub(super) fn is_named_control(kind: Kind, text: &[u8]) -> bool {
    let known = || std::str::from_utf8(text).is_ok_and(is_end);
    match kind {
        Kind::Added | Kind::Structure => true,
        Kind::Plain | Kind::Spaced => known(),
        Kind::Byte | Kind::Control | Kind::Unused => false,
    }
}

/// Whether a control token with this text ends a text.
pub(super) fn is_end(text: &str) -> bool {
    END_TEXTS.contains(&text)
}

/// Texts of control tokens that end a turn or a text. Files often name only one of those they use.
/// A token that is no control token is text, whatever it looks like: `</s>` is HTML in the
/// vocabularies of Gemma and Qwen.
const END_TEXTS: [&str; 26] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    // Fill in the middle: the end of a file.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];
