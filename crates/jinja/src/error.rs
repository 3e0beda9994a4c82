use std::fmt;

use crate::limits::MESSAGE_CHARS_MAX;

/// Why a template cannot be read or rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    line: u32,
}

/// What sort of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The source is not a template.
    Syntax,
    /// The template uses something that this crate does not have.
    Unsupported,
    /// An operation failed, as it would in Python.
    Runtime,
    /// The template called `raise_exception`.
    Raised,
    /// A bound on size, depth or work was reached.
    Limit,
    /// The caller said that the rendering should not go on.
    Stopped,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl AsRef<str>) -> Self {
        Self {
            kind,
            message: printable(message.as_ref()),
            line: 0,
        }
    }

    pub(crate) fn syntax(line: u32, message: impl AsRef<str>) -> Self {
        Self::new(ErrorKind::Syntax, message).at(line)
    }

    pub(crate) fn unsupported(construct: impl AsRef<str>) -> Self {
        let construct = construct.as_ref();
        Self::new(
            ErrorKind::Unsupported,
            format!("{construct} is not supported"),
        )
    }

    pub(crate) fn runtime(message: impl AsRef<str>) -> Self {
        Self::new(ErrorKind::Runtime, message)
    }

    pub(crate) fn limit(message: impl AsRef<str>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    /// Says where it happened, unless that is known already.
    pub(crate) fn at(mut self, line: u32) -> Self {
        if self.line == 0 {
            self.line = line;
        }
        self
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The line of the template's source, from 1; 0 where no line is to blame.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// What failed. It has no control characters, whatever the template or a message holds.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => out.write_str(&self.message),
            line => write!(out, "line {line}: {}", self.message),
        }
    }
}

impl std::error::Error for Error {}

/// The text with everything escaped that steers a terminal or turns the direction of writing,
/// cut where it is too long.
fn printable(text: &str) -> String {
    let mut out = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == MESSAGE_CHARS_MAX {
            out.push('…');
            break;
        }
        match char {
            '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                out.extend(char.escape_unicode());
            }
            char if char.is_control() => out.extend(char.escape_default()),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_no_control_characters_and_an_end() {
        let error = Error::runtime("a\x1b[31m\u{9b}\u{202e}\né").at(3);
        let expected = r"line 3: a\u{1b}[31m\u{9b}\u{202e}\né";
        assert_eq!(error.to_string(), expected);
        let long = Error::runtime("x".repeat(10 * MESSAGE_CHARS_MAX));
        assert_eq!(long.message().chars().count(), MESSAGE_CHARS_MAX + 1);
    }
}
