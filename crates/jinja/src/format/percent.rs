use super::{Sink, Spec, checked_width, number};
use crate::access::{byte_of, char_count};
use crate::budget::Budget;
use crate::error::Error;
use crate::ops::{self, Number};
use crate::show;
use crate::text::{Builder, Text};
use crate::value::Value;

/// `text % values`.
pub(crate) fn percent(text: &Text, values: &Value, budget: &Budget) -> Result<Text, Error> {
    budget.work(text.len())?;
    let single = [values.clone()];
    let values = match values {
        Value::Tuple(seq) => Source {
            values: seq.items(),
            dict: None,
            at: 0,
            all: true,
        },
        Value::Dict(_) => Source {
            values: &single,
            dict: Some(values),
            at: 0,
            all: false,
        },
        // Python takes whatever has items for a mapping, which need not be used.
        Value::List(_) | Value::Range(_) | Value::Undefined(_) => Source {
            values: &single,
            dict: None,
            at: 0,
            all: false,
        },
        _ => Source {
            values: &single,
            dict: None,
            at: 0,
            all: true,
        },
    };
    Percent {
        text,
        values,
        budget,
        sink: Sink::new(budget),
    }
    .run()
}

struct Source<'v> {
    values: &'v [Value],
    dict: Option<&'v Value>,
    at: usize,
    /// Every value must be used.
    all: bool,
}

impl Source<'_> {
    fn next(&mut self) -> Result<Value, Error> {
        let value = self.values.get(self.at).cloned();
        self.at += 1;
        value.ok_or_else(|| Error::runtime("not enough values for the format"))
    }
}

struct Percent<'v> {
    text: &'v Text,
    values: Source<'v>,
    budget: &'v Budget<'v>,
    sink: Sink<'v>,
}

impl Percent<'_> {
    fn run(mut self) -> Result<Text, Error> {
        let all = self.text.as_str();
        let mut rest = all;
        while let Some(at) = rest.find('%') {
            self.sink.push(&self.text.part_of(&rest[..at]))?;
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                self.budget.steps(1)?;
                let sign = all.len() - after.len() - 1;
                self.sink.push(&self.text.part(sign..sign + 1))?;
                rest = after;
                continue;
            }
            rest = self.directive(rest)?;
        }
        self.sink.push(&self.text.part_of(rest))?;
        if self.values.all && self.values.at < self.values.values.len() {
            return Err(Error::runtime("not all values were used by the format"));
        }
        Ok(self.sink.out.finish())
    }

    fn directive<'t>(&mut self, mut rest: &'t str) -> Result<&'t str, Error> {
        self.budget.steps(4)?;
        let all = self.text.as_str();
        let start = all.len() - rest.len() - 1;
        let mut value = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let Some(end) = inner.find(')') else {
                return Err(Error::runtime("a format has an incomplete key"));
            };
            let Some(dict) = self.values.dict else {
                return Err(Error::runtime("a format with keys needs a dict"));
            };
            let key = Value::Str(self.text.part_of(&inner[..end]));
            let Value::Dict(map) = dict else {
                return Err(Error::runtime("a format with keys needs a dict"));
            };
            let found = ops::lookup(map, &key, self.budget)?;
            value = Some(found.ok_or_else(|| {
                Error::runtime(format!("the format's key '{}' is missing", &inner[..end]))
            })?);
            rest = &inner[end + 1..];
        }
        let (spec, after) = self.spec(rest)?;
        let spec = Spec {
            own: self.text.part(start..all.len() - after.len()).is_own(),
            ..spec
        };
        let value = match value {
            Some(value) => value,
            None => self.values.next()?,
        };
        self.write(&value, spec)?;
        Ok(after)
    }

    fn spec<'t>(&mut self, mut rest: &'t str) -> Result<(Spec, &'t str), Error> {
        let mut spec = Spec {
            align: Some('>'),
            ..Spec::PLAIN
        };
        let (mut zeros, mut left) = (false, false);
        while let Some(flag) = rest.chars().next().filter(|c| "-+ #0".contains(*c)) {
            match flag {
                '-' => left = true,
                '0' => zeros = true,
                '#' => spec.alternate = true,
                '+' => spec.sign = '+',
                _ if spec.sign != '+' => spec.sign = ' ',
                _ => {}
            }
            rest = &rest[1..];
        }
        if rest.starts_with('*') {
            return Err(Error::unsupported("a '*' in a format"));
        }
        spec.width = leading_number(&mut rest)?.unwrap_or(0);
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            spec.precision = Some(leading_number(&mut rest)?.unwrap_or(0));
        }
        rest = rest.strip_prefix(['l', 'h', 'L']).unwrap_or(rest);
        let Some(kind) = rest.chars().next() else {
            return Err(Error::runtime("a format is incomplete"));
        };
        spec.kind = Some(kind);
        if left {
            spec.align = Some('<');
        } else if zeros && !"srac".contains(kind) {
            (spec.align, spec.fill) = (Some('='), '0');
        }
        Ok((spec, &rest[kind.len_utf8()..]))
    }

    fn write(&mut self, value: &Value, spec: Spec) -> Result<(), Error> {
        let kind = spec.kind.unwrap_or('s');
        match kind {
            's' | 'r' => {
                let text = match kind {
                    's' => show::string(value, self.budget)?,
                    _ => {
                        let mut out = Builder::default();
                        show::repr(value, &mut out, self.budget)?;
                        out.finish()
                    }
                };
                self.budget.work(text.len())?;
                let most = spec
                    .precision
                    .unwrap_or(usize::MAX)
                    .min(char_count(text.as_str()));
                let text = text.part(0..byte_of(text.as_str(), most));
                self.sink.padded(&text, &spec)
            }
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => self.write_int(value, kind, &spec),
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let Some(number) = ops::number(value) else {
                    return Err(crate::args::wrong("the format", "a number", value));
                };
                let precision = spec.precision.unwrap_or(6);
                let number = ops::float_of(number);
                self.budget.steps(number::digits(number, precision))?;
                let text = number::float(number, kind, precision, spec.alternate)?;
                self.sink.number(&text, "", &spec)
            }
            other => Err(Error::unsupported(format!("'%{other}' in a format"))),
        }
    }

    fn write_int(&mut self, value: &Value, kind: char, spec: &Spec) -> Result<(), Error> {
        let value = match ops::number(value) {
            Some(Number::Int(value)) => value,
            Some(Number::Float(value)) if "diu".contains(kind) => {
                // The range is checked; what is after the point goes.
                if value.is_nan() || value.abs() >= 9e18 {
                    return Err(Error::unsupported("an integer of more than 64 bits"));
                }
                value.trunc() as i64
            }
            _ => return Err(crate::args::wrong("the format", "an integer", value)),
        };
        let (digits, prefix) = number::int(value, kind);
        let least = spec.precision.unwrap_or(0);
        let zeros = "0".repeat(least.saturating_sub(digits.len()));
        let sign = if value < 0 { "-" } else { "" };
        let prefix = if spec.alternate { prefix } else { "" };
        let text = format!("{sign}{zeros}{digits}");
        self.sink.number(&text, prefix, spec)
    }
}

fn leading_number(rest: &mut &str) -> Result<Option<usize>, Error> {
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at(len);
    *rest = after;
    if digits.is_empty() {
        return Ok(None);
    }
    checked_width(digits.parse().unwrap_or(usize::MAX)).map(Some)
}
