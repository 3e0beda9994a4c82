use super::case::{capitalized, lower, title, upper};
use super::trim::{Side, centered, filled, missing, trimmed};
use crate::access::{byte_of, char_count, iterate};
use crate::args::{Args, flag, int, int_or, required, text, wrong};
use crate::budget::Budget;
use crate::error::Error;
use crate::format;
use crate::lexer::is_space;
use crate::text::{Builder, Text};
use crate::value::Value;

const KNOWN: [&str; 40] = [
    "capitalize",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
    "casefold",
    "expandtabs",
];
/// Methods that Python's strings have and templates here do not.
const REFUSED: [&str; 6] = [
    "encode",
    "format_map",
    "isidentifier",
    "isprintable",
    "istitle",
    "translate",
];

pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || REFUSED.contains(&name)
}

pub(super) fn call(all: &Text, name: &str, args: Args, budget: &Budget) -> Result<Value, Error> {
    budget.work(all.len())?;
    let simple = match name {
        "upper" => Some(upper as fn(&Text, &Budget) -> Result<Text, Error>),
        "lower" => Some(lower as _),
        "title" => Some(title as _),
        "capitalize" => Some(capitalized as _),
        "swapcase" => Some(swapped as _),
        _ => None,
    };
    if let Some(change) = simple {
        let [] = args.bind(name, [])?;
        return change(all, budget).map(Value::Str);
    }
    match name {
        "strip" | "lstrip" | "rstrip" => strip(all, name, args, budget),
        "split" | "rsplit" => split(all, name, args, budget),
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"])?;
            let lines = split_lines(all, flag(keep.as_ref()), budget)?;
            Value::list(lines.into_iter().map(Value::Str).collect(), budget)
        }
        "partition" | "rpartition" => partition(all, name, args, budget),
        "startswith" | "endswith" => affix(all, name, args, budget),
        "removeprefix" | "removesuffix" => remove_affix(all, name, args),
        "find" | "rfind" | "index" | "rindex" | "count" => find(all, name, args, budget),
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
            let old = text(required(old, name, "old")?, name)?;
            let new = text(required(new, name, "new")?, name)?;
            let count = int_or(count.as_ref(), -1, name)?;
            replaced(all, (&old, &new), count, budget).map(Value::Str)
        }
        "join" => {
            let [items] = args.bind(name, ["iterable"])?;
            join(all, &required(items, name, "iterable")?, budget)
        }
        "format" => format::braces(all, &args, budget).map(Value::Str),
        "center" | "ljust" | "rjust" | "zfill" => justified(all, name, args, budget),
        _ if name.starts_with("is") => {
            let [] = args.bind(name, [])?;
            is(all, name).map(Value::Bool)
        }
        _ => Err(Error::unsupported(format!(
            "the method '{name}' of a string"
        ))),
    }
}

fn swapped(all: &Text, budget: &Budget) -> Result<Text, Error> {
    let mut out = Builder::default();
    for (at, char) in all.as_str().char_indices() {
        let part = all.part(at..at + char.len_utf8());
        let part = match char {
            'Σ' => return Err(Error::unsupported("the swapped case of a capital sigma")),
            char if char.is_uppercase() => lower(&part, budget)?,
            _ => upper(&part, budget)?,
        };
        out.push(&part, budget)?;
    }
    Ok(out.finish())
}

fn strip(all: &Text, name: &str, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [chars] = args.bind(name, ["chars"])?;
    let chars = match chars {
        None | Some(Value::None) => None,
        Some(chars) => Some(text(chars, name)?),
    };
    let side = match name {
        "lstrip" => Side::Left,
        "rstrip" => Side::Right,
        _ => Side::Both,
    };
    let chars = chars.as_ref().map(Text::as_str);
    trimmed(all, chars, side, budget).map(Value::Str)
}

fn split(all: &Text, name: &str, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [separator, most] = args.bind(name, ["sep", "maxsplit"])?;
    let most = int_or(most.as_ref(), -1, name)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let from_right = name == "rsplit";
    let parts = match separator {
        None | Some(Value::None) => split_space(all.as_str(), (most, from_right), budget)?,
        Some(separator) => {
            let separator = text(separator, name)?;
            if separator.is_empty() {
                return Err(Error::runtime("an empty separator"));
            }
            let (all, separator) = (all.as_str(), separator.as_str());
            let limit = most.saturating_add(1);
            budget.memory(all.matches(separator).take(most).count() * size_of::<Value>())?;
            match from_right {
                false => all.splitn(limit, separator).collect(),
                true => {
                    let mut parts: Vec<_> = all.rsplitn(limit, separator).collect();
                    parts.reverse();
                    parts
                }
            }
        }
    };
    let parts = parts.into_iter().map(|part| Value::Str(all.part_of(part)));
    Value::list(parts.collect(), budget)
}

/// Parts between runs of white space, at most `most` cuts; what is left keeps its inner space.
fn split_space<'a>(
    all: &'a str,
    (most, from_right): (usize, bool),
    budget: &Budget,
) -> Result<Vec<&'a str>, Error> {
    let mut parts = Vec::new();
    let mut rest = match from_right {
        false => all.trim_start_matches(is_space),
        true => all.trim_end_matches(is_space),
    };
    while !rest.is_empty() {
        budget.memory(size_of::<Value>())?;
        let cut = match from_right {
            _ if parts.len() == most => None,
            false => rest.split_once(is_space),
            true => rest
                .rsplit_once(is_space)
                .map(|(before, part)| (part, before)),
        };
        let Some((part, after)) = cut else {
            parts.push(rest);
            break;
        };
        parts.push(part);
        rest = match from_right {
            false => after.trim_start_matches(is_space),
            true => after.trim_end_matches(is_space),
        };
    }
    if from_right {
        parts.reverse();
    }
    Ok(parts)
}

/// Lines as Python splits them, with or without what ends them.
pub(crate) fn split_lines(all: &Text, keep: bool, budget: &Budget) -> Result<Vec<Text>, Error> {
    budget.work(all.len())?;
    let mut lines = Vec::new();
    let mut rest = all.as_str();
    let is_break = |char: char| {
        matches!(
            char,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    while !rest.is_empty() {
        budget.memory(size_of::<Value>())?;
        let at = rest.find(is_break).unwrap_or(rest.len());
        let ending = match rest[at..].starts_with("\r\n") {
            true => 2,
            false => rest[at..].chars().next().map_or(0, char::len_utf8),
        };
        let end = if keep { at + ending } else { at };
        lines.push(all.part_of(&rest[..end]));
        rest = &rest[at + ending..];
    }
    Ok(lines)
}

fn partition(all: &Text, name: &str, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [separator] = args.bind(name, ["sep"])?;
    let separator = text(required(separator, name, "sep")?, name)?;
    if separator.is_empty() {
        return Err(Error::runtime("an empty separator"));
    }
    let found = match name {
        "partition" => all.as_str().find(separator.as_str()),
        _ => all.as_str().rfind(separator.as_str()),
    };
    let part = |range| Value::Str(all.part(range));
    let empty = || part(0..0);
    let parts = match found {
        Some(at) => {
            let end = at + separator.len();
            vec![part(0..at), part(at..end), part(end..all.len())]
        }
        None if name == "partition" => vec![part(0..all.len()), empty(), empty()],
        None => vec![empty(), empty(), part(0..all.len())],
    };
    Value::tuple(parts, budget)
}

/// The part from `start` to `end`, which count characters, and where it begins; `None` where the
/// start is past the end.
fn window(
    all: &Text,
    start: Option<&Value>,
    end: Option<&Value>,
) -> Result<Option<(Text, usize)>, Error> {
    let is_given = |value: Option<&Value>| !matches!(value, None | Some(Value::None));
    if !is_given(start) && !is_given(end) {
        return Ok(Some((all.clone(), 0)));
    }
    let len = char_count(all.as_str()) as i64;
    let place = |value: Option<&Value>, default: i64| {
        let at = match value.filter(|value| is_given(Some(value))) {
            Some(value) => int(value, "a start or an end")?,
            None => default,
        };
        Ok::<_, Error>(if at < 0 {
            at.saturating_add(len).max(0)
        } else {
            at
        })
    };
    let (start, end) = (place(start, 0)?, place(end, len)?.min(len));
    if start > end {
        return Ok(None);
    }
    // Neither is negative, and both are at most the text's length.
    let (first, last) = (start as usize, end as usize);
    let range = byte_of(all.as_str(), first)..byte_of(all.as_str(), last);
    Ok(Some((all.part(range), first)))
}

fn affix(all: &Text, name: &str, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [affix, start, end] = args.bind(name, ["affix", "start", "end"])?;
    let affix = required(affix, name, "affix")?;
    let Some((all, _)) = window(all, start.as_ref(), end.as_ref())? else {
        return Ok(Value::Bool(false));
    };
    let fits = |affix: &str| match name {
        "startswith" => all.as_str().starts_with(affix),
        _ => all.as_str().ends_with(affix),
    };
    let is = match &affix {
        Value::Str(affix) | Value::Markup(affix) => fits(affix.as_str()),
        Value::Tuple(seq) => {
            let mut is = false;
            for affix in seq.items() {
                let affix = text(affix.clone(), name)?;
                budget.work(affix.len())?;
                is = is || fits(affix.as_str());
            }
            is
        }
        other => return Err(wrong(name, "a string or a tuple of strings", other)),
    };
    Ok(Value::Bool(is))
}

fn remove_affix(all: &Text, name: &str, args: Args) -> Result<Value, Error> {
    let [affix] = args.bind(name, ["affix"])?;
    let affix = text(required(affix, name, "affix")?, name)?;
    let rest = match name {
        "removeprefix" => all.as_str().strip_prefix(affix.as_str()),
        _ => all.as_str().strip_suffix(affix.as_str()),
    };
    Ok(Value::Str(
        rest.map_or_else(|| all.clone(), |rest| all.part_of(rest)),
    ))
}

fn find(all: &Text, name: &str, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [part, start, end] = args.bind(name, ["sub", "start", "end"])?;
    let part = text(required(part, name, "sub")?, name)?;
    budget.work(2 * all.len() + part.len())?;
    let window = window(all, start.as_ref(), end.as_ref())?;
    if name == "count" {
        let count = window.map_or(0, |(within, _)| match part.is_empty() {
            true => char_count(within.as_str()) + 1,
            false => within.as_str().matches(part.as_str()).count(),
        });
        return Ok(Value::Int(count as i64));
    }
    let found = window.and_then(|(within, first)| {
        let at = match name.starts_with('r') {
            true => within.as_str().rfind(part.as_str()),
            false => within.as_str().find(part.as_str()),
        };
        Some(first + char_count(&within.as_str()[..at?]))
    });
    match found {
        Some(at) => Ok(Value::Int(at as i64)),
        None if name.ends_with("index") => Err(Error::runtime("the string is not found")),
        None => Ok(Value::Int(-1)),
    }
}

/// The text with `old` replaced by `new`, at most `count` times unless that is negative.
pub(crate) fn replaced(
    all: &Text,
    (old, new): (&Text, &Text),
    count: i64,
    budget: &Budget,
) -> Result<Text, Error> {
    budget.work(all.len() + old.len())?;
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let mut out = Builder::default();
    let mut done = 0;
    for (at, found) in all.as_str().match_indices(old.as_str()).take(most) {
        budget.steps(1)?;
        out.push(&all.part(done..at), budget)?;
        out.push(new, budget)?;
        done = at + found.len();
    }
    if done == 0 && out.len() == 0 {
        return Ok(all.clone());
    }
    out.push(&all.part(done..all.len()), budget)?;
    Ok(out.finish())
}

fn join(separator: &Text, items: &Value, budget: &Budget) -> Result<Value, Error> {
    let items = iterate(items, budget)?;
    let mut out = Builder::default();
    for (at, item) in items.items().iter().enumerate() {
        budget.steps(1)?;
        if at > 0 {
            out.push(separator, budget)?;
        }
        let Some(part) = item.text() else {
            return Err(wrong("join", "strings", item));
        };
        out.push(part, budget)?;
    }
    Ok(Value::Str(out.finish()))
}

fn justified(all: &Text, name: &str, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [width, fill] = args.bind(name, ["width", "fillchar"])?;
    let width = int(&required(width, name, "width")?, name)?;
    let fill = match fill {
        None => Text::own(" "),
        Some(fill) => {
            let fill = text(fill, name)?;
            let mut chars = fill.as_str().chars();
            match (chars.next(), chars.next()) {
                (Some(_), None) if name != "zfill" => fill,
                _ => return Err(Error::runtime(format!("{name} fills with one character"))),
            }
        }
    };
    let missing = missing(all, width)?;
    let result = match name {
        "ljust" => filled(all, (0, missing), &fill, budget)?,
        "rjust" => filled(all, (missing, 0), &fill, budget)?,
        "zfill" => {
            let sign = usize::from(all.as_str().starts_with(['+', '-']));
            let mut out = Builder::default();
            out.push(&all.part(0..sign), budget)?;
            let digits = all.part(sign..all.len());
            out.push(
                &filled(&digits, (missing, 0), &Text::own("0"), budget)?,
                budget,
            )?;
            out.finish()
        }
        _ => centered(all, width, &fill, budget)?,
    };
    Ok(Value::Str(result))
}

fn is(all: &Text, name: &str) -> Result<bool, Error> {
    let all = all.as_str();
    let every = |wanted: fn(&char) -> bool| !all.is_empty() && all.chars().all(|c| wanted(&c));
    Ok(match name {
        "isascii" => all.is_ascii(),
        "isspace" => every(|char| is_space(*char)),
        "islower" => is_lower(all),
        "isupper" => is_upper(all),
        _ if !all.is_ascii() => {
            return Err(Error::unsupported(format!("'{name}' of what is not ASCII")));
        }
        "isalpha" => every(char::is_ascii_alphabetic),
        "isalnum" => every(char::is_ascii_alphanumeric),
        "isdigit" | "isdecimal" | "isnumeric" => every(char::is_ascii_digit),
        _ => {
            return Err(Error::unsupported(format!(
                "the method '{name}' of a string"
            )));
        }
    })
}

pub(crate) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

pub(crate) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}
