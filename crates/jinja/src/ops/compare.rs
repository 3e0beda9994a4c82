use std::cmp::Ordering;

use super::number::{Number, number};
use crate::access::iterate;
use crate::ast::Comparison;
use crate::budget::Budget;
use crate::error::Error;
use crate::value::{Map, Seq, Value, View};

/// `left comparison right`.
pub(crate) fn compare(
    comparison: Comparison,
    left: &Value,
    right: &Value,
    budget: &Budget,
) -> Result<bool, Error> {
    let is = |symbol, wanted: fn(Ordering) -> bool| {
        Ok(order(left, right, symbol, budget)?.is_some_and(wanted))
    };
    match comparison {
        Comparison::Eq => equal(left, right, budget),
        Comparison::Ne => Ok(!equal(left, right, budget)?),
        Comparison::Lt => is("<", Ordering::is_lt),
        Comparison::Le => is("<=", Ordering::is_le),
        Comparison::Gt => is(">", Ordering::is_gt),
        Comparison::Ge => is(">=", Ordering::is_ge),
        Comparison::In => contains(right, left, budget),
        Comparison::NotIn => Ok(!contains(right, left, budget)?),
    }
}

/// Values are at most as deep as [`VALUE_DEPTH_MAX`](crate::limits::VALUE_DEPTH_MAX), and so is
/// this.
pub(crate) fn equal(left: &Value, right: &Value, budget: &Budget) -> Result<bool, Error> {
    budget.steps(1)?;
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        return Ok(order_numbers(left, right) == Some(Ordering::Equal));
    }
    if let (Some(left), Some(right)) = (left.text(), right.text()) {
        budget.work(left.len().min(right.len()))?;
        return Ok(left.as_str() == right.as_str());
    }
    match (left, right) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => Ok(true),
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            equal_seqs(left, right, budget)
        }
        (Value::Dict(left), Value::Dict(right)) => equal_maps(left, right, budget),
        (Value::Range(left), Value::Range(right)) => Ok(left.len() == right.len()
            && (left.len() == 0
                || (left.start == right.start && (left.len() == 1 || left.step == right.step)))),
        (Value::View(..), _) | (_, Value::View(..)) => Err(Error::unsupported(
            "comparing the keys, values or items of a dict",
        )),
        (Value::Method(..), Value::Method(..)) => Err(Error::unsupported("comparing methods")),
        (Value::Function(left), Value::Function(right)) => Ok(left == right),
        (left, right) => Ok(same_object(left, right)),
    }
}

fn equal_seqs(left: &Seq, right: &Seq, budget: &Budget) -> Result<bool, Error> {
    if left.items().len() != right.items().len() {
        return Ok(false);
    }
    for (left, right) in left.items().iter().zip(right.items()) {
        budget.steps(1)?;
        if !same_object(left, right) && !equal(left, right, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_maps(left: &Map, right: &Map, budget: &Budget) -> Result<bool, Error> {
    if left.entries.len() != right.entries.len() {
        return Ok(false);
    }
    for (key, value) in &left.entries {
        let other = lookup(right, key, budget)?;
        let is_equal = match other {
            Some(other) => equal(value, &other, budget)?,
            None => false,
        };
        if !is_equal {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Python's `is`, for values that live at a place.
pub(crate) fn same_object(left: &Value, right: &Value) -> bool {
    use std::rc::Rc;
    match (left, right) {
        (Value::None, Value::None) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            Rc::ptr_eq(left, right)
        }
        (Value::Dict(left), Value::Dict(right)) => Rc::ptr_eq(left, right),
        (Value::Iter(left), Value::Iter(right)) => Rc::ptr_eq(left, right),
        (Value::Namespace(left), Value::Namespace(right)) => Rc::ptr_eq(left, right),
        (Value::Loop(left), Value::Loop(right)) => Rc::ptr_eq(left, right),
        (Value::Macro(left), Value::Macro(right)) => Rc::ptr_eq(left, right),
        (Value::Joiner(left), Value::Joiner(right)) => Rc::ptr_eq(left, right),
        (Value::Cycler(left), Value::Cycler(right)) => Rc::ptr_eq(left, right),
        _ => false,
    }
}

/// The value of a key.
pub(crate) fn lookup(map: &Map, key: &Value, budget: &Budget) -> Result<Option<Value>, Error> {
    budget.steps(1 + map.entries.len() as u64 / 8)?;
    if let Value::Str(key) = key {
        for (other, value) in &map.entries {
            let Some(other) = other.text().filter(|other| other.len() == key.len()) else {
                continue;
            };
            budget.work(key.len())?;
            if other.as_str() == key.as_str() {
                return Ok(Some(value.clone()));
            }
        }
        return Ok(None);
    }
    for (other, value) in &map.entries {
        if equal(other, key, budget)? {
            return Ok(Some(value.clone()));
        }
    }
    Ok(None)
}

/// Refuses what cannot be a key, which is known without going through the value.
pub(crate) fn check_hashable(value: &Value) -> Result<(), Error> {
    if value.is_hashable() {
        return Ok(());
    }
    let mut found = value;
    while let Value::Tuple(seq) = found {
        let inner = seq.items().iter().find(|item| !item.is_hashable());
        let Some(inner) = inner else { break };
        found = inner;
    }
    let found = found.type_name();
    Err(Error::runtime(format!(
        "a value of type {found} cannot be a key"
    )))
}

/// Which of two values comes first; `None` where neither does and they are not equal.
pub(crate) fn order(
    left: &Value,
    right: &Value,
    symbol: &str,
    budget: &Budget,
) -> Result<Option<Ordering>, Error> {
    budget.steps(1)?;
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        return Ok(order_numbers(left, right));
    }
    if let (Some(left), Some(right)) = (left.text(), right.text()) {
        budget.work(left.len().min(right.len()))?;
        return Ok(Some(left.as_str().cmp(right.as_str())));
    }
    match (left, right) {
        (Value::List(left), Value::List(right)) | (Value::Tuple(left), Value::Tuple(right)) => {
            for (left, right) in left.items().iter().zip(right.items()) {
                if !equal(left, right, budget)? {
                    return order(left, right, symbol, budget);
                }
            }
            Ok(Some(left.items().len().cmp(&right.items().len())))
        }
        (Value::Undefined(name), _) | (_, Value::Undefined(name)) => {
            Err(Value::undefined_error(name.as_ref()))
        }
        (Value::View(..), Value::View(..)) => Err(Error::unsupported(
            "comparing the keys, values or items of a dict",
        )),
        (left, right) => {
            let (left, right) = (left.type_name(), right.type_name());
            Err(Error::runtime(format!(
                "'{symbol}' does not go with {left} and {right}"
            )))
        }
    }
}

fn order_numbers(left: Number, right: Number) -> Option<Ordering> {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => Some(left.cmp(&right)),
        (Number::Float(left), Number::Float(right)) => left.partial_cmp(&right),
        (Number::Int(left), Number::Float(right)) => order_mixed(left, right),
        (Number::Float(left), Number::Int(right)) => {
            order_mixed(right, left).map(Ordering::reverse)
        }
    }
}

/// Exactly, as Python does, also where the integer has no float.
fn order_mixed(int: i64, float: f64) -> Option<Ordering> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= LIMIT {
        return Some(Ordering::Less);
    }
    if float < -LIMIT {
        return Some(Ordering::Greater);
    }
    // In range, and without a fraction.
    let whole = float.trunc() as i64;
    Some(int.cmp(&whole).then(0.0.partial_cmp(&float.fract())?))
}

/// `item in container`.
pub(crate) fn contains(container: &Value, item: &Value, budget: &Budget) -> Result<bool, Error> {
    match (container, item) {
        (Value::Str(text) | Value::Markup(text), item) => match item.text() {
            Some(part) => {
                budget.work(text.len() + part.len())?;
                Ok(text.as_str().contains(part.as_str()))
            }
            None => {
                let found = item.type_name();
                Err(Error::runtime(format!(
                    "only a string can be in a string, not {found}"
                )))
            }
        },
        (Value::Dict(map) | Value::View(View::Keys, map), item) => {
            check_hashable(item)?;
            Ok(lookup(map, item, budget)?.is_some())
        }
        (Value::Range(span), Value::Int(item)) => {
            let distance = *item as i128 - span.start as i128;
            let step = span.step as i128;
            let fits = distance % step == 0 && distance / step >= 0;
            Ok(fits && distance / step < span.len() as i128)
        }
        (container, item) => {
            let items = iterate(container, budget)?;
            for other in items.items() {
                if same_object(other, item) || equal(other, item, budget)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}
