use super::{Sink, Spec, checked_width, number};
use crate::access::{attribute, byte_of, char_count, item};
use crate::args::Args;
use crate::budget::Budget;
use crate::error::Error;
use crate::ops::{self, Number};
use crate::show;
use crate::text::{Builder, Text};
use crate::value::Value;

/// `text.format(…)`.
pub(crate) fn braces(text: &Text, args: &Args, budget: &Budget) -> Result<Text, Error> {
    budget.work(text.len())?;
    let mut braces = Braces {
        text,
        args,
        budget,
        next: 0,
        sink: Sink::new(budget),
    };
    braces.run()?;
    Ok(braces.sink.out.finish())
}

struct Braces<'v> {
    text: &'v Text,
    args: &'v Args,
    budget: &'v Budget<'v>,
    /// The next value without a number.
    next: usize,
    sink: Sink<'v>,
}

impl Braces<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let mut rest = self.text.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            let doubled = rest[at + 1..].starts_with(&rest[at..=at]);
            let literal = if doubled { at + 1 } else { at };
            self.sink.push(&self.text.part_of(&rest[..literal]))?;
            if doubled {
                self.budget.steps(1)?;
                rest = &rest[at + 2..];
                continue;
            }
            if rest[at..].starts_with('}') {
                return Err(Error::runtime("a single '}' in a format"));
            }
            let inner = &rest[at + 1..];
            let Some(end) = inner.find('}') else {
                return Err(Error::runtime("a '{' without its '}' in a format"));
            };
            let field = &inner[..end];
            if field.contains('{') {
                return Err(Error::unsupported("a field inside a field of a format"));
            }
            self.field(&self.text.part_of(&rest[at..=at + 1 + end]), field)?;
            rest = &inner[end + 1..];
        }
        self.sink.push(&self.text.part_of(rest))
    }

    /// Writes a field; `whole` is it with its braces.
    fn field(&mut self, whole: &Text, field: &str) -> Result<(), Error> {
        self.budget.steps(4)?;
        let (head, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = match head.split_once('!') {
            Some((name, conversion)) => (name, Some(conversion)),
            None => (head, None),
        };
        let value = self.value(name)?;
        let spec = Spec {
            own: whole.is_own(),
            ..spec_of(spec)?
        };
        match conversion {
            None => self.write(&value, &spec),
            Some("s") => {
                let text = show::string(&value, self.budget)?;
                self.write(&Value::Str(text), &spec)
            }
            Some("r") => {
                let mut out = Builder::default();
                show::repr(&value, &mut out, self.budget)?;
                self.write(&Value::Str(out.finish()), &spec)
            }
            Some(other) => Err(Error::unsupported(format!("'!{other}' in a format"))),
        }
    }

    /// The value that `0`, `name`, `name.attribute` or `name[key]` means.
    fn value(&mut self, path: &str) -> Result<Value, Error> {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        let (first, mut rest) = path.split_at(end);
        let mut value = self.first(first)?;
        while !rest.is_empty() {
            self.budget.steps(1)?;
            if let Some(inner) = rest.strip_prefix('.') {
                let end = inner.find(['.', '[']).unwrap_or(inner.len());
                value = attribute(&value, &self.text.part_of(&inner[..end]), self.budget)?;
                rest = &inner[end..];
            } else if let Some((key, after)) =
                rest.strip_prefix('[').and_then(|r| r.split_once(']'))
            {
                let key = match key.parse() {
                    Ok(index) if key.bytes().all(|byte| byte.is_ascii_digit()) => Value::Int(index),
                    _ => Value::Str(self.text.part_of(key)),
                };
                value = item(&value, &key, self.budget)?;
                rest = after;
            } else {
                return Err(Error::runtime("a field of a format is malformed"));
            }
        }
        Ok(value)
    }

    fn first(&mut self, name: &str) -> Result<Value, Error> {
        let missing = || Error::runtime(format!("the format has no value for '{{{name}}}'"));
        let index = match name.is_empty() {
            true => {
                self.next += 1;
                Some(self.next - 1)
            }
            false => name.parse().ok(),
        };
        if let Some(index) = index {
            return self
                .args
                .positional
                .get::<usize>(index)
                .cloned()
                .ok_or_else(missing);
        }
        self.budget.steps(self.args.named.len() as u64 / 8)?;
        for (other, value) in &self.args.named {
            if other.is(name, self.budget)? {
                return Ok(value.clone());
            }
        }
        Err(missing())
    }

    fn write(&mut self, value: &Value, spec: &Spec) -> Result<(), Error> {
        let is_plain = spec.width == 0
            && spec.kind.is_none()
            && spec.precision.is_none()
            && spec.sign == '-'
            && spec.grouping.is_none()
            && !spec.alternate;
        let number = match value {
            Value::Bool(_) if is_plain => None,
            value => ops::number(value),
        };
        match (number, value.text()) {
            (Some(Number::Int(value)), _) => self.write_int(value, spec),
            (Some(Number::Float(value)), _) => self.write_float(value, spec),
            (None, Some(text)) => self.write_text(text, spec),
            (None, None) if is_plain => show::show(value, &mut self.sink.out, self.budget),
            (None, None) => Err(crate::args::wrong(
                "this format",
                "a string or a number",
                value,
            )),
        }
    }

    fn write_text(&mut self, text: &Text, spec: &Spec) -> Result<(), Error> {
        if !matches!(spec.kind, None | Some('s')) || spec.align == Some('=') || spec.sign != '-' {
            return Err(Error::runtime("this format is not for a string"));
        }
        self.budget.work(text.len())?;
        let most = spec
            .precision
            .unwrap_or(usize::MAX)
            .min(char_count(text.as_str()));
        let text = text.part(0..byte_of(text.as_str(), most));
        self.sink.padded(&text, spec)
    }

    fn write_int(&mut self, value: i64, spec: &Spec) -> Result<(), Error> {
        let kind = spec.kind.unwrap_or('d');
        if "eEfFgG%".contains(kind) {
            return self.write_float(value as f64, spec);
        }
        if !"dxXob".contains(kind) || spec.precision.is_some() {
            return Err(Error::unsupported(format!(
                "the format '{kind}' of an integer"
            )));
        }
        let (mut digits, prefix) = number::int(value, kind);
        if let Some(separator) = spec.grouping {
            self.check_grouping(spec, kind != 'd')?;
            digits = number::grouped(&digits, separator);
        }
        let sign = if value < 0 { "-" } else { "" };
        let prefix = if spec.alternate { prefix } else { "" };
        let spec = Spec {
            align: spec.align.or(Some('>')),
            ..spec.clone()
        };
        self.sink.number(&format!("{sign}{digits}"), prefix, &spec)
    }

    fn check_grouping(&self, spec: &Spec, is_other_base: bool) -> Result<(), Error> {
        match is_other_base || (spec.align == Some('=') && spec.width > 0) {
            true => Err(Error::unsupported(
                "grouped digits with zeros before or of another base",
            )),
            false => Ok(()),
        }
    }

    fn write_float(&mut self, value: f64, spec: &Spec) -> Result<(), Error> {
        if spec.kind.is_some() {
            let precision = spec.precision.unwrap_or(6);
            self.budget.steps(number::digits(value, precision))?;
        }
        let text = match (spec.kind, spec.precision) {
            (None, None) => show::float(value),
            (None, Some(_)) => {
                return Err(Error::unsupported(
                    "a precision without a letter in a format",
                ));
            }
            (Some('%'), precision) => {
                let digits = number::float(value * 100.0, 'f', precision.unwrap_or(6), false)?;
                format!("{digits}%")
            }
            (Some(kind), precision) if "eEfFgG".contains(kind) => {
                number::float(value, kind, precision.unwrap_or(6), spec.alternate)?
            }
            (Some(kind), _) => {
                return Err(Error::runtime(format!(
                    "the format '{kind}' is not for a float"
                )));
            }
        };
        let text = match spec.grouping {
            Some(separator) => {
                self.check_grouping(spec, false)?;
                number::grouped(&text, separator)
            }
            None => text,
        };
        let spec = Spec {
            align: spec.align.or(Some('>')),
            ..spec.clone()
        };
        self.sink.number(&text, "", &spec)
    }
}

/// Reads `[[fill]align][sign][#][0][width][grouping][.precision][kind]`.
fn spec_of(text: &str) -> Result<Spec, Error> {
    let mut spec = Spec::PLAIN;
    let mut rest = text;
    let is_align = |char: Option<char>| char.filter(|char| "<>^=".contains(*char));
    let mut chars = rest.chars();
    let (first, second) = (chars.next(), chars.next());
    if let (Some(fill), Some(align)) = (first, is_align(second)) {
        (spec.fill, spec.align) = (fill, Some(align));
        rest = &rest[fill.len_utf8() + 1..];
    } else if let Some(align) = is_align(first) {
        spec.align = Some(align);
        rest = &rest[1..];
    }
    if let Some(sign) = rest.chars().next().filter(|char| "+- ".contains(*char)) {
        spec.sign = sign;
        rest = &rest[1..];
    }
    if let Some(after) = rest.strip_prefix('#') {
        spec.alternate = true;
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('0') {
        if spec.align.is_none() {
            (spec.fill, spec.align) = ('0', Some('='));
        }
        rest = after;
    }
    spec.width = digits(&mut rest)?.unwrap_or(0);
    if let Some(separator) = rest.chars().next().filter(|char| ",_".contains(*char)) {
        spec.grouping = Some(separator);
        rest = &rest[1..];
    }
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        let precision = digits(&mut rest)?;
        spec.precision =
            Some(precision.ok_or_else(|| Error::runtime("a format lacks its precision"))?);
    }
    let mut chars = rest.chars();
    spec.kind = chars.next();
    match chars.next() {
        Some(_) => Err(Error::unsupported(format!("the format '{text}'"))),
        None => Ok(spec),
    }
}

fn digits(rest: &mut &str) -> Result<Option<usize>, Error> {
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at(len);
    *rest = after;
    if digits.is_empty() {
        return Ok(None);
    }
    checked_width(digits.parse().unwrap_or(usize::MAX)).map(Some)
}
