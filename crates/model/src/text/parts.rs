use super::pieces::Pieces;

/// A tokenizer but for its encoder, whatever file it came from.
pub(super) struct Parts {
    pub(super) pieces: Pieces,
    pub(super) bos: Option<u32>,
    pub(super) ends: Vec<u32>,
    pub(super) space_prefix: bool,
}

/// Whether a token with this text ends a text.
pub(super) fn is_end(text: &str) -> bool {
    END_TEXTS.contains(&text)
}

/// Texts of tokens that end a turn or a text. Files often name only one of those they use, so a
/// token with one of these texts ends a text whatever its type, as in llama.cpp.
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
