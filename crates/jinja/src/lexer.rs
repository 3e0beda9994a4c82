use crate::error::Error;
use crate::limits::{SOURCE_BYTES_MAX, TOKENS_MAX};

mod literal;

use literal::{number, string};

/// A token and the line it begins on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Text outside tags.
    Data(String),
    PrintBegin,
    PrintEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Str(String),
    Int(i64),
    Float(f64),
    Op(&'static str),
    End,
}

/// Longer operators before their beginnings.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

/// What `str.isspace` finds in Python.
pub(crate) fn is_space(char: char) -> bool {
    char.is_whitespace() || ('\x1c'..='\x1f').contains(&char)
}

/// Reads a template's source with `trim_blocks` and `lstrip_blocks`, as Jinja does.
pub(crate) fn tokens(source: &str) -> Result<Vec<Token>, Error> {
    if source.len() > SOURCE_BYTES_MAX {
        let len = source.len();
        return Err(Error::limit(format!(
            "the template has {len} bytes; the limit is {SOURCE_BYTES_MAX}"
        )));
    }
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer {
        rest: source,
        line: 1,
        tokens: Vec::new(),
        at_line_start: true,
    };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    rest: &'s str,
    line: u32,
    tokens: Vec<Token>,
    /// Nothing stands before here on its line, or only a tag that took its line's end.
    at_line_start: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Tag {
    Print,
    Block,
    Comment,
}

impl Tag {
    fn open(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [b'{', b'{', ..] => Some(Self::Print),
            [b'{', b'%', ..] => Some(Self::Block),
            [b'{', b'#', ..] => Some(Self::Comment),
            _ => None,
        }
    }

    fn close(self) -> &'static str {
        match self {
            Self::Print => "}}",
            Self::Block => "%}",
            Self::Comment => "#}",
        }
    }
}

impl<'s> Lexer<'s> {
    fn run(&mut self) -> Result<(), Error> {
        while let Some((at, tag)) = next_tag(self.rest) {
            self.data(at, tag != Tag::Print)?;
            if tag == Tag::Block && self.raw()? {
                continue;
            }
            self.take(2);
            if self.rest.starts_with(['-', '+']) {
                self.take(1);
            }
            match tag {
                Tag::Comment => self.comment()?,
                Tag::Print => self.tag(tag, Kind::PrintBegin, Kind::PrintEnd)?,
                Tag::Block => self.tag(tag, Kind::BlockBegin, Kind::BlockEnd)?,
            }
        }
        let rest = self.rest;
        self.push_data(rest)?;
        self.take(rest.len());
        self.push(Kind::End)
    }

    fn push(&mut self, kind: Kind) -> Result<(), Error> {
        if self.tokens.len() == TOKENS_MAX {
            return Err(Error::limit(format!(
                "the template has more than {TOKENS_MAX} tokens"
            )));
        }
        let line = self.line;
        self.tokens.push(Token { kind, line });
        Ok(())
    }

    fn push_data(&mut self, text: &str) -> Result<(), Error> {
        match text {
            "" => Ok(()),
            text => self.push(Kind::Data(text.to_owned())),
        }
    }

    /// Goes on by `len` bytes.
    fn take(&mut self, len: usize) -> &'s str {
        let (taken, rest) = self.rest.split_at(len);
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count() as u32;
        self.at_line_start = taken.ends_with('\n') || (taken.is_empty() && self.at_line_start);
        self.rest = rest;
        taken
    }

    /// The text up to a tag at `at`; white space before the tag goes as its sign, or else the
    /// `lstrip_blocks` of blocks and comments, has it.
    fn data(&mut self, at: usize, strips_line: bool) -> Result<(), Error> {
        let text = &self.rest[..at];
        let kept = match self.rest.as_bytes().get(at + 2) {
            Some(b'-') => text.trim_end_matches(is_space),
            Some(b'+') => text,
            _ if strips_line => {
                let line = text.rfind('\n').map_or(0, |at| at + 1);
                let starts = line > 0 || self.at_line_start;
                match starts && text[line..].chars().all(is_space) {
                    true => &text[..line],
                    false => text,
                }
            }
            _ => text,
        };
        self.push_data(kept)?;
        self.take(at);
        Ok(())
    }

    /// The end of a tag is here; takes it with the white space that goes with it.
    fn close(&mut self, tag: Tag) -> bool {
        let close = tag.close();
        let after = |prefix: &str| self.rest.strip_prefix(prefix)?.strip_prefix(close);
        let len = self.rest.len();
        let taken = if let Some(rest) = after("-") {
            len - rest.trim_start_matches(is_space).len()
        } else if tag != Tag::Print
            && let Some(rest) = after("+")
        {
            len - rest.len()
        } else if let Some(rest) = after("") {
            let trims = tag != Tag::Print;
            let rest = rest.strip_prefix('\n').filter(|_| trims).unwrap_or(rest);
            len - rest.len()
        } else {
            return false;
        };
        self.take(taken);
        true
    }

    fn comment(&mut self) -> Result<(), Error> {
        let Some(at) = self.rest.find("#}") else {
            return Err(Error::syntax(self.line, "missing end of comment tag"));
        };
        let signed = at > 0 && matches!(self.rest.as_bytes()[at - 1], b'-' | b'+');
        self.take(at - usize::from(signed));
        self.close(Tag::Comment);
        Ok(())
    }

    /// A raw block begins here; takes it whole.
    fn raw(&mut self) -> Result<bool, Error> {
        let Some(begin) = raw_tag(self.rest, "raw") else {
            return Ok(false);
        };
        self.take(begin.len());
        let mut at = 0;
        while let Some(found) = self.rest[at..].find("{%") {
            at += found;
            if let Some(tag) = raw_tag(&self.rest[at..], "endraw") {
                let len = tag.len();
                let trims = !tag.ends_with("+%}");
                self.data(at, true)?;
                self.take(len);
                if trims && self.rest.starts_with('\n') {
                    self.take(1);
                }
                return Ok(true);
            }
            at += 2;
        }
        Err(Error::syntax(self.line, "missing end of raw directive"))
    }

    fn tag(&mut self, tag: Tag, begin: Kind, end: Kind) -> Result<(), Error> {
        self.push(begin)?;
        let mut open = Vec::new();
        loop {
            let space = self.rest.len() - self.rest.trim_start_matches(is_space).len();
            self.take(space);
            // The end counts where brackets are closed, also with a sign that is an operator else.
            let line = self.line;
            if open.is_empty() && self.close(tag) {
                self.push(end)?;
                self.tokens.last_mut().expect("pushed").line = line;
                return Ok(());
            }
            if self.rest.is_empty() {
                return Err(Error::syntax(self.line, "the template ends inside a tag"));
            }
            self.expression_token(&mut open)?;
        }
    }

    fn expression_token(&mut self, open: &mut Vec<&'static str>) -> Result<(), Error> {
        let line = self.line;
        let after_dot = matches!(
            self.tokens.last(),
            Some(Token {
                kind: Kind::Op("."),
                ..
            })
        );
        let name_len = self.rest.len() - self.rest.trim_start_matches(is_name).len();
        let first = self.rest.chars().next().unwrap_or(' ');
        let (kind, len) = if first.is_ascii_digit() {
            number(self.rest, after_dot).map_err(|error| error.at(line))?
        } else if name_len > 0 && !first.is_numeric() {
            (Kind::Name(self.rest[..name_len].to_owned()), name_len)
        } else if matches!(first, '\'' | '"') {
            string(self.rest).map_err(|error| error.at(line))?
        } else {
            let found = OPERATORS.iter().find(|op| self.rest.starts_with(**op));
            let Some(op) = found else {
                let message = format!("unexpected character '{first}'");
                return Err(Error::syntax(line, message));
            };
            balance(op, open).map_err(|error| error.at(line))?;
            (Kind::Op(op), op.len())
        };
        self.push(kind)?;
        self.take(len);
        Ok(())
    }
}

/// Keeps count of brackets.
fn balance(op: &'static str, open: &mut Vec<&'static str>) -> Result<(), Error> {
    match op {
        "(" => open.push(")"),
        "[" => open.push("]"),
        "{" => open.push("}"),
        ")" | "]" | "}" => match open.pop() {
            Some(expected) if expected == op => {}
            Some(expected) => {
                let message = format!("unexpected '{op}', expected '{expected}'");
                return Err(Error::syntax(0, message));
            }
            None => return Err(Error::syntax(0, format!("unexpected '{op}'"))),
        },
        _ => {}
    }
    Ok(())
}

fn is_name(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}

fn next_tag(text: &str) -> Option<(usize, Tag)> {
    let braces = text.match_indices('{');
    braces
        .into_iter()
        .find_map(|(at, _)| Some((at, Tag::open(&text[at..])?)))
}

/// The tag `{% name %}` at the start of `text`, with the white space that `-%}` takes when it
/// begins a raw block.
fn raw_tag<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let rest = text.strip_prefix("{%")?;
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    let rest = rest.trim_start_matches(is_space).strip_prefix(name)?;
    let rest = rest.trim_start_matches(is_space);
    let ends = match name {
        "raw" => ["-%}", "%}", "%}"],
        _ => ["-%}", "%}", "+%}"],
    };
    let (end, rest) = ends
        .iter()
        .find_map(|end| Some((end, rest.strip_prefix(end)?)))?;
    let rest = match *end {
        "-%}" => rest.trim_start_matches(is_space),
        _ => rest,
    };
    Some(&text[..text.len() - rest.len()])
}
