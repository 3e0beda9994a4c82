use crate::limits::MESSAGE_BYTES_MAX;

/// Why output cannot be held to a grammar. It is never generated without.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// It is no schema, expression or grammar, or one that cannot be held.
    #[error("the {kind} cannot be held to: {what}")]
    Refused {
        /// `schema`, `regular expression` or `grammar`.
        kind: &'static str,
        /// Why, with the keyword or the place.
        what: String,
    },
    /// It is larger than any may be.
    #[error("the {kind} has {found} {of}; at most {max} can be held to")]
    TooLarge {
        /// `schema`, `regular expression` or `grammar`.
        kind: &'static str,
        /// What there is too much of.
        of: &'static str,
        /// How much there is.
        found: usize,
        /// How much may be.
        max: usize,
    },
    /// The model's vocabulary is too large, or damaged.
    #[error("the model's vocabulary cannot be held to grammars: {what}")]
    Vocabulary {
        /// Why.
        what: String,
    },
}

/// What a message says where the library panicked: where in its source is no help to anybody else.
pub(crate) const PANICKED: &str = "the library that reads it failed over it";

/// A message of the library's without what it says about its own state.
pub(crate) fn shortened(message: &str) -> String {
    if message.starts_with("panic: ") {
        return PANICKED.to_owned();
    }
    let end = message.find("\n<").unwrap_or(message.len());
    let message = message[..end].trim();
    let mut chars = message.char_indices();
    match chars.find(|(at, _)| *at >= MESSAGE_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_the_librarys_state_begins() {
        assert_eq!(shortened("no\n<non-verbose/>"), "no");
        assert_eq!(shortened("panic: x\n<backtrace>\n…"), PANICKED);
        let long = shortened(&"é".repeat(1000));
        assert_eq!(long, "é".repeat(150) + "…");
    }
}
