use super::pick::Key;
use crate::access::iterate;
use crate::args::{Args, flag, int, int_or, required, text, wrong};
use crate::ast::Operator;
use crate::budget::Budget;
use crate::error::Error;
use crate::ops::{self, equal, is_less, sorted_by_keys};
use crate::show::string;
use crate::text::{Builder, Text};
use crate::value::{Value, View};

pub(super) fn list(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("list", [])?;
    Ok(Value::List(iterate(&value, budget)?))
}

pub(super) fn first(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("first", [])?;
    if let Value::Iter(iter) = &value {
        // The others are still to come.
        let at = iter.at.get();
        let item = iter.items.items().get(at).cloned();
        iter.at.set(at + usize::from(item.is_some()));
        return Ok(item.unwrap_or(Value::Undefined(None)));
    }
    let items = iterate(&value, budget)?;
    Ok(items
        .items()
        .first()
        .cloned()
        .unwrap_or(Value::Undefined(None)))
}

pub(super) fn last(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("last", [])?;
    check_reversible(&value, "last")?;
    let items = iterate(&value, budget)?;
    Ok(items
        .items()
        .last()
        .cloned()
        .unwrap_or(Value::Undefined(None)))
}

fn check_reversible(value: &Value, filter: &str) -> Result<(), Error> {
    match value {
        Value::Iter(_) => Err(wrong(filter, "a sequence", value)),
        _ => Ok(()),
    }
}

pub(super) fn reverse(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [] = args.bind("reverse", [])?;
    if let Value::Str(text) = &value {
        let mut out = Builder::default();
        for (at, char) in text.as_str().char_indices().rev() {
            out.push(&text.part(at..at + char.len_utf8()), budget)?;
        }
        return Ok(Value::Str(out.finish()));
    }
    let items = iterate(&value, budget)?;
    budget.memory(size_of_val(items.items()))?;
    let items: Vec<_> = items.items().iter().rev().cloned().collect();
    match value {
        // Python makes a list where it cannot go backwards otherwise.
        Value::Iter(_) => Value::list(items, budget),
        _ => Value::iter(items, budget),
    }
}

pub(super) fn join(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [separator, attribute] = args.bind("join", ["d", "attribute"])?;
    let separator = match separator {
        Some(separator) => string(&separator, budget)?,
        None => Text::own(""),
    };
    let key = Key::new(attribute, true, budget)?;
    let mut out = Builder::default();
    for (at, item) in iterate(&value, budget)?.items().iter().enumerate() {
        budget.steps(1)?;
        if at > 0 {
            out.push(&separator, budget)?;
        }
        let item = key.of(item, budget)?;
        out.push(&string(&item, budget)?, budget)?;
    }
    Ok(Value::Str(out.finish()))
}

pub(super) fn sort(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [reverse, case, attribute] =
        args.bind("sort", ["reverse", "case_sensitive", "attribute"])?;
    let keys = Key::several(attribute, flag(case.as_ref()), budget)?;
    let items = iterate(&value, budget)?;
    let mut pairs = Vec::new();
    for item in items.items() {
        let parts = keys.iter().map(|key| key.of(item, budget));
        let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
        budget.memory(size_of::<(Value, Value)>())?;
        pairs.push((Value::list(parts, budget)?, item.clone()));
    }
    Value::list(
        sorted_by_keys(pairs, flag(reverse.as_ref()), budget)?,
        budget,
    )
}

pub(super) fn dictsort(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [case, by, reverse] = args.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    let by = match by {
        Some(by) => text(by, "dictsort")?,
        None => Text::own("key"),
    };
    let at = match by.as_str() {
        "key" => 0,
        "value" => 1,
        _ => return Err(Error::runtime("dictsort sorts by 'key' or 'value'")),
    };
    let Value::Dict(map) = value else {
        return Err(wrong("dictsort", "a mapping", &value));
    };
    let key = Key::new(None, flag(case.as_ref()), budget)?;
    let items = iterate(&Value::View(View::Items, map), budget)?;
    let mut pairs = Vec::new();
    for item in items.items() {
        let Value::Tuple(pair) = item else { continue };
        budget.memory(size_of::<(Value, Value)>())?;
        pairs.push((key.of(&pair.items()[at], budget)?, item.clone()));
    }
    Value::list(
        sorted_by_keys(pairs, flag(reverse.as_ref()), budget)?,
        budget,
    )
}

pub(super) fn unique(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [case, attribute] = args.bind("unique", ["case_sensitive", "attribute"])?;
    let key = Key::new(attribute, flag(case.as_ref()), budget)?;
    let (mut seen, mut kept) = (Vec::new(), Vec::new());
    'items: for item in iterate(&value, budget)?.items() {
        let key = key.of(item, budget)?;
        ops::check_hashable(&key)?;
        for other in &seen {
            if equal(other, &key, budget)? {
                continue 'items;
            }
        }
        budget.memory(2 * size_of::<Value>())?;
        seen.push(key);
        kept.push(item.clone());
    }
    Value::iter(kept, budget)
}

pub(super) fn min(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    extreme(&value, args, "min", budget)
}

pub(super) fn max(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    extreme(&value, args, "max", budget)
}

fn extreme(value: &Value, args: Args, which: &str, budget: &Budget) -> Result<Value, Error> {
    let [case, attribute] = args.bind(which, ["case_sensitive", "attribute"])?;
    let key = Key::new(attribute, flag(case.as_ref()), budget)?;
    let mut best: Option<(Value, Value)> = None;
    for item in iterate(value, budget)?.items() {
        let key = key.of(item, budget)?;
        let is_better = match &best {
            None => true,
            Some((old, _)) if which == "min" => is_less(&key, old, budget)?,
            Some((old, _)) => is_less(old, &key, budget)?,
        };
        if is_better {
            best = Some((key, item.clone()));
        }
    }
    Ok(best.map_or(Value::Undefined(None), |(_, item)| item))
}

pub(super) fn sum(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [attribute, start] = args.bind("sum", ["attribute", "start"])?;
    let mut total = start.unwrap_or(Value::Int(0));
    if total.text().is_some() {
        return Err(Error::runtime("sum cannot add strings"));
    }
    let key = Key::new(attribute, true, budget)?;
    for item in iterate(&value, budget)?.items() {
        let item = key.of(item, budget)?;
        total = ops::binary(Operator::Add, &total, &item, budget)?;
    }
    Ok(total)
}

pub(super) fn batch(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [count, fill] = args.bind("batch", ["linecount", "fill_with"])?;
    let count = int(&required(count, "batch", "linecount")?, "batch")?;
    let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
        return Err(Error::unsupported("batches of no items"));
    };
    let fill = fill.filter(|fill| !matches!(fill, Value::None));
    let items = iterate(&value, budget)?;
    let mut batches = Vec::new();
    for chunk in items.items().chunks(count) {
        let missing = if fill.is_some() {
            count - chunk.len()
        } else {
            0
        };
        budget.memory(missing.saturating_mul(size_of::<Value>()))?;
        let mut batch = chunk.to_vec();
        batch.extend(fill.iter().cycle().take(missing).cloned());
        batches.push(Value::list(batch, budget)?);
    }
    Value::iter(batches, budget)
}

pub(super) fn slice(value: Value, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [count, fill] = args.bind("slice", ["slices", "fill_with"])?;
    let count = int_or(count.as_ref(), 0, "slice")?;
    let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
        return Err(Error::runtime("slice needs at least one slice"));
    };
    let items = iterate(&value, budget)?;
    budget.memory(count.saturating_mul(size_of::<Value>()))?;
    let (each, extra) = (items.items().len() / count, items.items().len() % count);
    let (mut slices, mut at) = (Vec::new(), 0);
    for number in 0..count {
        let len = each + usize::from(number < extra);
        let mut part = items.items()[at..at + len].to_vec();
        at += len;
        match &fill {
            Some(Value::None) | None => {}
            Some(fill) if number >= extra => part.push(fill.clone()),
            Some(_) => {}
        }
        slices.push(Value::list(part, budget)?);
    }
    Value::iter(slices, budget)
}
