//! Python's `json.dumps`, as transformers gives it to templates.

use std::borrow::Cow;

use crate::args::{Args, flag, text};
use crate::budget::Budget;
use crate::error::Error;
use crate::limits::WIDTH_MAX;
use crate::ops::sorted_by_keys;
use crate::show;
use crate::text::{Builder, Text};
use crate::value::{Map, Value};

/// The filter `tojson`.
pub(crate) fn to_json(value: &Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [ascii, indent, separators, sort] = args.bind(
        "tojson",
        ["ensure_ascii", "indent", "separators", "sort_keys"],
    )?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Int(width)) => {
            let width = usize::try_from(width).unwrap_or(0);
            if width > WIDTH_MAX {
                return Err(Error::limit(format!(
                    "an indent of {width}; the limit is {WIDTH_MAX}"
                )));
            }
            Some(Text::own(" ".repeat(width)))
        }
        Some(other) => Some(text(other, "tojson")?),
    };
    let (comma, colon) = match separators {
        None | Some(Value::None) if indent.is_some() => (Text::own(","), Text::own(": ")),
        None | Some(Value::None) => (Text::own(", "), Text::own(": ")),
        Some(Value::Tuple(pair) | Value::List(pair)) if pair.items().len() == 2 => {
            let part = |at: usize| text(pair.items()[at].clone(), "tojson");
            (part(0)?, part(1)?)
        }
        Some(_) => return Err(Error::runtime("tojson takes two separators")),
    };
    let style = Style {
        ascii: flag(ascii.as_ref()),
        sort: flag(sort.as_ref()),
        indent,
        comma,
        colon,
    };
    let out = Builder::default();
    let mut writer = Writer { style, out, budget };
    writer.value(value, 0)?;
    Ok(Value::Str(writer.out.finish()))
}

struct Style {
    ascii: bool,
    sort: bool,
    indent: Option<Text>,
    comma: Text,
    colon: Text,
}

struct Writer<'b> {
    style: Style,
    out: Builder,
    budget: &'b Budget<'b>,
}

impl Writer<'_> {
    fn own(&mut self, text: &str) -> Result<(), Error> {
        self.out.own(text, self.budget)
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.budget.steps(1)?;
        match value {
            Value::None => self.own("null"),
            Value::Bool(true) => self.own("true"),
            Value::Bool(false) => self.own("false"),
            Value::Int(value) => self.own(&value.to_string()),
            Value::Float(value) => self.own(&float(*value)),
            Value::Str(text) | Value::Markup(text) => self.string(text),
            Value::List(seq) | Value::Tuple(seq) => {
                self.own("[")?;
                for (at, item) in seq.items().iter().enumerate() {
                    self.before(at, depth)?;
                    self.value(item, depth + 1)?;
                }
                self.close("]", seq.items().is_empty(), depth)
            }
            Value::Dict(map) => {
                self.own("{")?;
                for (at, (key, value)) in self.entries(map)?.iter().enumerate() {
                    self.before(at, depth)?;
                    self.key(key)?;
                    self.out.push(&self.style.colon, self.budget)?;
                    self.value(value, depth + 1)?;
                }
                self.close("}", map.entries.is_empty(), depth)
            }
            Value::Undefined(_) => Err(Error::runtime("a value that is undefined has no JSON")),
            other => {
                let found = other.type_name();
                Err(Error::runtime(format!(
                    "a value of type {found} has no JSON"
                )))
            }
        }
    }

    /// What stands before the item `at`.
    fn before(&mut self, at: usize, depth: usize) -> Result<(), Error> {
        if at > 0 {
            self.out.push(&self.style.comma, self.budget)?;
        }
        self.line(depth + 1)
    }

    fn close(&mut self, close: &str, is_empty: bool, depth: usize) -> Result<(), Error> {
        if !is_empty {
            self.line(depth)?;
        }
        self.own(close)
    }

    fn line(&mut self, depth: usize) -> Result<(), Error> {
        let Some(indent) = &self.style.indent else {
            return Ok(());
        };
        self.out.own("\n", self.budget)?;
        self.out.repeat(indent, depth, self.budget)
    }

    fn entries(&self, map: &Map) -> Result<Vec<(Value, Value)>, Error> {
        self.budget.memory(size_of_val(map.entries.as_slice()))?;
        if !self.style.sort {
            return Ok(map.entries.clone());
        }
        let keyed = map.entries.iter().enumerate();
        let keyed = keyed.map(|(at, (key, _))| (key.clone(), Value::Int(at as i64)));
        let order = sorted_by_keys(keyed.collect(), false, self.budget)?;
        let entry = |at: &Value| match at {
            Value::Int(at) => map.entries.get(*at as usize).cloned(),
            _ => None,
        };
        Ok(order.iter().filter_map(entry).collect())
    }

    fn key(&mut self, key: &Value) -> Result<(), Error> {
        let plain = match key {
            Value::Str(text) | Value::Markup(text) => return self.string(text),
            Value::None => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => float(*value),
            other => {
                let found = other.type_name();
                return Err(Error::runtime(format!("a key of type {found} has no JSON")));
            }
        };
        self.own(&format!("\"{plain}\""))
    }

    fn string(&mut self, text: &Text) -> Result<(), Error> {
        self.budget.work(text.len())?;
        self.own("\"")?;
        let ascii = self.style.ascii;
        self.out.rewritten(
            text,
            |char| match char {
                '"' | '\\' | '\0'..='\x1f' => Some(escape_of(char)),
                char if ascii && !char.is_ascii() => Some(escape_of(char)),
                _ => None,
            },
            self.budget,
        )?;
        self.own("\"")
    }
}

fn escape_of(char: char) -> Cow<'static, str> {
    match char {
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        '\x08' => "\\b".into(),
        '\x0c' => "\\f".into(),
        char => match *char.encode_utf16(&mut [0; 2]) {
            [high, low] => format!("\\u{high:04x}\\u{low:04x}").into(),
            _ => format!("\\u{:04x}", u32::from(char)).into(),
        },
    }
}

fn float(value: f64) -> String {
    match value {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        value if value.is_nan() => "NaN".to_owned(),
        value => show::float(value),
    }
}
