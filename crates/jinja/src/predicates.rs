//! Tests, by name.

use crate::args::{Args, required, wrong};
use crate::ast::{Comparison, Operator};
use crate::budget::Budget;
use crate::error::Error;
use crate::filters;
use crate::methods::{is_lower, is_upper};
use crate::ops;
use crate::show::string;
use crate::value::Value;

const KNOWN: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

pub(crate) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

pub(crate) fn unknown(name: &str) -> Error {
    Error::runtime(format!("there is no test '{name}'"))
}

/// `value is name(args)`.
pub(crate) fn apply(name: &str, value: &Value, args: Args, budget: &Budget) -> Result<bool, Error> {
    budget.steps(1)?;
    let comparison = match name {
        "==" | "eq" | "equalto" => Some(Comparison::Eq),
        "!=" | "ne" => Some(Comparison::Ne),
        "<" | "lt" | "lessthan" => Some(Comparison::Lt),
        "<=" | "le" => Some(Comparison::Le),
        ">" | "gt" | "greaterthan" => Some(Comparison::Gt),
        ">=" | "ge" => Some(Comparison::Ge),
        "in" => Some(Comparison::In),
        _ => None,
    };
    if let Some(comparison) = comparison {
        let [other] = args.bind(name, ["other"])?;
        let other = required(other, name, "other")?;
        return ops::compare(comparison, value, &other, budget);
    }
    match name {
        "divisibleby" => {
            let [number] = args.bind(name, ["num"])?;
            remainder_is(value, &required(number, name, "num")?, 0, budget)
        }
        "sameas" => {
            let [other] = args.bind(name, ["other"])?;
            same(value, &required(other, name, "other")?)
        }
        _ => {
            let [] = args.bind(name, [])?;
            unary(name, value, budget)
        }
    }
}

fn unary(name: &str, value: &Value, budget: &Budget) -> Result<bool, Error> {
    if matches!(name, "filter" | "test") {
        ops::check_hashable(value)?;
    }
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => value.text().is_some(),
        "escaped" => matches!(value, Value::Markup(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => is_sequence(value),
        "iterable" => is_iterable(value),
        "callable" => value.is_callable(),
        "odd" => remainder_is(value, &Value::Int(2), 1, budget)?,
        "even" => remainder_is(value, &Value::Int(2), 0, budget)?,
        "lower" | "upper" => {
            let text = string(value, budget)?;
            budget.work(2 * text.len())?;
            match name {
                "lower" => is_lower(text.as_str()),
                _ => is_upper(text.as_str()),
            }
        }
        "filter" => value
            .text()
            .is_some_and(|name| filters::is_known(name.as_str())),
        "test" => value.text().is_some_and(|name| is_known(name.as_str())),
        name => return Err(unknown(name)),
    })
}

fn remainder_is(
    value: &Value,
    divisor: &Value,
    wanted: i64,
    budget: &Budget,
) -> Result<bool, Error> {
    if value.text().is_some() {
        return Err(wrong("this test", "a number", value));
    }
    let rest = ops::binary(Operator::Mod, value, divisor, budget)?;
    ops::equal(&rest, &Value::Int(wanted), budget)
}

/// Python finds texts and numbers to be the same object by rules of its own.
fn same(left: &Value, right: &Value) -> Result<bool, Error> {
    let is_vague = |value: &Value| {
        matches!(
            value,
            Value::Int(_)
                | Value::Float(_)
                | Value::Str(_)
                | Value::Markup(_)
                | Value::Range(_)
                | Value::View(..)
                | Value::Method(..)
                | Value::Undefined(_)
                | Value::Function(_)
        )
    };
    match left.type_name() == right.type_name() && is_vague(left) {
        true => Err(Error::unsupported(format!(
            "'sameas' of values of type {}",
            left.type_name()
        ))),
        false => Ok(ops::same_object(left, right)),
    }
}

fn is_sequence(value: &Value) -> bool {
    matches!(
        value,
        Value::Str(_)
            | Value::Markup(_)
            | Value::List(_)
            | Value::Tuple(_)
            | Value::Dict(_)
            | Value::Range(_)
            | Value::Undefined(_)
    )
}

fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || matches!(value, Value::View(..) | Value::Iter(_) | Value::Loop(_))
}
