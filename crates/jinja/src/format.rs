//! Python's two ways to fill values into a text.

mod brace;
mod number;
mod percent;

pub(crate) use brace::braces;
pub(crate) use number::digits;
pub(crate) use percent::percent;

use crate::access::char_count;
use crate::budget::Budget;
use crate::error::Error;
use crate::limits::WIDTH_MAX;
use crate::text::{Builder, Text};

/// How a value is to be written.
#[derive(Clone, Debug)]
struct Spec {
    fill: char,
    /// The template wrote all of the directive that asks for this. Whatever the directive adds to
    /// a value - what fills it up, signs, separators, a number's digits - has its origin.
    own: bool,
    /// `<`, `>`, `^` or `=`.
    align: Option<char>,
    /// `+`, a space, or `-` for none before what is not negative.
    sign: char,
    alternate: bool,
    width: usize,
    /// Between groups of digits.
    grouping: Option<char>,
    precision: Option<usize>,
    /// The letter that says what the value is written as.
    kind: Option<char>,
}

impl Spec {
    const PLAIN: Self = Self {
        fill: ' ',
        own: true,
        align: None,
        sign: '-',
        alternate: false,
        width: 0,
        grouping: None,
        precision: None,
        kind: None,
    };
}

fn checked_width(width: usize) -> Result<usize, Error> {
    match width > WIDTH_MAX {
        true => Err(Error::limit(format!(
            "a value is to be written {width} wide; the limit is {WIDTH_MAX}"
        ))),
        false => Ok(width),
    }
}

/// Where formatted values go.
struct Sink<'b> {
    out: Builder,
    budget: &'b Budget<'b>,
}

impl<'b> Sink<'b> {
    fn new(budget: &'b Budget<'b>) -> Self {
        let out = Builder::default();
        Self { out, budget }
    }

    fn push(&mut self, text: &Text) -> Result<(), Error> {
        self.out.push(text, self.budget)
    }

    fn fill(&mut self, spec: &Spec, count: usize) -> Result<(), Error> {
        match count {
            0 => Ok(()),
            count => {
                let fill = Text::of(spec.fill.to_string(), spec.own);
                self.out.repeat(&fill, count, self.budget)
            }
        }
    }

    /// Adds `text`, filled up to the width.
    fn padded(&mut self, text: &Text, spec: &Spec) -> Result<(), Error> {
        let missing = spec.width.saturating_sub(char_count(text.as_str()));
        let left = match spec.align {
            Some('>' | '=') => missing,
            Some('^') => missing / 2,
            _ => 0,
        };
        self.fill(spec, left)?;
        self.push(text)?;
        self.fill(spec, missing - left)
    }

    /// Adds a number's text with its sign and what fills it up: zeros go between.
    fn number(&mut self, text: &str, prefix: &str, spec: &Spec) -> Result<(), Error> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None if spec.sign == '+' => ("+", text),
            None if spec.sign == ' ' => (" ", text),
            None => ("", text),
        };
        if spec.align == Some('=') {
            let len = sign.len() + prefix.len() + digits.len();
            let missing = spec.width.saturating_sub(len);
            let fill: String = std::iter::repeat_n(spec.fill, missing).collect();
            let all = format!("{sign}{prefix}{fill}{digits}");
            return self.out.push_str(&all, spec.own, self.budget);
        }
        self.padded(&Text::of(format!("{sign}{prefix}{digits}"), spec.own), spec)
    }
}
