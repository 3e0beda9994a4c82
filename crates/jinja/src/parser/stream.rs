use crate::error::Error;
use crate::lexer::{Kind, Token};

/// Tokens and a place among them.
pub(super) struct Stream {
    tokens: Vec<Token>,
    at: usize,
}

impl Stream {
    /// `tokens` end with [`Kind::End`].
    pub(super) fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, at: 0 }
    }

    pub(super) fn peek(&self) -> &Kind {
        &self.tokens[self.at].kind
    }

    pub(super) fn line(&self) -> u32 {
        self.tokens[self.at].line
    }

    fn after(&self) -> &Kind {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.at + 1).min(last)].kind
    }

    /// Takes the token here; the last stays.
    pub(super) fn next(&mut self) -> Kind {
        let last = self.tokens.len() - 1;
        let kind = match self.at == last {
            true => Kind::End,
            false => std::mem::replace(&mut self.tokens[self.at].kind, Kind::End),
        };
        self.at = (self.at + 1).min(last);
        kind
    }

    pub(super) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Kind::Op(here) if *here == op)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Kind::Name(here) if here == name)
    }

    /// One of `ops` is here.
    pub(super) fn op_of(&self, ops: &[&'static str]) -> Option<&'static str> {
        ops.iter().find(|op| self.is_op(op)).copied()
    }

    pub(super) fn followed_by_op(&self, op: &str) -> bool {
        matches!(self.after(), Kind::Op(after) if *after == op)
    }

    pub(super) fn followed_by_name(&self, name: &str) -> bool {
        matches!(self.after(), Kind::Name(after) if after == name)
    }

    pub(super) fn skip_op(&mut self, op: &str) -> bool {
        let is = self.is_op(op);
        if is {
            self.next();
        }
        is
    }

    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let is = self.is_name(name);
        if is {
            self.next();
        }
        is
    }

    pub(super) fn expect_op(&mut self, op: &str) -> Result<(), Error> {
        match self.skip_op(op) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("'{op}'"))),
        }
    }

    pub(super) fn expect(&mut self, kind: &Kind) -> Result<(), Error> {
        if self.peek() == kind {
            self.next();
            return Ok(());
        }
        Err(self.unexpected(&described(kind)))
    }

    pub(super) fn expect_name(&mut self) -> Result<String, Error> {
        if matches!(self.peek(), Kind::Name(_))
            && let Kind::Name(name) = self.next()
        {
            return Ok(name);
        }
        Err(self.unexpected("a name"))
    }

    pub(super) fn unexpected(&self, expected: &str) -> Error {
        let found = described(self.peek());
        Error::syntax(self.line(), format!("expected {expected}, found {found}"))
    }
}

fn described(kind: &Kind) -> String {
    match kind {
        Kind::Data(_) => "text".to_owned(),
        Kind::PrintBegin => "'{{'".to_owned(),
        Kind::PrintEnd => "'}}'".to_owned(),
        Kind::BlockBegin => "'{%'".to_owned(),
        Kind::BlockEnd => "'%}'".to_owned(),
        Kind::Name(name) => format!("'{name}'"),
        Kind::Str(_) => "a string".to_owned(),
        Kind::Int(value) => format!("'{value}'"),
        Kind::Float(value) => format!("'{value}'"),
        Kind::Op(op) => format!("'{op}'"),
        Kind::End => "the end of the template".to_owned(),
    }
}
