//! Operators of values, as Python has them.

mod compare;
mod number;
mod sort;

pub(crate) use compare::{check_hashable, compare, equal, lookup, order, same_object};
pub(crate) use number::{Number, float_of, number};
pub(crate) use sort::sorted_by_keys;

use std::cmp::Ordering;

use crate::ast::{Operator, Sign};
use crate::budget::Budget;
use crate::error::Error;
use crate::format;
use crate::show::escape;
use crate::text::{Builder, Text};
use crate::value::{Map, Seq, Value};

/// `left operator right`.
pub(crate) fn binary(
    operator: Operator,
    left: &Value,
    right: &Value,
    budget: &Budget,
) -> Result<Value, Error> {
    if let (Value::Str(text), Operator::Mod) = (left, operator) {
        return format::percent(text, right, budget).map(Value::Str);
    }
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        return number::arithmetic(operator, left, right);
    }
    let result = match (operator, left, right) {
        (Operator::Add, left, right) => added(left, right, budget)?,
        (Operator::Mul, left, right) => repeated(left, right, budget)?,
        _ => None,
    };
    result.ok_or_else(|| {
        for value in [left, right] {
            if let Value::Undefined(name) = value {
                return Value::undefined_error(name.as_ref());
            }
        }
        if matches!((left, right), (Value::Markup(_), _) | (_, Value::Markup(_))) {
            return Error::unsupported("this operator on a text marked as safe");
        }
        let (left, right) = (left.type_name(), right.type_name());
        let symbol = symbol(operator);
        Error::runtime(format!("'{symbol}' does not go with {left} and {right}"))
    })
}

fn symbol(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Sub => "-",
        Operator::Mul => "*",
        Operator::Div => "/",
        Operator::FloorDiv => "//",
        Operator::Mod => "%",
        Operator::Pow => "**",
    }
}

fn added(left: &Value, right: &Value, budget: &Budget) -> Result<Option<Value>, Error> {
    let join = |left: &Text, right: &Text| {
        let mut out = Builder::default();
        out.push(left, budget)?;
        out.push(right, budget)?;
        Ok::<_, Error>(out.finish())
    };
    Ok(Some(match (left, right) {
        (Value::Str(left), Value::Str(right)) => Value::Str(join(left, right)?),
        (Value::Markup(left), Value::Markup(right)) => Value::Markup(join(left, right)?),
        (Value::Markup(left), Value::Str(right)) => {
            Value::Markup(join(left, &escape(right, budget)?)?)
        }
        (Value::Str(left), Value::Markup(right)) => {
            Value::Markup(join(&escape(left, budget)?, right)?)
        }
        (Value::List(left), Value::List(right)) => Value::list(both(left, right, budget)?, budget)?,
        (Value::Tuple(left), Value::Tuple(right)) => {
            Value::tuple(both(left, right, budget)?, budget)?
        }
        _ => return Ok(None),
    }))
}

fn both(left: &Seq, right: &Seq, budget: &Budget) -> Result<Vec<Value>, Error> {
    budget.memory((left.items().len() + right.items().len()) * size_of::<Value>())?;
    Ok([left.items(), right.items()].concat())
}

fn repeated(left: &Value, right: &Value, budget: &Budget) -> Result<Option<Value>, Error> {
    let (repeated, count) = match (left, right) {
        (value, Value::Int(count)) | (Value::Int(count), value) => (value, *count),
        (value, Value::Bool(count)) | (Value::Bool(count), value) => (value, i64::from(*count)),
        _ => return Ok(None),
    };
    let count = usize::try_from(count).unwrap_or(0);
    Ok(Some(match repeated {
        Value::Str(text) => {
            let mut out = Builder::default();
            out.repeat(text, count, budget)?;
            Value::Str(out.finish())
        }
        Value::List(seq) => Value::list(times(seq, count, budget)?, budget)?,
        Value::Tuple(seq) => Value::tuple(times(seq, count, budget)?, budget)?,
        _ => return Ok(None),
    }))
}

fn times(seq: &Seq, count: usize, budget: &Budget) -> Result<Vec<Value>, Error> {
    let len = seq.items().len().saturating_mul(count);
    budget.memory(len.saturating_mul(size_of::<Value>()))?;
    Ok(match len {
        0 => Vec::new(),
        _ => seq.items().iter().cycle().take(len).cloned().collect(),
    })
}

/// A sign before a value.
pub(crate) fn signed(sign: Sign, value: &Value) -> Result<Value, Error> {
    match (sign, number(value)) {
        (Sign::Plus, Some(Number::Int(value))) => Ok(Value::Int(value)),
        (Sign::Plus, Some(Number::Float(value))) => Ok(Value::Float(value)),
        (Sign::Minus, Some(Number::Int(value))) => value
            .checked_neg()
            .map(Value::Int)
            .ok_or_else(number::overflow),
        (Sign::Minus, Some(Number::Float(value))) => Ok(Value::Float(-value)),
        (_, None) => match value {
            Value::Undefined(name) => Err(Value::undefined_error(name.as_ref())),
            other => {
                let found = other.type_name();
                Err(Error::runtime(format!(
                    "a value of type {found} takes no sign"
                )))
            }
        },
    }
}

/// A dict of `pairs`, of which the last with a key counts and the first has the place.
pub(crate) fn dict(pairs: Vec<(Value, Value)>, budget: &Budget) -> Result<Value, Error> {
    let mut entries: Vec<(Value, Value)> = Vec::new();
    for (key, value) in pairs {
        compare::check_hashable(&key)?;
        let mut found = None;
        for (at, (other, _)) in entries.iter().enumerate() {
            if equal(other, &key, budget)? {
                found = Some(at);
                break;
            }
        }
        match found {
            Some(at) => entries[at].1 = value,
            None => entries.push((key, value)),
        }
    }
    Ok(Value::Dict(Map::new(entries, budget)?))
}

/// Less, by Python's `<`, for sorting.
pub(crate) fn is_less(left: &Value, right: &Value, budget: &Budget) -> Result<bool, Error> {
    Ok(order(left, right, "<", budget)? == Some(Ordering::Less))
}
