//! Attributes, items and slices.

use std::rc::Rc;

use crate::budget::Budget;
use crate::error::Error;
use crate::methods;
use crate::ops;
use crate::text::{Builder, Text};
use crate::value::{Loop, Method, Value, View};

/// `value.name`, where methods come before a dict's keys.
pub(crate) fn attribute(value: &Value, name: &Text, budget: &Budget) -> Result<Value, Error> {
    budget.steps(1)?;
    if let Value::Undefined(of) = value {
        return Err(Value::undefined_error(of.as_ref()));
    }
    if let Some(found) = real_attribute(value, name, budget)? {
        return Ok(found);
    }
    match value {
        Value::Dict(_) => item_only(value, &Value::Str(name.clone()), budget),
        _ => Ok(Value::Undefined(Some(name.clone()))),
    }
}

/// What Python has as an attribute; an item of a dict is none.
fn real_attribute(value: &Value, name: &Text, budget: &Budget) -> Result<Option<Value>, Error> {
    let found = match value {
        Value::Namespace(namespace) => namespace.get(name, budget)?,
        Value::Loop(of) => loop_attribute(of, name)?,
        Value::Tuple(seq) if seq.is_group() && name.as_str() == "grouper" => {
            seq.items().first().cloned()
        }
        Value::Tuple(seq) if seq.is_group() && name.as_str() == "list" => {
            seq.items().get(1).cloned()
        }
        Value::Cycler(cycler) if name.as_str() == "current" => {
            cycler.items.items().get(cycler.at.get()).cloned()
        }
        Value::Macro(of) if name.as_str() == "name" => {
            Some(of.name.clone().map_or(Value::None, Value::Str))
        }
        _ => None,
    };
    if found.is_some() {
        return Ok(found);
    }
    if methods::is_mutator(value, name.as_str()) {
        return Ok(Some(Value::Undefined(Some(name.clone()))));
    }
    if methods::is_method(value, name.as_str()) {
        let method = Method::new(value.clone(), name.clone(), budget)?;
        return Ok(Some(Value::Method(method)));
    }
    Ok(None)
}

fn loop_attribute(of: &Loop, name: &Text) -> Result<Option<Value>, Error> {
    let (items, index) = (of.items.items(), of.index.get());
    let int = |value: usize| Some(Value::Int(value as i64));
    let beyond = |item: Option<&Value>| {
        Some(
            item.cloned()
                .unwrap_or_else(|| Value::Undefined(Some(name.clone()))),
        )
    };
    Ok(match name.as_str() {
        "index" => int(index + 1),
        "index0" => int(index),
        "revindex" => int(items.len() - index),
        "revindex0" => int(items.len() - index - 1),
        "first" => Some(Value::Bool(index == 0)),
        "last" => Some(Value::Bool(index + 1 == items.len())),
        "length" => int(items.len()),
        "depth" => int(of.depth + 1),
        "depth0" => int(of.depth),
        "previtem" => beyond(index.checked_sub(1).and_then(|before| items.get(before))),
        "nextitem" => beyond(items.get(index + 1)),
        _ => None,
    })
}

/// `value[key]`.
pub(crate) fn item(value: &Value, key: &Value, budget: &Budget) -> Result<Value, Error> {
    budget.steps(1)?;
    if let Value::Undefined(of) = value {
        return Err(Value::undefined_error(of.as_ref()));
    }
    let found = item_only(value, key, budget)?;
    if let (Value::Undefined(_), Some(name)) = (&found, key.text())
        && let Some(found) = real_attribute(value, name, budget)?
    {
        return Ok(found);
    }
    Ok(found)
}

/// The item, without regard to attributes.
fn item_only(value: &Value, key: &Value, budget: &Budget) -> Result<Value, Error> {
    let missing = || Value::Undefined(key.text().cloned());
    let found = match (value, key) {
        (Value::Dict(map), key) => {
            return Ok(ops::lookup(map, key, budget)?.unwrap_or_else(missing));
        }
        (Value::List(seq) | Value::Tuple(seq), Value::Int(_) | Value::Bool(_)) => {
            let at = index(key, seq.items().len() as u64);
            at.and_then(|at| seq.items().get(at as usize)).cloned()
        }
        (Value::Range(span), Value::Int(_) | Value::Bool(_)) => {
            index(key, span.len()).map(|at| Value::Int(span.at(at)))
        }
        (Value::Str(text), Value::Int(_) | Value::Bool(_)) => {
            budget.work(text.len())?;
            let count = char_count(text.as_str());
            index(key, count as u64).map(|at| Value::Str(char_at(text, at as usize)))
        }
        (Value::Markup(_), Value::Int(_)) => {
            return Err(Error::unsupported("a character of a text marked as safe"));
        }
        _ => None,
    };
    Ok(found.unwrap_or_else(missing))
}

pub(crate) fn char_count(text: &str) -> usize {
    match text.is_ascii() {
        true => text.len(),
        false => text.chars().count(),
    }
}

/// The place of character `at` in bytes; the text's end where there are fewer.
pub(crate) fn byte_of(text: &str, at: usize) -> usize {
    match text.is_ascii() {
        true => at.min(text.len()),
        false => text
            .char_indices()
            .nth(at)
            .map_or(text.len(), |(byte, _)| byte),
    }
}

fn char_at(text: &Text, at: usize) -> Text {
    let from = byte_of(text.as_str(), at);
    let len = text.as_str()[from..]
        .chars()
        .next()
        .map_or(0, char::len_utf8);
    text.part(from..from + len)
}

/// The place that an index, which may count from the end, means among `len`.
fn index(key: &Value, len: u64) -> Option<u64> {
    let key = match key {
        Value::Int(key) => *key,
        Value::Bool(key) => i64::from(*key),
        _ => return None,
    };
    let at = match key < 0 {
        true => key as i128 + len as i128,
        false => key as i128,
    };
    (0..len as i128).contains(&at).then_some(at as u64)
}

/// The places that `[start:stop:step]` takes among `len`, as Python counts them.
pub(crate) fn places(
    bounds: [&Value; 3],
    len: usize,
) -> Result<impl Iterator<Item = usize> + use<>, Error> {
    let part = |value: &Value| match value {
        Value::None => Ok(None),
        Value::Int(value) => Ok(Some(*value as i128)),
        Value::Bool(value) => Ok(Some(i128::from(*value))),
        Value::Undefined(name) => Err(Value::undefined_error(name.as_ref())),
        other => {
            let found = other.type_name();
            Err(Error::runtime(format!(
                "slice indices must be integers or None, found {found}"
            )))
        }
    };
    let (start, stop, step) = (part(bounds[0])?, part(bounds[1])?, part(bounds[2])?);
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Error::runtime("a slice's step cannot be zero"));
    }
    let len = len as i128;
    let (lowest, highest) = match step > 0 {
        true => (0, len),
        false => (-1, len - 1),
    };
    let place = |value: i128| match value < 0 {
        true => (value + len).clamp(lowest, highest),
        false => value.clamp(lowest, highest),
    };
    let (first, end) = match step > 0 {
        true => (start.map_or(lowest, place), stop.map_or(highest, place)),
        false => (start.map_or(highest, place), stop.map_or(lowest, place)),
    };
    let mut at = first;
    Ok(std::iter::from_fn(move || {
        let inside = if step > 0 { at < end } else { at > end };
        let here = inside.then_some(at as usize);
        at += step;
        here
    }))
}

/// `value[start:stop:step]`.
pub(crate) fn slice(value: &Value, bounds: [&Value; 3], budget: &Budget) -> Result<Value, Error> {
    match value {
        Value::Str(text) => slice_text(text, bounds, budget).map(Value::Str),
        Value::List(seq) | Value::Tuple(seq) => {
            budget.work(seq.items().len())?;
            let items = places(bounds, seq.items().len())?;
            let items = items.map(|at| seq.items()[at].clone()).collect();
            match value {
                Value::List(_) => Value::list(items, budget),
                _ => Value::tuple(items, budget),
            }
        }
        Value::Range(_) => Err(Error::unsupported("a slice of a range")),
        Value::Undefined(name) => Err(Value::undefined_error(name.as_ref())),
        other => {
            let found = other.type_name();
            Err(Error::runtime(format!(
                "a value of type {found} cannot be sliced"
            )))
        }
    }
}

fn slice_text(text: &Text, bounds: [&Value; 3], budget: &Budget) -> Result<Text, Error> {
    budget.work(2 * text.len())?;
    let all = text.as_str();
    let mut places = places(bounds, char_count(all))?.peekable();
    if matches!(bounds[2], Value::None | Value::Int(1)) {
        let first = places.peek().copied().unwrap_or(0);
        let count = places.count();
        let from = byte_of(all, first);
        let to = from + byte_of(&all[from..], count);
        return Ok(text.part(from..to));
    }
    let mut chars = Vec::new();
    budget.memory(all.len() * size_of::<(char, bool)>())?;
    for (run, own) in text.runs() {
        chars.extend(run.chars().map(|char| (char, own)));
    }
    let mut out = Builder::default();
    for at in places {
        let (char, own) = chars[at];
        out.char(char, own, budget)?;
    }
    Ok(out.finish())
}

/// All items of what can be gone through, in order; those of a generator are then gone.
pub(crate) fn iterate(value: &Value, budget: &Budget) -> Result<Rc<crate::value::Seq>, Error> {
    use crate::value::Seq;
    let items = match value {
        Value::List(seq) | Value::Tuple(seq) => return Ok(Rc::clone(seq)),
        Value::Undefined(_) => Vec::new(),
        Value::Str(text) => {
            budget.memory(text.len() * size_of::<Value>())?;
            let chars = text.as_str().char_indices();
            let part = |(at, char): (usize, char)| Value::Str(text.part(at..at + char.len_utf8()));
            chars.map(part).collect()
        }
        Value::Dict(map) | Value::View(View::Keys, map) => {
            map.entries.iter().map(|(key, _)| key.clone()).collect()
        }
        Value::View(View::Values, map) => {
            map.entries.iter().map(|(_, value)| value.clone()).collect()
        }
        Value::View(View::Items, map) => {
            let pair = |(key, value): &(Value, Value)| {
                Value::tuple(vec![key.clone(), value.clone()], budget)
            };
            map.entries.iter().map(pair).collect::<Result<_, _>>()?
        }
        Value::Range(span) => {
            budget.memory(span.len() as usize * size_of::<Value>())?;
            (0..span.len()).map(|at| Value::Int(span.at(at))).collect()
        }
        Value::Iter(iter) => {
            let from = iter.at.replace(iter.items.items().len());
            if from == 0 {
                return Ok(Rc::clone(&iter.items));
            }
            budget.memory(size_of_val(iter.items.items()))?;
            iter.items.items()[from..].to_vec()
        }
        Value::Markup(_) => return Err(Error::unsupported("going through a text marked as safe")),
        Value::Loop(_) => return Err(Error::unsupported("going through 'loop' itself")),
        other => {
            let found = other.type_name();
            return Err(Error::runtime(format!(
                "a value of type {found} is not iterable"
            )));
        }
    };
    Seq::new(items, budget)
}
