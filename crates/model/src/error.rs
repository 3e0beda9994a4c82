use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a model could not be opened, read or used. Every message names the file and the field, the
/// byte offset where there is one, and what was found there.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The operating system refused to open or read a file.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What was tried: `open`, `read 64 bytes at byte 4096`.
        action: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The file contradicts itself or its own length: truncated, damaged or hostile.
    #[error("{}: {field}{}: {what}", file.display(), At(*offset))]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The key, tensor or part of the file.
        field: String,
        /// Where in the file, when it is at one place.
        offset: Option<u64>,
        /// What was found and what would have been right.
        what: String,
    },
    /// Nothing is wrong with the file, but it asks for something that is not built.
    #[error("{}: {field}{}: {found} is not supported; supported: {supported}", file.display(), At(*offset))]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The key, tensor or part of the file.
        field: String,
        /// Where in the file, when it is at one place.
        offset: Option<u64>,
        /// What the file asks for, by name.
        found: String,
        /// What there is instead.
        supported: String,
    },
    /// A key, tensor or file that must be there is not.
    #[error("{}: {field} is missing; {remedy}", file.display())]
    Missing {
        /// The file or folder it should be in.
        file: PathBuf,
        /// The key, tensor or file name.
        field: String,
        /// What to do about it.
        remedy: String,
    },
    /// A file was written or cut while it was read.
    #[error("{}: the file changed while it was read: {what}; open it again when it is whole", file.display())]
    Changed {
        /// The file.
        file: PathBuf,
        /// Whether its length changed, from what to what, or only the time of its last writing.
        what: String,
    },
    /// The caller asked for what this model cannot give.
    #[error("{what}")]
    Request {
        /// What was asked and what would be possible.
        what: String,
    },
    /// The chat template failed on these messages.
    #[error("chat template: {what}")]
    Template {
        /// What the template engine said.
        what: String,
    },
    /// The text has more tokens than the caller allowed.
    #[error("the text has more than {tokens_max} tokens")]
    TooManyTokens {
        /// What was allowed.
        tokens_max: usize,
    },
    /// The caller said that writing down or encoding a text should not go on.
    #[error("the work on the text was stopped")]
    Stopped,
    /// The tokenizer failed on this text.
    #[error("tokenizer: {what}")]
    Tokenizer {
        /// What the tokenizer said.
        what: String,
    },
}

/// ` at byte 24`, or nothing.
struct At(Option<u64>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(offset) => write!(f, " at byte {offset}"),
            None => Ok(()),
        }
    }
}

/// A name from a file as a message shows it: control characters escaped, cut when it is long.
pub(crate) fn shown(name: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let mut chars = name.chars();
    let mut text: String = chars
        .by_ref()
        .take(SHOWN_MAX)
        .flat_map(char::escape_debug)
        .collect();
    if chars.next().is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_file_field_and_offset() {
        let error = ModelError::Malformed {
            file: "a.gguf".into(),
            field: "general.alignment".into(),
            offset: Some(24),
            what: "0 is not a power of two".into(),
        };
        assert_eq!(
            error.to_string(),
            "a.gguf: general.alignment at byte 24: 0 is not a power of two"
        );
    }
}
