//! Values as text: Python's `str` and `repr`.

use std::borrow::Cow;

use crate::budget::Budget;
use crate::error::Error;
use crate::text::{Builder, Text};
use crate::value::{Map, Seq, Value, View};

/// Adds what `str(value)` gives.
pub(crate) fn show(value: &Value, out: &mut Builder, budget: &Budget) -> Result<(), Error> {
    match value {
        Value::Str(text) | Value::Markup(text) => out.push(text, budget),
        Value::Undefined(_) => Ok(()),
        other => repr(other, out, budget),
    }
}

/// What `str(value)` gives.
pub(crate) fn string(value: &Value, budget: &Budget) -> Result<Text, Error> {
    if let Some(text) = value.text() {
        return Ok(text.clone());
    }
    let mut out = Builder::default();
    show(value, &mut out, budget)?;
    Ok(out.finish())
}

/// Adds what `repr(value)` gives. Values are at most as deep as
/// [`VALUE_DEPTH_MAX`](crate::limits::VALUE_DEPTH_MAX), and so is this.
pub(crate) fn repr(value: &Value, out: &mut Builder, budget: &Budget) -> Result<(), Error> {
    budget.steps(1)?;
    match value {
        Value::Undefined(_) => out.own("Undefined", budget),
        Value::None => out.own("None", budget),
        Value::Bool(true) => out.own("True", budget),
        Value::Bool(false) => out.own("False", budget),
        Value::Int(value) => out.own(&value.to_string(), budget),
        Value::Float(value) => out.own(&float(*value), budget),
        Value::Str(text) => quoted(text, out, budget),
        Value::List(seq) => repr_list(seq, out, budget),
        Value::Tuple(seq) => repr_tuple(seq, out, budget),
        Value::Dict(map) => repr_dict(map, out, budget),
        Value::View(view, map) => repr_view(*view, map, out, budget),
        Value::Range(span) => {
            let (start, stop) = (span.start, span.stop);
            match span.step {
                1 => out.own(&format!("range({start}, {stop})"), budget),
                step => out.own(&format!("range({start}, {stop}, {step})"), budget),
            }
        }
        Value::Namespace(namespace) => {
            out.own("<Namespace ", budget)?;
            let entries = namespace.entries.borrow();
            let pairs = entries
                .iter()
                .map(|(key, value)| (Value::Str(key.clone()), value.clone()));
            braced(pairs, out, budget)?;
            out.own(">", budget)
        }
        other => {
            let found = other.type_name();
            Err(Error::unsupported(format!(
                "printing a value of type {found}"
            )))
        }
    }
}

fn separated<'v>(
    items: impl Iterator<Item = &'v Value>,
    out: &mut Builder,
    budget: &Budget,
) -> Result<(), Error> {
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.own(", ", budget)?;
        }
        repr(item, out, budget)?;
    }
    Ok(())
}

fn repr_list(seq: &Seq, out: &mut Builder, budget: &Budget) -> Result<(), Error> {
    out.own("[", budget)?;
    separated(seq.items().iter(), out, budget)?;
    out.own("]", budget)
}

fn repr_tuple(seq: &Seq, out: &mut Builder, budget: &Budget) -> Result<(), Error> {
    out.own("(", budget)?;
    separated(seq.items().iter(), out, budget)?;
    let end = if seq.items().len() == 1 { ",)" } else { ")" };
    out.own(end, budget)
}

fn repr_dict(map: &Map, out: &mut Builder, budget: &Budget) -> Result<(), Error> {
    braced(map.entries.iter().cloned(), out, budget)
}

fn braced(
    pairs: impl Iterator<Item = (Value, Value)>,
    out: &mut Builder,
    budget: &Budget,
) -> Result<(), Error> {
    out.own("{", budget)?;
    for (at, (key, value)) in pairs.enumerate() {
        if at > 0 {
            out.own(", ", budget)?;
        }
        repr(&key, out, budget)?;
        out.own(": ", budget)?;
        repr(&value, out, budget)?;
    }
    out.own("}", budget)
}

fn repr_view(view: View, map: &Map, out: &mut Builder, budget: &Budget) -> Result<(), Error> {
    let entries = || map.entries.iter();
    match view {
        View::Keys => {
            out.own("dict_keys([", budget)?;
            separated(entries().map(|(key, _)| key), out, budget)?;
        }
        View::Values => {
            out.own("dict_values([", budget)?;
            separated(entries().map(|(_, value)| value), out, budget)?;
        }
        View::Items => {
            out.own("dict_items([", budget)?;
            for (at, (key, value)) in entries().enumerate() {
                out.own(if at > 0 { ", (" } else { "(" }, budget)?;
                separated([key, value].into_iter(), out, budget)?;
                out.own(")", budget)?;
            }
        }
    }
    out.own("])", budget)
}

/// A string as Python's source would have it.
fn quoted(text: &Text, out: &mut Builder, budget: &Budget) -> Result<(), Error> {
    budget.work(2 * text.len())?;
    let all = text.as_str();
    let quote = match all.contains('\'') && !all.contains('"') {
        true => '"',
        false => '\'',
    };
    out.char(quote, true, budget)?;
    out.rewritten(text, |char| escape_of(char, quote), budget)?;
    out.char(quote, true, budget)
}

/// How a character is written that cannot stand for itself between such quotes.
fn escape_of(char: char, quote: char) -> Option<Cow<'static, str>> {
    let code = u32::from(char);
    Some(match char {
        '\\' => "\\\\".into(),
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '\t' => "\\t".into(),
        char if char == quote => format!("\\{quote}").into(),
        char if is_printable(char) => return None,
        _ if code <= 0xff => format!("\\x{code:02x}").into(),
        _ if code <= 0xffff => format!("\\u{code:04x}").into(),
        _ => format!("\\U{code:08x}").into(),
    })
}

/// As `str.isprintable` of Python, but for code points that no version of Unicode has a use for.
fn is_printable(char: char) -> bool {
    let is_hidden = matches!(char,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0001}' | '\u{e0020}'..='\u{e007f}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    char == ' ' || !(char.is_control() || char.is_whitespace() || is_hidden)
}

/// Python's `repr` of a float: the fewest digits that read back the same.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    match plain.contains('.') {
        true => plain,
        false => format!("{plain}.0"),
    }
}

/// With what HTML has a meaning for written another way.
pub(crate) fn escape(text: &Text, budget: &Budget) -> Result<Text, Error> {
    budget.work(text.len())?;
    let written = |char| {
        let entity = match char {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\'' => "&#39;",
            '"' => "&#34;",
            _ => return None,
        };
        Some(Cow::Borrowed(entity))
    };
    let mut out = Builder::default();
    out.rewritten(text, written, budget)?;
    Ok(out.finish())
}
