use crate::ast::Operator;
use crate::error::Error;
use crate::value::Value;

/// What arithmetic takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

/// The number that a value is; a boolean is one too.
pub(crate) fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Int(value) => Some(Number::Int(*value)),
        Value::Bool(value) => Some(Number::Int(i64::from(*value))),
        Value::Float(value) => Some(Number::Float(*value)),
        _ => None,
    }
}

pub(crate) fn float_of(number: Number) -> f64 {
    match number {
        // The nearest float, as Python's conversion gives.
        Number::Int(value) => value as f64,
        Number::Float(value) => value,
    }
}

pub(super) fn overflow() -> Error {
    Error::unsupported("an integer of more than 64 bits")
}

fn by_zero() -> Error {
    Error::runtime("division by zero")
}

pub(super) fn arithmetic(operator: Operator, left: Number, right: Number) -> Result<Value, Error> {
    match (left, right) {
        (Number::Int(left), Number::Int(right)) => ints(operator, left, right),
        (left, right) => floats(operator, float_of(left), float_of(right)),
    }
}

fn ints(operator: Operator, left: i64, right: i64) -> Result<Value, Error> {
    let result = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Sub => left.checked_sub(right),
        Operator::Mul => left.checked_mul(right),
        Operator::Div if right == 0 => return Err(by_zero()),
        Operator::Div => return divided(left, right),
        Operator::FloorDiv | Operator::Mod if right == 0 => return Err(by_zero()),
        Operator::FloorDiv => left.checked_div(right).map(|quotient| {
            let inexact = left % right != 0 && (left < 0) != (right < 0);
            quotient - i64::from(inexact)
        }),
        Operator::Mod => {
            left.checked_rem(right)
                .map(|rest| match rest != 0 && (rest < 0) != (right < 0) {
                    true => rest + right,
                    false => rest,
                })
        }
        Operator::Pow if right < 0 => return power(left as f64, right as f64),
        Operator::Pow => u32::try_from(right)
            .ok()
            .and_then(|right| left.checked_pow(right)),
    };
    result.map(Value::Int).ok_or_else(overflow)
}

/// The quotient as a float, rounded once, as Python does.
fn divided(left: i64, right: i64) -> Result<Value, Error> {
    const EXACT: u64 = 1 << 53;
    match left.unsigned_abs() <= EXACT && right.unsigned_abs() <= EXACT {
        true => Ok(Value::Float(left as f64 / right as f64)),
        false => Err(Error::unsupported(
            "a quotient of integers of more than 53 bits",
        )),
    }
}

fn floats(operator: Operator, left: f64, right: f64) -> Result<Value, Error> {
    let result = match operator {
        Operator::Add => left + right,
        Operator::Sub => left - right,
        Operator::Mul => left * right,
        Operator::Div | Operator::FloorDiv | Operator::Mod if right == 0.0 => return Err(by_zero()),
        Operator::Div => left / right,
        Operator::FloorDiv => floored(left, right).0,
        Operator::Mod => floored(left, right).1,
        Operator::Pow => return power(left, right),
    };
    Ok(Value::Float(result))
}

/// Quotient and rest of a division that rounds down.
fn floored(left: f64, right: f64) -> (f64, f64) {
    let mut rest = left % right;
    let mut quotient = (left - rest) / right;
    if rest != 0.0 {
        if (right < 0.0) != (rest < 0.0) {
            rest += right;
            quotient -= 1.0;
        }
    } else {
        rest = 0.0_f64.copysign(right);
    }
    let rounded = match quotient == 0.0 {
        true => 0.0_f64.copysign(left / right),
        false => {
            let floor = quotient.floor();
            if quotient - floor > 0.5 {
                floor + 1.0
            } else {
                floor
            }
        }
    };
    (rounded, rest)
}

fn power(left: f64, right: f64) -> Result<Value, Error> {
    if left == 0.0 && right < 0.0 {
        return Err(Error::runtime("zero cannot be raised to a negative power"));
    }
    if left < 0.0 && right.is_finite() && right.fract() != 0.0 {
        return Err(Error::unsupported("a power that is a complex number"));
    }
    let result = left.powf(right);
    match result.is_infinite() && left.is_finite() && right.is_finite() {
        true => Err(Error::runtime("the result is too large for a float")),
        false => Ok(Value::Float(result)),
    }
}
