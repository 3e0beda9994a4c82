//! Methods of Python's values.

mod case;
mod strings;
mod trim;

pub(crate) use case::{capitalized, lower, upper};
pub(crate) use strings::{is_lower, is_upper, replaced, split_lines};
pub(crate) use trim::{Side, centered, trimmed};

use std::rc::Rc;

use crate::access::iterate;
use crate::args::{Args, required};
use crate::budget::Budget;
use crate::error::Error;
use crate::ops::{self, equal};
use crate::value::{Function, Loop, Map, Seq, Value, View};

const DICT: [&str; 5] = ["get", "items", "keys", "values", "copy"];
const DICT_MUTATORS: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];
const LIST: [&str; 3] = ["index", "count", "copy"];
const LIST_MUTATORS: [&str; 8] = [
    "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove",
];
const TUPLE: [&str; 2] = ["index", "count"];

pub(crate) fn is_method(value: &Value, name: &str) -> bool {
    match value {
        Value::Str(_) | Value::Markup(_) => strings::is_known(name),
        Value::Dict(_) => DICT.contains(&name),
        Value::List(_) => LIST.contains(&name),
        Value::Tuple(_) | Value::Range(_) => TUPLE.contains(&name),
        Value::Cycler(_) => ["next", "reset"].contains(&name),
        Value::Loop(_) => ["cycle", "changed"].contains(&name),
        Value::Function(Function::Dict) => name == "fromkeys",
        _ => false,
    }
}

/// A method that would change a value that others see: Jinja's sandbox has none.
pub(crate) fn is_mutator(value: &Value, name: &str) -> bool {
    match value {
        Value::Dict(_) => DICT_MUTATORS.contains(&name),
        Value::List(_) => LIST_MUTATORS.contains(&name),
        _ => false,
    }
}

/// `value.name(…)`, where [`is_method`] holds.
pub(crate) fn call(value: &Value, name: &str, args: Args, budget: &Budget) -> Result<Value, Error> {
    budget.steps(1)?;
    match value {
        Value::Str(text) => strings::call(text, name, args, budget),
        Value::Markup(_) => Err(Error::unsupported(format!(
            "'{name}' of a text marked as safe"
        ))),
        Value::Dict(map) => dict(map, name, args, budget),
        Value::List(seq) if name == "copy" => {
            let [] = args.bind(name, [])?;
            // Nothing can be changed in either, so one does for both.
            Ok(Value::List(seq.clone()))
        }
        Value::List(seq) | Value::Tuple(seq) => find(seq, name, args, budget),
        Value::Range(_) => find(&*iterate(value, budget)?, name, args, budget),
        Value::Cycler(cycler) => {
            let [] = args.bind(name, [])?;
            let (items, at) = (cycler.items.items(), cycler.at.get());
            if name == "reset" {
                cycler.at.set(0);
                return Ok(Value::None);
            }
            cycler.at.set((at + 1) % items.len().max(1));
            Ok(items.get(at).cloned().unwrap_or(Value::None))
        }
        Value::Loop(of) if name == "cycle" => match args.positional.len() {
            0 => Err(Error::runtime("'loop.cycle' was given no items")),
            len => Ok(args.positional[of.index.get() % len].clone()),
        },
        Value::Loop(of) => changed(of, args.positional, budget),
        other => Err(no_method(other, name)),
    }
}

fn dict(map: &Rc<Map>, name: &str, args: Args, budget: &Budget) -> Result<Value, Error> {
    if name == "get" {
        let [key, default] = args.bind("get", ["key", "default"])?;
        let key = required(key, "get", "key")?;
        let found = ops::lookup(map, &key, budget)?;
        return Ok(found.or(default).unwrap_or(Value::None));
    }
    let [] = args.bind(name, [])?;
    Ok(match name {
        "items" => Value::View(View::Items, map.clone()),
        "keys" => Value::View(View::Keys, map.clone()),
        "values" => Value::View(View::Values, map.clone()),
        // Nothing can be changed in either, so one does for both.
        _ => Value::Dict(map.clone()),
    })
}

/// `index` and `count`.
fn find(seq: &Seq, name: &str, args: Args, budget: &Budget) -> Result<Value, Error> {
    let [item] = args.bind(name, ["value"])?;
    let item = required(item, name, "value")?;
    let mut count = 0;
    for (at, other) in seq.items().iter().enumerate() {
        if equal(other, &item, budget)? {
            if name == "index" {
                return Ok(Value::Int(at as i64));
            }
            count += 1;
        }
    }
    match name {
        "index" => Err(Error::runtime("the value is not in the list")),
        _ => Ok(Value::Int(count)),
    }
}

/// Whether `loop.changed` is given other values than the last time.
fn changed(of: &Loop, values: Vec<Value>, budget: &Budget) -> Result<Value, Error> {
    let mut last = of.changed.borrow_mut();
    let mut is_same = last.as_ref().is_some_and(|old| old.len() == values.len());
    for (old, new) in last.iter().flatten().zip(&values) {
        is_same = is_same && equal(old, new, budget)?;
    }
    for value in &values {
        value.check_keepable("'loop.changed'")?;
    }
    budget.memory(size_of_val(values.as_slice()))?;
    *last = Some(values);
    Ok(Value::Bool(!is_same))
}

pub(crate) fn no_method(value: &Value, name: &str) -> Error {
    let found = value.type_name();
    match is_mutator(value, name) {
        true => Error::runtime(format!(
            "'{name}' would change a {found}, which templates may not"
        )),
        false => Error::runtime(format!("'{found} object' has no attribute '{name}'")),
    }
}
