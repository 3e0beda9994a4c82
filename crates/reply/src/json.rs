/// Follows a JSON value to its end, character by character, without holding it. It knows strings and
/// nesting; what is between is the model's own.
#[derive(Debug)]
pub(crate) struct Value {
    kind: Kind,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An object or an array.
    Nested,
    String,
    /// A number, `true`, `false` or `null`.
    Bare,
}

/// Where a value stands after a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    /// The value goes on.
    Within,
    /// The character was its last.
    Complete,
    /// The value ended before the character.
    Past,
}

impl Value {
    /// The value that begins with `first`, where one does.
    pub(crate) fn begin(first: char) -> Option<Self> {
        let kind = match first {
            '{' | '[' => Kind::Nested,
            '"' => Kind::String,
            '-' | '0'..='9' | 't' | 'f' | 'n' => Kind::Bare,
            _ => return None,
        };
        Some(Self {
            kind,
            depth: usize::from(kind == Kind::Nested),
            in_string: kind == Kind::String,
            escaped: false,
        })
    }

    /// Takes in the character after the first.
    pub(crate) fn push(&mut self, char: char) -> Stands {
        if self.in_string {
            return self.push_in_string(char);
        }
        match (self.kind, char) {
            (Kind::Bare, 'a'..='z' | 'A'..='Z' | '0'..='9' | '+' | '-' | '.') => Stands::Within,
            (Kind::Bare, _) => Stands::Past,
            (_, '"') => {
                self.in_string = true;
                Stands::Within
            }
            (_, '{' | '[') => {
                self.depth += 1;
                Stands::Within
            }
            (_, '}' | ']') => {
                self.depth -= 1;
                match self.depth {
                    0 => Stands::Complete,
                    _ => Stands::Within,
                }
            }
            _ => Stands::Within,
        }
    }

    fn push_in_string(&mut self, char: char) -> Stands {
        match char {
            _ if self.escaped => self.escaped = false,
            '\\' => self.escaped = true,
            '"' => {
                self.in_string = false;
                if self.kind == Kind::String {
                    return Stands::Complete;
                }
            }
            _ => {}
        }
        Stands::Within
    }
}

/// A string that is held.
#[derive(Debug)]
pub(crate) struct Quoted {
    written: String,
    value: Value,
}

impl Quoted {
    /// After the first quotation mark.
    pub(crate) fn begin() -> Self {
        Self {
            written: "\"".to_owned(),
            value: Value {
                kind: Kind::String,
                depth: 0,
                in_string: true,
                escaped: false,
            },
        }
    }

    /// Takes in a character. The string when it is complete; an error when it is none.
    pub(crate) fn push(&mut self, char: char) -> Option<serde_json::Result<String>> {
        self.written.push(char);
        let complete = self.value.push(char) == Stands::Complete;
        complete.then(|| serde_json::from_str(&self.written))
    }
}

/// White space between the values of JSON.
pub(crate) fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r')
}
