use std::fmt;
use std::ops::Range;

/// What is wrong with settings: where, which key, and what it may be. Nothing of them was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    place: Option<(usize, usize)>,
    key: Option<String>,
    message: String,
}

impl SettingsError {
    /// Line and column, both from 1, where the settings came from a text.
    pub fn place(&self) -> Option<(usize, usize)> {
        self.place
    }

    /// The key it is about, such as `limits.max_batch_size`.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A value that is wrong. The message names the key.
    pub(super) fn at_key(key: String, message: String) -> Self {
        Self {
            place: None,
            key: Some(key),
            message,
        }
    }

    /// A key whose value is not what it must be.
    pub(super) fn value(key: String, value: &str, must_be: &str) -> Self {
        let message = format!("{key} is {value}, must be {must_be}");
        Self::at_key(key, message)
    }

    /// A text that is too long to be looked at.
    pub(super) fn too_long(bytes: usize, bytes_max: usize) -> Self {
        Self {
            place: None,
            key: None,
            message: format!("{bytes} bytes of settings, {bytes_max} are the most that is taken"),
        }
    }

    /// A text that is not TOML.
    pub(super) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        // Some messages have several lines; they are one list of what was expected.
        let message: Vec<_> = error.message().split_whitespace().collect();
        Self {
            place: error.span().map(|Range { start, .. }| place(text, start)),
            key: None,
            message: format!("not TOML: {}", message.join(" ")),
        }
    }

    /// Settings that TOML has no words for.
    pub(super) fn unwritable(error: &toml::ser::Error) -> Self {
        Self {
            place: None,
            key: None,
            message: format!("TOML cannot hold these settings: {error}"),
        }
    }

    pub(super) fn with_place(self, place: Option<(usize, usize)>) -> Self {
        Self { place, ..self }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for SettingsError {}

/// Line and column, in characters, of the byte at `offset`.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |line| line.chars().count());
    (line, column + 1)
}
