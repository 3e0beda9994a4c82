use crate::access::{byte_of, char_count};
use crate::args::{self, Args, flag, int_or, required, wrong};
use crate::budget::Budget;
use crate::error::Error;
use crate::lexer::is_space;
use crate::limits::WIDTH_MAX;
use crate::methods::{self, Side};
use crate::show::string;
use crate::text::{Builder, Text};
use crate::value::Value;

/// The text that a filter goes by: what the value is printed as.
fn soft(value: &Value, filter: &str, budget: &Budget) -> Result<Text, Error> {
    match value {
        Value::Markup(_) => Err(Error::unsupported(format!(
            "{filter} of a text marked as safe"
        ))),
        other => string(other, budget),
    }
}

macro_rules! plain {
    ($name:ident, $change:path) => {
        pub(super) fn $name(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
            let [] = args.bind(stringify!($name), [])?;
            $change(&soft(&value, stringify!($name), budget)?, budget).map(Value::Str)
        }
    };
}

plain!(upper, methods::upper);
plain!(lower, methods::lower);
plain!(capitalize, methods::capitalized);

/// Words begin after white space, `-` and opening brackets.
pub(super) fn title(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("title", [])?;
    let all = soft(&value, "title", budget)?;
    let is_border = |char: char| is_space(char) || "-({[<".contains(char);
    let mut out = Builder::default();
    let mut rest = all.as_str();
    while !rest.is_empty() {
        let borders = rest.len() - rest.trim_start_matches(is_border).len();
        let word = rest[borders..]
            .find(is_border)
            .map_or(rest.len(), |len| borders + len);
        out.push(&all.part_of(&rest[..borders]), budget)?;
        let written = methods::capitalized(&all.part_of(&rest[borders..word]), budget)?;
        out.push(&written, budget)?;
        rest = &rest[word..];
    }
    Ok(Value::Str(out.finish()))
}

pub(super) fn trim(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [chars] = args.bind("trim", ["chars"])?;
    let chars = match chars {
        None | Some(Value::None) => None,
        Some(chars) => Some(args::text(chars, "trim")?),
    };
    let trimmed =
        |all: &Text| methods::trimmed(all, chars.as_ref().map(Text::as_str), Side::Both, budget);
    match &value {
        Value::Markup(all) => trimmed(all).map(Value::Markup),
        other => trimmed(&string(other, budget)?).map(Value::Str),
    }
}

pub(super) fn center(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [width] = args.bind("center", ["width"])?;
    let width = int_or(width.as_ref(), 80, "center")?;
    let all = soft(&value, "center", budget)?;
    methods::centered(&all, width, &Text::own(" "), budget).map(Value::Str)
}

pub(super) fn replace(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [old, new, count] = args.bind("replace", ["old", "new", "count"])?;
    let old = string(&required(old, "replace", "old")?, budget)?;
    let new = string(&required(new, "replace", "new")?, budget)?;
    let count = match count {
        Some(Value::None) => -1,
        count => int_or(count.as_ref(), -1, "replace")?,
    };
    let all = string(&value, budget)?;
    methods::replaced(&all, (&old, &new), count, budget).map(Value::Str)
}

pub(super) fn indent(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"])?;
    let indention = match width {
        Some(Value::Str(text)) => text,
        width => {
            let width = usize::try_from(int_or(width.as_ref(), 4, "indent")?).unwrap_or(0);
            if width > WIDTH_MAX {
                let message = format!("an indent of {width}; the limit is {WIDTH_MAX}");
                return Err(Error::limit(message));
            }
            Text::own(" ".repeat(width))
        }
    };
    let Value::Str(all) = value else {
        return Err(wrong("indent", "a string", &value));
    };
    let (first, blank) = (flag(first.as_ref()), flag(blank.as_ref()));
    // A line ends the text: without one, an empty text has no line, and a last one is none.
    let mut with_end = Builder::default();
    with_end.push(&all, budget)?;
    with_end.own("\n", budget)?;
    let lines = methods::split_lines(&with_end.finish(), false, budget)?;
    let mut out = Builder::default();
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            out.own("\n", budget)?;
        }
        let is_indented = if at == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if is_indented {
            out.push(&indention, budget)?;
        }
        out.push(line, budget)?;
    }
    Ok(Value::Str(out.finish()))
}

pub(super) fn truncate(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [length, kill, end, leeway] =
        args.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let length = int_or(length.as_ref(), 255, "truncate")?;
    let leeway = match leeway {
        Some(Value::None) => 5,
        leeway => int_or(leeway.as_ref(), 5, "truncate")?,
    };
    let end = match end {
        None => Text::own("..."),
        Some(end) => args::text(end, "truncate")?,
    };
    let ending = char_count(end.as_str()) as i64;
    if length < ending || leeway < 0 {
        return Err(Error::runtime(
            "truncate was given too small a length or leeway",
        ));
    }
    // Python asks for no more than a length, which lists and dicts have too.
    let len = super::length(value.clone(), Args::default(), budget)?;
    if matches!(len, Value::Int(len) if len <= length.saturating_add(leeway)) {
        return Ok(value);
    }
    let all = args::text(value, "truncate")?;
    budget.work(2 * all.len())?;
    // Not negative, and less than the text's length.
    let kept = all.part(0..byte_of(all.as_str(), (length - ending) as usize));
    let kept = match kept.as_str().rfind(' ') {
        Some(at) if !flag(kill.as_ref()) => kept.part(0..at),
        _ => kept,
    };
    let mut out = Builder::default();
    out.push(&kept, budget)?;
    out.push(&end, budget)?;
    Ok(Value::Str(out.finish()))
}

pub(super) fn wordcount(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("wordcount", [])?;
    let all = soft(&value, "wordcount", budget)?;
    budget.work(2 * all.len())?;
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let words = all.as_str().split(|char| !is_word(char));
    Ok(Value::Int(
        words.filter(|word| !word.is_empty()).count() as i64
    ))
}
